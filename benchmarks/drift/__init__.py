"""How soon a drift of a folder's images is told, and how often one that is none."""
