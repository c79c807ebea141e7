"""Speed beside accuracy: scenarios, worker processes that take turns, their rows, and what is
printed of them.
"""
