"""Speed beside accuracy: scenarios, workers that take turns, rows, and what is printed of them."""
