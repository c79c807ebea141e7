"""The torch island: from a data folder to a run folder. Needs the [train] extra."""
