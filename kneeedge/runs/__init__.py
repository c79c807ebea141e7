"""The run folder and all its files. No torch."""
