"""A trained run → a narrower one that answers alike: `kneeedge slim`.

`importance` says which channels matter, `sensitivity` what each layer's narrowing costs in answers
and `export.layer_times` what it brings in time; `allot` weighs the two, and `survey` holds all of
it. `chain` narrows a network, `refit` makes the rest do the work of what was removed, `targets` and
`distil` train it on the original's answers. `run` is the whole job, `report` what came of it,
`curve` its figure.
"""
