"""The table of the full configurations in docs/systems.md: every count in it is counted again, every configuration is in it."""
from __future__ import annotations

import re
from pathlib import Path

import pytest
from torch import nn

from perception.registry import MODELS, without_pretrained
from perception.training.runner import read_config

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / 'docs' / 'systems.md').read_text(encoding='utf-8')
TABLE = dict(re.findall(r'^\| `(nuscenes_\w+)` \| (\d.*?) \| [^|]+ \|$', PAGE, re.MULTILINE))


def millions(part: nn.Module | None) -> str:
    return f'{sum(p.numel() for p in part.parameters()) / 1e6:.2f}' if part is not None else '0.00'


def row(name: str) -> str:
    """What the table should say of a configuration."""
    model = MODELS.build(without_pretrained(read_config(ROOT / 'configs' / f'{name}.py').model.to_dict()))
    parts = (model, model.fuser, model.bridge, model.heads)
    return ' | '.join([str(len(model.heads)), *(millions(part) for part in parts)])


@pytest.mark.parametrize('name', TABLE)
def test_the_page_counts_right(name: str) -> None:
    assert TABLE[name] == row(name)


def test_every_system_is_counted() -> None:
    systems = {p.stem for kind in ('metabev', 'm3net', 'ctab', 'cop') for p in (ROOT / 'configs').glob(f'nuscenes_{kind}*.py')}
    assert systems - {'nuscenes_metabev_switched'} <= set(TABLE)  # switched: the same model, trained otherwise
