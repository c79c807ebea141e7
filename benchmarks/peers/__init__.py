"""The study against peers: the same weights and images through what a user would run instead."""
