"""Files and folders → the network's input: the one pixel path."""
