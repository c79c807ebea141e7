"""What an image's own pixels say of it, beside any network: sharpness, noise and tone.

The network is trained to look past them, and features deep in it mostly do.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

N_OCTAVES = 5
"from one pixel to sixteen, each of twice the length of the one before"
N_BANDS = 3
"horizontal bands, as of the network's features"
LEAST_CONTRAST = 1e-3
"of grey levels 0 to 1, a quarter of a level of 8 bits: what is fainter counts as none"
N_TEXTURES = 2 * N_BANDS * (N_OCTAVES - 1)
N_TONES = 7


def texture(image: Tensor) -> Tensor:
    """How much finer detail there is beside coarser: (N, N_TEXTURES) of grey (N, 1, S, S), 0 to 1.

    Of each octave the mean difference of neighbours, down and across, in each band; the logarithm
    of each over the next octave's. Blur and coarse pixels take the finest away, noise adds to it;
    contrast, brightness, mirroring and the polarity change none of them.
    """
    octaves = []
    for _ in range(N_OCTAVES):
        octaves.append(torch.log(_differences(image) + LEAST_CONTRAST))
        image = F.avg_pool2d(image, 2)
    ratios = [octaves[k] - octaves[k + 1] for k in range(N_OCTAVES - 1)]
    return torch.cat(ratios, dim=1)


def _differences(image: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, down and across, in each band: (N, 2 · N_BANDS)."""
    down = (image[:, :, 1:] - image[:, :, :-1]).abs()
    across = (image[:, :, :, 1:] - image[:, :, :, :-1]).abs()
    return torch.cat([band_means(down), band_means(across)], dim=1)


def band_means(values: Tensor) -> Tensor:
    """(N, N_BANDS · C) means of values (N, C, H, W) over horizontal bands."""
    height = values.shape[2]
    edges = [round(i * height / N_BANDS) for i in range(N_BANDS + 1)]
    bands = [values[:, :, edges[i] : edges[i + 1]] for i in range(N_BANDS)]
    return torch.cat([band.mean(dim=(2, 3)) for band in bands], dim=1)


def tone(image: Tensor) -> Tensor:
    """(N, N_TONES) of grey (N, 1, S, S), 0 to 1: polarity, layout, brightness and contrast.

    Of each band how much brighter its middle third is than its sides, and how much brighter each
    band is than the next, in deviations of the image; its mean, and the logarithm of its deviation.
    """
    mean = image.mean(dim=(1, 2, 3))[:, None]
    deviation = ((image - mean[:, :, None, None]) ** 2).mean(dim=(1, 2, 3)).sqrt()[:, None]
    width = image.shape[3]
    left, right = round(width / 3), round(2 * width / 3)
    bands = band_means(image)
    middle = band_means(image[:, :, :, left:right])
    sides = (band_means(image[:, :, :, :left]) + band_means(image[:, :, :, right:])) / 2
    spread = deviation + LEAST_CONTRAST
    layout = torch.cat([middle - sides, bands[:, 1:] - bands[:, :-1]], dim=1) / spread
    return torch.cat([layout, mean, spread.log()], dim=1)
