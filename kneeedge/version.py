"""The version of kneeedge."""

__version__ = "0.1.0"
