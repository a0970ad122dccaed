"""Who may import whom: every import of the package is read and compared with the table
(perception/README.md)."""
from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'perception'

BASICS = {'core'}
TASKS = ('detection', 'map_segmentation', 'occupancy', 'lanes', 'reconstruction')
SHARED_BY_HEADS = {
    'heads.averaging', 'heads.base', 'heads.bridge', 'heads.layers', 'heads.losses', 'heads.matching',
    'heads.queried', 'heads.resample'}
# the registry is where a class says its name; every room may know it, but it knows no room that could do work
ALLOWED: dict[str, set[str]] = {
    'core': set(), 'registry': BASICS, 'datasets': BASICS | {'registry'}, 'world': BASICS,
    'bev': BASICS | {'registry'}, 'fusion': BASICS | {'bev.ops', 'bev.records', 'registry'},
    'heads': BASICS | {'bev.ops', 'registry'},
    **{f'heads.{task}': BASICS | SHARED_BY_HEADS | {'bev.ops', 'registry'} for task in TASKS},
    'preprocessor': BASICS | {'registry', 'bev.ops.memory_order'},
    'model': BASICS | {
        'registry', 'bev.base', 'bev.records', 'bev.ops.norms', 'bev.ops.widths',
        'fusion.base', 'fusion.memory.base', 'fusion.memory.streams', 'heads.base', 'heads.bridge'},
    'averaging': BASICS | {'model', 'heads.base', 'heads.averaging', 'datasets.transforms'},
    'slimmable': BASICS | {'registry', 'model', 'bev.ops.blocks', 'bev.ops.widths'},
    'training': BASICS | {
        'registry', 'model', 'slimmable', 'preprocessor', 'bev.ops.norms', 'bev.ops.widths'},
    'recordings': BASICS | {'visualization.palette'},
    'evaluation': BASICS | {'registry'}, 'visualization': BASICS | {'registry'}, 'tracking': BASICS,
    'deployment': BASICS | {'registry', 'model', 'preprocessor', 'bev', 'heads', 'recordings'},
    'doctor': BASICS | {'datasets'}}
# a bridge's subject is that there are several tasks, so it may look into their folders
BRIDGES = {'m3net'}
# the console command, and tools that are imported instead of called
EVERYONE = {'api', 'api_arrays', 'cli', 'interop', '__init__', '__main__'}
HEAVY = {
    'nuscenes', 'shapely', 'matplotlib', 'mmdet3d', 'mmdet', 'mmcv', 'tensorrt', 'rerun', 'spconv', 'timm',
    'torchvision', 'rosbags', 'mcap', 'zstandard', 'lz4'}


def imported_modules(path: Path, source: str | None = None) -> list[tuple[str, ...]]:
    """Dotted names that a file imports, relative ones made absolute; `from a import b` gives a.b, whatever b
    is."""
    package = ('perception', *path.relative_to(PACKAGE).parts[:-1])
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8') if source is None else source)):
        if isinstance(node, ast.Import):
            found += [tuple(alias.name.split('.')) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split('.')) if node.module else ()
            found += [(*base, alias.name) for alias in node.names]
    return found


def room_of(path: Path) -> str:
    """'bev', 'heads.lanes', 'model', ...: the row of the table a file belongs to."""
    first, *rest = path.relative_to(PACKAGE).with_suffix('').parts
    return f'heads.{rest[0]}' if first == 'heads' and len(rest) > 1 else first


def violations(path: Path, source: str | None = None) -> list[str]:
    """Imports of a file that its room may not have, in words."""
    room, bad = room_of(path), []
    if room in EVERYONE:
        return bad
    task = room.removeprefix('heads.')
    allowed = ALLOWED['heads'] | SHARED_BY_HEADS | {'heads'} if task in BRIDGES else ALLOWED.get(room)
    if allowed is None:
        return [f'{path.relative_to(PACKAGE)}: the room {room!r} has no row in the table']
    for name in imported_modules(path, source):
        if name[0] != 'perception' or len(name) < 2:
            continue
        parts = name[1:]
        own = (
            '.'.join(parts).startswith(room + '.')
            or (room == 'heads' and parts[0] == 'heads')
            or parts[0] == room
        )
        if not own and not any('.'.join(parts[:depth]) in allowed for depth in (1, 2, 3)):
            place, names = path.relative_to(PACKAGE), ', '.join(sorted(allowed))
            bad.append(f'{place} imports {".".join(parts)}; {room} may import {names}')
    return bad


