"""A model file → answers, on the provider that was asked for."""
