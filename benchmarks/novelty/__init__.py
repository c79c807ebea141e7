"""Which distance best tells the images that a network should not answer."""
