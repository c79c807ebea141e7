"""Where the time of one image goes, in a process of its own."""
