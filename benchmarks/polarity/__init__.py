"""Which test tells inverted knees."""
