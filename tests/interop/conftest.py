"""The tiny world as mmdet3d reads it and as mmdet3d itself would have written it."""
from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

VERSION = 'v1.0-trainval'


@pytest.fixture(scope='session')
def exported(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Our infos of both splits as mmdet3d v2 pickles."""
    from perception.datasets.exchange.write_v2 import export_infos
    folder = tmp_path_factory.mktemp('exported')
    for split in ('train', 'val'):
        export_infos(tiny_world / 'infos' / VERSION, split, folder / f'{split}.pkl')
    return {split: folder / f'{split}.pkl' for split in ('train', 'val')}


def _their_tool(name: str):
    """A converter of mmdet3d, which its wheel keeps beside the package."""
    import mmdet3d
    path = Path(mmdet3d.__file__).parent / '.mim' / 'tools' / 'dataset_converters' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(f'mmdet3d_{name}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def written_by_mmdet3d(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pickles of the validation split, made from the same tables by mmdet3d's own converters: {'v1': ...,
    'v2': ...}.

    Its second converter insists on `./data/nuscenes`; a folder of links to the world's parts keeps the world
    clean.
    """
    folder = tmp_path_factory.mktemp('theirs')
    root = folder / 'data' / 'nuscenes'
    root.mkdir(parents=True)
    for part in tiny_world.iterdir():
        (root / part.name).symlink_to(part)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _their_tool('nuscenes_converter').create_nuscenes_infos(str(root), 'nuscenes', VERSION, max_sweeps=2)
        v1 = root / 'nuscenes_infos_val.pkl'
        (folder / 'v2').mkdir()
        _their_tool('update_infos_to_v2').update_nuscenes_infos(str(v1), str(folder / 'v2'))
    return {'v1': v1, 'v2': folder / 'v2' / v1.name}
