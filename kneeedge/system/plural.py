"""Counts in words."""


def counted(n: int, what: str) -> str:
    """1 image, 2 images: `what` is a noun whose plural ends in s, in the singular."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
