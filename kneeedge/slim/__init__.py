"""A trained run → a narrower one that answers alike: `kneeedge slim`.

`importance` says which channels matter, `sensitivity` what each layer's narrowing costs in answers
and `layer_times` what it brings in time; `allot` weighs the two, and `survey` holds all of it.
`chain` narrows a network, `refit` makes the channels that stay do the work of those that went, and
`distil` trains it on the original's answers. `run` is the whole job, `curve` its figure.
"""
