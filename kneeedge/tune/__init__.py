"""A labelled folder → a recipe, and what searching it was worth: `kneeedge tune`.

`parts` cuts the images, `space` is what is searched, `pool` the images with their cached
activations; `storage` holds the trials, `trial` trains one, `search` one after the other, `confirm`
says what the best is worth; `figures` draws, `run` is the whole job.
"""
