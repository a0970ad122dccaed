"""Published weights of a classifier into a backbone that has its names."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from ...core.checkpoint import read_checkpoint

# follow from the architecture; some files keep them beside the weights
_NO_WEIGHTS = ('num_batches_tracked', 'relative_position_index')


def load_backbone_weights(
    module: nn.Module,
    path: str,
    stages: Sequence[str],
    renamed: Mapping[str, str] | None = None,
    new: Sequence[str] = (),
) -> None:
    """Load a published state dict; a classifier (`fc.*`) and stages that were not built are left out.

    Args:
        module: the backbone.
        path: the file, read with `weights_only`.
        stages: prefixes of what was built; a file that has more below one of them is of a deeper network.
        renamed: {prefix in the file: prefix here}, where they differ.
        new: our parameters that the file does not have; they stay as they are.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or a parameter is missing, too many, has another shape or is no
            finite number.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'pretrained: no file {path}')
    published = read_checkpoint(path)['state_dict']
    loaded = {
        _renamed(name, renamed or {}): value
        for name, value in published.items() if not name.endswith(_NO_WEIGHTS)}

    expected = {name: value for name, value in module.state_dict().items() if not name.endswith(_NO_WEIGHTS)}
    missing = [name for name in expected if name not in loaded and name not in new]
    too_many = [name for name in loaded if name not in expected and name.startswith(tuple(stages))]
    misshapen = [
        f'{name}: expected {tuple(expected[name].shape)}, found {tuple(value.shape)}'
        for name, value in loaded.items()
        if name in expected and value.shape != expected[name].shape
    ]
    if missing or misshapen or too_many:
        raise ValueError(
            f'{path} does not fit {type(module).__name__}: {len(missing)} parameters missing {missing[:5]}, '
            f'{len(misshapen)} of another shape {misshapen[:5]}, {len(too_many)} of a deeper network '
            f'{too_many[:5]}')
    module.load_state_dict({name: loaded[name] for name in expected if name in loaded}, strict=False)


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    for theirs, ours in prefixes.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
