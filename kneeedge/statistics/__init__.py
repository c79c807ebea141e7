"""Arrays in, estimates out; knows no model."""
