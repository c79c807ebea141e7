"""Many machines: the folder run's rows, by Ray Data."""
