"""Images to a network's input in one pass over the pixels."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ..core.contracts import Batch
from ..preprocessor import BatchPreprocessor


def normalised(batch: Batch, preprocessor: object) -> Batch:
    """The batch as `BatchPreprocessor` makes it; uint8 images on a CPU are normalised by one loop."""
    # before the loop, which makes the images of absent cameras zero
    if isinstance(preprocessor, BatchPreprocessor):
        batch = preprocessor.without_outliers(batch)

    images = batch.images_BN3HW
    if _loop_applies(images, preprocessor):
        images = normalise_images(images, batch.camera_present_BN, preprocessor.mean, preprocessor.std)
        batch = replace(batch, images_BN3HW=images)
    return preprocessor({'inputs': batch})['inputs']


def _loop_applies(images: Tensor | None, preprocessor: object) -> bool:
    if type(preprocessor) is not BatchPreprocessor or images is None or images.dtype != torch.uint8:
        return False
    return images.device.type == 'cpu' and preprocessor.mean.device.type == 'cpu'


def normalise_images(images_BN3HW: Tensor, present_BN: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise uint8 RGB as `BatchPreprocessor.normalise`: `(value - mean) / std`, zero for absent cameras.

    A table of the 256 values of each channel replaces the arithmetic.

    Returns:
        Contiguous float32.
    """
    values = torch.arange(256, dtype=torch.float32)
    table = ((values - mean.reshape(3, 1)) / std.reshape(3, 1)).numpy()
    normal = np.empty(images_BN3HW.shape, dtype=np.float32)
    _look_up(images_BN3HW.contiguous().numpy(), present_BN.numpy(), table, normal)
    return torch.from_numpy(normal)


@njit(cache=True, nogil=True)
def _look_up(images, present, table, normal):
    b, n, _, h, w = images.shape
    for i in range(b):
        for j in range(n):
            for c in range(3):
                if present[i, j]:
                    for y in range(h):
                        for x in range(w):
                            normal[i, j, c, y, x] = table[c, images[i, j, c, y, x]]
                else:
                    normal[i, j, c] = 0
