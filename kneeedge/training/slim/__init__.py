"""A trained run → a narrower one that answers alike: `kneeedge slim`.

`chain` narrows a network and keeps its weights; `importance` says which channels matter, `sensitivity` what each
layer's narrowing costs in answers, `export.layer_times` what it brings in time, `widths` weighs the two; `refit` makes
the rest do the work of what was removed, `distil` trains it on the original's answers, `run` is the whole job.
"""
