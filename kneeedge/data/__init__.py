"""Labelled folders, splits and groups."""
