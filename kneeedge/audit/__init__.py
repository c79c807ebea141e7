"""What is wrong with a data set: copies, label conflicts, leaks, shortcuts."""
