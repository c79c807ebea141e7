"""How much arithmetic an image costs."""

from kneeedge.spec import Architecture


def macs(architecture: Architecture, size: int, n_classes: int) -> int:
    """Multiply-accumulates of one image of size × size pixels, by the layers' definition.

    A 3×3 convolution of an s × s map costs s² · 9 · C_in · C_out; each block ends in a pool that halves s. Three
    input channels count, as VGG has them. VGG19's convolutions at 224²: 19.5 · 10⁹. An implementation that gets by
    with less (Winograd) may show more than the ceiling.
    """
    total, side, n_in = 0, size, 3
    for block in architecture.channels:
        for n_out in block:
            total += side * side * 9 * n_in * n_out
            n_in = n_out
        side //= 2
    if architecture.head == "gap":
        return total + n_in * n_classes
    hidden = 8 * n_in
    return total + 49 * n_in * hidden + hidden * hidden + hidden * n_classes  # 7 × 7 pooled cells
