"""The study against peers: the same weights and the same images through what a user would run in
kneeedge's place.
"""
