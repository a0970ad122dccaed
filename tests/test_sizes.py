"""The full configurations: counts of parameters, and one run at full size on tensors without values.

Every count in docs/systems.md is counted again.
"""
from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from perception.core.config import read_config
from perception.registry import MODELS, without_pretrained
from tests.helpers import make_batch

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / 'docs' / 'systems.md').read_text(encoding='utf-8')
TABLE = dict(re.findall(r'^\| `(nuscenes/\w+)` \| (\d.*?) \|$', PAGE, re.MULTILINE))


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


@pytest.fixture(scope='module')
def full_batch():
    """Six images of 256 x 704, a cloud and five radars."""
    radar = torch.rand(300, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [50, 50, 2, 5, 5, 20, 0.5, 4.99]
    )
    radar[:, 7].floor_()
    return replace(make_batch(1, 6, (256, 704), 5000), radar_points=(radar,),
                   radar_present_BR=torch.ones(1, 5, dtype=torch.bool))


@pytest.mark.parametrize('name', TABLE)
def test_outputs_have_the_published_shapes(name: str, full_batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """MetaBEV and M3Net have 180 x 180 cells, the others 128 x 128; map and voxels as in their protocols."""
    config = read_config(ROOT / 'configs' / f'{name}.py')
    model = MODELS.build(without_pretrained(config.model.to_dict())).eval()
    inputs = model.prepare(model.data_preprocessor({'inputs': full_batch, 'data_samples': None})['inputs'])

    # plain operators: compiled loops want values
    monkeypatch.setattr(torch.compiler, 'is_exporting', lambda: True)
    shapeless = FakeTensorMode(allow_non_fake_inputs=True)
    with torch.no_grad(), shapeless:
        raw = model.network({key: shapeless.from_tensor(tensor) for key, tensor in inputs.items()})

    wide = 'metabev' in name or name in ('nuscenes/m3net_transformer', 'nuscenes/m3net_mamba')
    if name == 'nuscenes/m3net_queries':
        of_queries = {'logits': (200, 10), 'box': (200, 10), 'attribute': (200, 8), 'cell': (200, 2),
                      'first_score': (200, 10)}
        shapes = {key: tuple(value.shape[1:]) for key, value in raw['detection'].items()}
        assert shapes == of_queries and raw['map_segmentation']['logits'].shape[1:] == (6, 200, 200)
        assert raw['occupancy']['logits'].shape[1:] == (16 * 18, 100, 100)
        return
    cells = 180 if wide else 128
    groups = 1 if name == 'nuscenes/ctab' else 6
    expected = {
        'detection': {
            'heatmap': (10, cells, cells), 'box': (10 * groups, cells, cells),
            'attribute': (8 * groups, cells, cells)},
        'map_segmentation': {'logits': (7 if name == 'nuscenes/ctab' else 6, 200, 200)},
        'occupancy': {'logits': (16 * 18, 200, 200)},
        'lanes': {'logits': (70, 4), 'points': (70, 20, 2)},
    }
    shapes = {
        task: {key: tuple(value.shape[1:]) for key, value in outputs.items()} for task, outputs in raw.items()
    }
    assert shapes == {task: expected[task] for task in model.heads}


def test_every_system_is_counted() -> None:
    systems = {f'nuscenes/{p.stem}' for kind in ('metabev', 'm3net', 'ctab', 'cop')
               for p in (ROOT / 'configs' / 'nuscenes').glob(f'{kind}*.py')}
    # switched: the same model, trained otherwise
    assert systems - {'nuscenes/metabev_switched'} <= set(TABLE)
