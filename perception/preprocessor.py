"""The last step before the model: a batch goes to the device, its images become normalised floats."""
from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from .bev.ops.memory_order import map_format
from .core.contracts import Batch
from .core.contracts.limits import within_limits
from .registry import MODELS

IMAGENET_MEAN_RGB = (123.675, 116.28, 103.53)
IMAGENET_STD_RGB = (58.395, 57.12, 57.375)


@MODELS.register_module()
class BatchPreprocessor(BaseDataPreprocessor):
    """Moves a batch to the model's device and normalises its uint8 RGB images.

    What is out of range in it is left out first (`core.contracts.limits`). Their memory order is the device's
    (`bev.ops.memory_order`).

    Args:
        mean: per channel in 0..255 (ImageNet's by default).
        std: per channel in 0..255.
        non_blocking: as for `Tensor.to`.
        channels_last: changes nothing; configurations of older versions, also beside their exports, have it.

    Attributes:
        left_out: how many points and cameras were out of range so far.

    Raises:
        ValueError: not three means and three positive deviations.
    """

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN_RGB,
        std: Sequence[float] = IMAGENET_STD_RGB,
        non_blocking: bool = False,
        channels_last: bool = True,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(
                f'BatchPreprocessor: expected three means and three positive deviations, found {mean}, {std}'
            )
        self.left_out: Counter = Counter()
        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """The data that mmengine gives, `{'inputs': Batch, 'data_samples': list}`, ready for the model.

        `targets` beside them, which a loader made, go to the device, too. Images that are float already are
        taken as normalised.

        Raises:
            TypeError: `inputs` is not a `Batch`.
        """
        batch = data['inputs']
        if not isinstance(batch, Batch):
            raise TypeError(f"BatchPreprocessor: expected a Batch as 'inputs', found {type(batch).__name__}")

        batch = self.ready(batch)
        if batch.before:
            batch = replace(batch, before=tuple(self.ready(earlier) for earlier in batch.before))
        ready = {'data_samples': None, **data, 'inputs': batch}
        if data.get('targets') is not None:
            ready['targets'] = on_device(data['targets'], self.device)
        return ready

    def ready(self, batch: Batch) -> Batch:
        """One frame of every sample on the device, its images normalised."""
        batch = self.without_outliers(batch).to(self.device)
        images = batch.images_BN3HW
        if images is None or images.is_floating_point():
            return batch
        return replace(batch, images_BN3HW=self.normalise(images, batch.camera_present_BN))

    def without_outliers(self, batch: Batch) -> Batch:
        """The batch without what is out of range in it, which is counted.

        Warns:
            UserWarning: names the kinds.
        """
        batch, left_out = within_limits(batch)
        for kind in left_out:
            warnings.warn(f'{kind} are left out', stacklevel=3)
        self.left_out += left_out
        return batch

    def normalise(self, images_BN3HW: Tensor, present_BN: Tensor) -> Tensor:
        """uint8 RGB -> float32; the images of absent cameras are zero."""
        b, n = images_BN3HW.shape[:2]
        order = map_format(images_BN3HW.device.type)
        images = images_BN3HW.flatten(0, 1).to(torch.float32, memory_format=order)
        images = images.sub_(self.mean).div_(self.std)
        return torch.where(present_BN.flatten()[:, None, None, None], images, 0.0).unflatten(0, (b, n))


def on_device(value: Any, device: Any) -> Any:
    """Tensors, records that have a method `to`, and plain containers of them, on a device."""
    if hasattr(value, 'to'):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: on_device(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [on_device(item, device) for item in value]
        return type(value)(*items) if hasattr(value, '_fields') else type(value)(items)
    return value
