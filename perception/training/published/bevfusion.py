"""BEVFusion's camera branch in our form: its neck, and the depth network that reads LiDAR depths.

Its layers have biases before their norms, ours have none: subtracted from the running mean, they give the
same maps. Depth and context are one layer there and two here.
"""
from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from .rules import Rule

NECK = 'encoders.camera.neck.'
DEPTH = 'encoders.camera.depth_net.'
LIFT_ALONE = (r'encoders\.camera\.depth_net\.(?:gate|height)\..*',)
"""What our depth network may have beside it: weights by calibration, and heights."""

_LIFT = r'encoders\.camera\.vtransform\.'
_BIASED = re.compile(_LIFT + r'(dtransform|depthnet)\.(\d+)\.bias')
_LAST = 'encoders.camera.vtransform.depthnet.6.'


def camera_rules() -> list[Rule]:
    """Neck and depth network; the convolutions behind the lift have no counterpart."""
    theirs = r'encoders\.camera\.neck\.'
    return [
        *(Rule(rf'{theirs}{name}_convs\.(\d)\.{layer}\.(\w+)', f'{NECK}{ours}.\\1.{i}.\\2')
          for name, ours in (('lateral', 'lateral'), ('fpn', 'output'))
          for i, layer in enumerate(('conv', 'bn'))),
        Rule(_LIFT + r'dtransform\.(\d\.\w+)', DEPTH + r'lidar.\1'),
        Rule(_LIFT + r'depthnet\.([0-5]\.\w+)', DEPTH + r'shared.\1'),
        Rule(_LIFT + r'depthnet\.6\.(depth|context)\.(\w+)', DEPTH + r'\1.\2')]


def in_our_form(weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors, its biases taken into the norms behind them and its last layer in two.

    Args:
        weights: by their names.
        state: of the model, whose depth bins say where the last layer is parted.
    """
    found = dict(weights)
    for name in weights:
        match = _BIASED.fullmatch(name)
        mean = f'{name[:match.start(2)]}{int(match[2]) + 1}.running_mean' if match else ''
        if mean in weights and weights[mean].shape == weights[name].shape:
            found[mean] = weights[mean] - found.pop(name)

    bins = state.get(DEPTH + 'depth.weight')
    for kind in ('weight', 'bias'):
        if bins is not None and _LAST + kind in found:
            whole = found.pop(_LAST + kind)
            found[f'{_LAST}depth.{kind}'], found[f'{_LAST}context.{kind}'] = (
                whole[:len(bins)], whole[len(bins):])
    return found
