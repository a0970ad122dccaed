"""A slimmable model at the ratios that it runs at -> a plain one that is as narrow, and its files."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...core.checkpoint import kept_meta
from ...core.files import write_text, write_whole
from ...model import MultiTaskPerception
from ...registry import MODELS, without_pretrained
from ...slimmable import SlimmablePerception
from ...slimmable.layers import slim_state, slim_widths
from .prune import config_text


def narrow_model(
    config: Mapping[str, Any], model: SlimmablePerception
) -> tuple[dict[str, Any], MultiTaskPerception]:
    """Configuration and model, with weights and in evaluation, of what a slimmable model is now.

    Args:
        config: of the slimmable model.
        model: at the ratios that are wanted.
    """
    plain = {key: value for key, value in config.items() if key != 'slim'}
    plain |= {'type': 'MultiTaskPerception', 'widths': slim_widths(model)}
    narrow = MODELS.build(without_pretrained(plain))
    narrow.load_state_dict(slim_state(model, narrow.state_dict()))
    return plain, narrow.eval()


def write_narrow(
    folder: str | Path, name: str, config: Any, model: SlimmablePerception, checkpoint: Mapping[str, Any]
) -> Path:
    """Write `<name>_narrow.pth` and, last, `<name>_narrow.py`, from which the plain model is built.

    Args:
        folder: is made where it does not exist.
        name: of the configuration.
        config: of the slimmable model's training.
        model: at the ratios that are wanted.
        checkpoint: the one it was loaded from, whose classes the new one keeps.

    Returns:
        The configuration's path.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights, values = folder / f'{name}_narrow.pth', config.to_dict()
    for key in ('start_weights', 'resume', 'work_dir'):
        values.pop(key, None)
    values['model'], narrow = narrow_model(values['model'], model)
    values['load_from'] = str(weights.resolve())
    text = config_text(values, f'{name} at the widths that were chosen.')

    content = {'state_dict': narrow.state_dict(), 'meta': {**kept_meta(checkpoint), 'slimmed': name}}
    write_whole(weights, lambda file: torch.save(content, file))
    return write_text(folder / f'{name}_narrow.py', text)