FILES = sorted(PACKAGE.rglob('*.py'))


def test_every_file_keeps_to_its_rooms_row():
    assert len(FILES) > 100
    assert [line for path in FILES for line in violations(path)] == []


@pytest.mark.parametrize('place, source, message', [
    ('datasets/x.py', 'from ..model import MultiTaskPerception', 'imports model.MultiTaskPerception'),
    ('world/scene/x.py', 'from ...bev.lift import lift', 'imports bev.lift'),
    ('world/x.py', 'from ..datasets.reading import infos', 'imports datasets.reading'),
    ('datasets/x.py', 'from ..world.scene import scene', 'imports world.scene'),
    ('bev/ops/x.py', 'from ...datasets import collate', 'imports datasets.collate'),
    ('bev/x.py', 'import perception.heads.lanes', 'imports heads.lanes'),
    ('fusion/x.py', 'from ..bev.camera import CameraEncoder', 'imports bev.camera'),
    ('heads/lanes/x.py', 'from ..detection.nms import circle_nms', 'imports heads.detection'),
    ('heads/lanes/x.py', 'def f():\n    from ...datasets import io', 'imports datasets.io'),
    ('evaluation/x.py', 'from perception.heads.detection import decode', 'imports heads.detection'),
    ('model.py', 'from .bev.camera import CameraEncoder', 'imports bev.camera'),
    ('core/contracts/sample.py', 'from ...datasets import io', 'imports datasets.io'),
    ('core/x.py', 'from ..registry import MODELS', 'imports registry.MODELS'),
    ('training/x.py', 'from .. import evaluation', 'imports evaluation'),
    ('visualization/x.py', 'from ..api import load_model', 'imports api'),
    ('training/x.py', 'from ..cli import run_verb', 'imports cli'),
    ('kitchen/x.py', '', "the room 'kitchen' has no row")])
def test_a_forbidden_import_is_found(place, source, message):
    assert any(message in line for line in violations(PACKAGE / place, source)), violations(
        PACKAGE / place, source
    )


@pytest.mark.parametrize(
    'place, source',
    [
        ('fusion/x.py', 'from ..bev.ops.blocks import conv_bn_relu'),
        (
            'heads/lanes/x.py',
            'from ..base import TaskHead\nfrom .targets import build_targets\n'
            'from ...core.grid import BEVGrid',
        ),
        ('heads/m3net/x.py', 'from ..map_segmentation.targets import MapTargets'),
        ('model.py', 'from .heads.base import TaskHead\nimport torch\nfrom mmengine.model import BaseModel'),
        ('evaluation/x.py', 'from .boxes import corners\nimport perception.core.contracts'),
        ('api.py', 'from .datasets import io'),
        ('cli/x.py', 'from ..deployment import frames'),
    ],
)
def test_an_allowed_import_is_not(place, source):
    assert violations(PACKAGE / place, source) == []


def test_no_module_imports_the_tools():
    doors = {('perception', 'api'), ('perception', 'cli'), ('tools',), ('tests',), ('configs',)}
    found = [
        f'{path.relative_to(PACKAGE)}: {".".join(name)}'
        for path in FILES
        if path not in (PACKAGE / '__init__.py', PACKAGE / '__main__.py') and room_of(path) != 'cli'
        for name in imported_modules(path)
        if name[:2] in doors or name[:1] in doors
    ]
    assert found == []


def test_heavy_packages_are_imported_inside_functions_only():
    """The model, the training on prepared infos and the engines run where these are absent."""
    found = []
    for path in FILES:
        for node in ast.parse(path.read_text(encoding='utf-8')).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
                [node.module or ''] if isinstance(node, ast.ImportFrom) and not node.level else []
            found += [f'{path.relative_to(PACKAGE)}: {name}' for name in names if name.split('.')[0] in HEAVY]
    assert found == []


def test_the_readme_has_a_row_for_every_room():
    text = (PACKAGE / 'README.md').read_text(encoding='utf-8')
    rooms = {p.relative_to(PACKAGE).parts[0].removesuffix('.py') for p in FILES}
    rooms -= {'__init__', '__main__'}
    missing = [room for room in sorted(rooms) if f'`{room}`' not in text and f'`{room}/' not in text]
    assert missing == []
