"""A model file → a folder of static files: a page that answers in a browser it is proved on."""
