"""A count and its noun agree."""

from kneeedge.system.plural import counted


def test_one_is_singular_and_all_else_plural() -> None:
    shown = [counted(n, "image") for n in (0, 1, 2, 1000)]
    assert shown == ["0 images", "1 image", "2 images", "1,000 images"]
