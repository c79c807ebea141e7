"""Pictures of 16 bits that use fewer: they come out dark, and nothing in the file tells why."""

from collections.abc import Sequence


def depth_remark(bits: int) -> str:
    """What is odd about one picture whose pixels fit `bits` bits."""
    return f"dark: its 16-bit pixels use no more than {bits} bits (--grey-bits)"


def depth_warning(suspects: Sequence[tuple[str, int]]) -> str:
    """One line on the pictures whose 16-bit pixels fit fewer bits; empty where there are none.

    `suspects` are their names, each with the bits that its pixels fit.
    """
    if not suspects:
        return ""
    name, _ = suspects[0]
    # a dark picture may fit fewer bits than the detector gave
    bits = max(bits for _, bits in suspects)
    images = f"{len(suspects):,} image" + ("s" if len(suspects) > 1 else "")
    return (
        f"DEPTH: {images} of 16 bits a pixel, {name} the first, use no more than {bits} and come "
        f"out dark; if that is the depth they were made with, give --grey-bits {bits}, "
        "and if not, --grey-bits 16"
    )
