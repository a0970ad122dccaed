"""Training and testing a model that remembers: resumed to the bit, on several processes, in order alone."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from torch.utils.data import Dataset

from perception.cli.training.profile_step import batches
from perception.core.checkpoint import read_checkpoint
from perception.core.contracts import Annotations, Batch, Frame
from perception.core.geometry import make_transform
from perception.core.selection import split_draw
from perception.fusion.memory.variants import GatedMemory, MapMemory, MapQueue
from perception.registry import FUNCTIONS
from perception.training.loaders import check_order, short_clips
from perception.training.pruning.prune import prune_model
from perception.training.pruning.search import PruneOptions, calibration_losses
from perception.training.runner import PerceptionRunner
from perception.training.targets import with_targets
from tests.helpers import GRID, make_cloud, make_model
from tests.ranks import run_ranks
from tests.training.toy import equal, loader_of, plain_state, toy_config, toy_runner

LENGTHS = (5, 3, 4)


class ToyDrives(Dataset):
    """LiDAR frames of short drives, from (drive, frame) alone."""

    accepts_draws = True
    metainfo = {'root': 'toy', 'split': 'train'}

    def __init__(self) -> None:
        self.places = [(d, i) for d, n in enumerate(LENGTHS) for i in range(n)]
        self.tokens = [f'{d}-{i}' for d, i in self.places]

    def __len__(self) -> int:
        return len(self.places)

    def drives(self) -> list[list[int]]:
        return [[k for k, place in enumerate(self.places) if place[0] == d] for d in range(len(LENGTHS))]

    def follow_drives(self) -> None:
        pass

    def __getitem__(self, number: int) -> tuple[Frame, torch.Tensor]:
        draw, index = split_draw(number, len(self))
        drive, i = self.places[index]
        pose = make_transform(np.eye(3), np.array([2.0 * i, 0, 0]))
        stamp_ns = 10**9 + i * 500_000_000
        frame = Frame(self.tokens[index], stamp_ns, pose, f'drive {drive}', stream=f'{drive} {draw}')
        return frame, make_cloud(60, index)


def toy_batch(items: list[tuple[Frame, torch.Tensor]]) -> dict[str, Any]:
    """Frames and clouds as the model's input."""
    frames, clouds = zip(*items, strict=True)
    present = torch.ones(len(frames), dtype=torch.bool)
    return {'inputs': Batch(frames, lidar_points=clouds, lidar_present_B=present),
            'data_samples': [Annotations(frame.token) for frame in frames]}


FUNCTIONS.register_module('toy drives', module=toy_batch)


def make_toy(kind: type = MapMemory) -> Any:
    """A LiDAR model whose memory has something to say from the first step on."""
    torch.manual_seed(2)
    memory = kind(GRID, 16)
    torch.nn.init.normal_(memory.gate.weight, std=0.3)
    return make_model(('lidar',), memory=memory)


def drives_loader(batch_size: int) -> dict[str, Any]:
    return loader_of(
        dataset=ToyDrives(), batch_size=batch_size, collate_fn=dict(type=toy_batch),
        sampler=dict(type='StreamSampler', reset=0.2))


def runner_of(folder: Path, batch_size: int = 2, **options: Any) -> Any:
    return toy_runner(folder, model=make_toy(), train_dataloader=drives_loader(batch_size), **options)


def all_state(path: Path) -> dict[str, Any]:
    return {**plain_state(path), 'memories': read_checkpoint(path)['meta']['memories']}


@pytest.fixture(autouse=True)
def quick_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """mmengine asks compilers for their versions at every start."""
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of two passes of six steps without a break."""
    folder = tmp_path_factory.mktemp('whole')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.runner.runner.collect_env', dict)
        runner_of(folder).train()
    return folder


@pytest.mark.parametrize('step', [2, 6, 9])
def test_a_resumed_training_goes_on_with_its_memories(whole: Path, tmp_path: Path, step: int) -> None:
    runner_of(tmp_path, resume=whole / f'iter_{step}.pth').train()
    for later in (step + 1, 12):
        assert equal(all_state(tmp_path / f'iter_{later}.pth'), all_state(whole / f'iter_{later}.pth'))


def test_without_its_memories_it_would_not(whole: Path, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(whole / 'iter_3.pth')
    assert sum(map(len, checkpoint['meta']['memories'])) == 2
    spoilt = tmp_path / 'iter_3.pth'
    del checkpoint['meta']['memories']
    torch.save(checkpoint, spoilt)
    runner = runner_of(tmp_path / 'run', resume=spoilt)
    runner.train()
    assert not equal(plain_state(tmp_path / 'run' / 'iter_4.pth'), plain_state(whole / 'iter_4.pth'))
    log, = (tmp_path / 'run').glob('*/*.log')
    assert 'memories: of none processes in the checkpoint, 1 now: they start over' in log.read_text()


def test_other_places_start_the_pass_over(whole: Path, tmp_path: Path) -> None:
    """One drive at a time instead of two: the frames come in another order."""
    runner_of(tmp_path, batch_size=1, resume=whole / 'iter_3.pth').train()
    log, = tmp_path.glob('*/*.log')
    assert 'drives at once: 2 in the checkpoint, 1 now: another order' in log.read_text()
    assert '6 samples of the pass were trained on already: they come again' in log.read_text()


def train_on_two(folder: Path, resume: Path | None) -> None:
    from perception.training.launch import init_processes
    init_processes('pytorch')
    config = toy_config(
        folder, launcher='pytorch', env_cfg=dict(dist_cfg=dict(backend='gloo')), resume=resume is not None,
        load_from=None if resume is None else str(resume))
    config |= {'model': make_toy(MapQueue), 'train_dataloader': drives_loader(1)}

    # every parameter has a gradient in every step, also where nobody has a past
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, find_unused_parameters=False)
    PerceptionRunner(**config, cfg=Config({'model_wrapper_cfg': wrapper})).train()


def test_two_processes_keep_and_resume_the_memories_of_both(tmp_path: Path) -> None:
    first, second = tmp_path / 'first', tmp_path / 'second'
    run_ranks(train_on_two, first, None)
    assert [len(part) > 0 for part in all_state(first / 'iter_2.pth')['memories']] == [True, True]
    run_ranks(train_on_two, second, first / 'iter_2.pth')
    names = ('state_dict', 'memories')
    found, expected = (all_state(folder / 'iter_6.pth') for folder in (second, first))
    assert all(equal(found[name], expected[name]) for name in names)


class Loader:
    """What `check_order` looks at."""

    def __init__(self, sampler: object, clip_frames: int = 1) -> None:
        self.sampler = sampler
        self.dataset = type('Data', (), {'reading': type('Reading', (), {'clip_frames': clip_frames})})


def test_a_model_with_a_memory_refuses_any_other_order() -> None:
    from perception.datasets.drives.sampler import StreamSampler
    from perception.datasets.reading.sampler import SeededSampler
    data, memory = ToyDrives(), object()
    singles = Loader(SeededSampler(data, seed=0))
    shuffled = Loader(StreamSampler(data, seed=0, batch_size=1))
    whole_drives = Loader(StreamSampler(data, seed=0, batch_size=1, shuffle=False))

    check_order('train_dataloader', singles, None, True)
    check_order('train_dataloader', Loader(singles.sampler, 3), memory, True)
    check_order('train_dataloader', shuffled, memory, True)
    check_order('test_dataloader', whole_drives, memory, False)
    with pytest.raises(ValueError, match=r'train_dataloader.sampler: the model has a memory.*SeededSampler'):
        check_order('train_dataloader', singles, memory, True)
    with pytest.raises(ValueError, match=r'test_dataloader.sampler: .*expected StreamSampler with '
                                         r'shuffle=False.*found StreamSampler with shuffle=True'):
        check_order('test_dataloader', shuffled, memory, False)


def test_clips_that_are_shorter_than_a_memory_are_pointed_out() -> None:
    carried, queue = MapMemory(GRID, 4), MapQueue(GRID, 4, slots=2)
    pair, three = Loader(None, 2), Loader(None, 3)

    assert 'clip_frames 2 shows 1 earlier frames, MapMemory carries on' in short_clips(pair, carried)
    assert 'GatedMemory carries on' in short_clips(three, GatedMemory(GRID, 4))
    assert 'MapQueue has 2 slots' in short_clips(pair, queue)
    assert short_clips(three, queue) is None
    assert short_clips(Loader(None, 1), carried) is None and short_clips(pair, None) is None


def test_the_runner_asks(tmp_path: Path) -> None:
    loader = loader_of(dataset=ToyDrives(), collate_fn=dict(type=toy_batch))
    runner = toy_runner(tmp_path, model=make_toy(), train_dataloader=loader)
    with pytest.raises(ValueError, match='train_dataloader.sampler: the model has a memory'):
        runner.train()


def predictions(processes: int, batch_size: int) -> dict[str, np.ndarray]:
    """What every frame gets from a test that so many processes share; repeats count once."""
    from perception.datasets.drives import sampler as module
    found: dict[str, np.ndarray] = {}
    for rank in range(processes):
        data, model = ToyDrives(), make_toy().eval()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, 'get_dist_info', lambda rank=rank: (rank, processes))
            numbers = list(module.StreamSampler(data, shuffle=False, seed=0, batch_size=batch_size))
        for first in range(0, len(numbers), batch_size):
            batch = toy_batch([data[number] for number in numbers[first:first + batch_size]])['inputs']
            with torch.no_grad():
                outputs = model(batch, mode='predict')
            for output in outputs:
                value = output.map_segmentation.probabilities_6YX
                before = found.setdefault(output.frame.token, value)
                np.testing.assert_allclose(before, value, atol=1e-6)
    return found


@pytest.mark.parametrize(('processes', 'batch_size'), [(2, 1), (1, 2), (2, 2)])
def test_a_test_has_the_same_figures_however_it_is_shared(processes: int, batch_size: int) -> None:
    """Batches of several drives, and drives that are replayed to fill a place up, change nothing."""
    expected, found = predictions(1, 1), predictions(processes, batch_size)
    assert found.keys() == expected.keys() == set(ToyDrives().tokens)
    for token, value in found.items():
        np.testing.assert_allclose(value, expected[token], atol=1e-6)

    # the memory is at work in them
    model, data = make_toy().eval(), ToyDrives()
    last = max(i for i, place in enumerate(data.places) if place[0] == 0)
    alone = model(toy_batch([data[last]])['inputs'], mode='predict')[0].map_segmentation.probabilities_6YX
    assert np.abs(alone - expected[data.tokens[last]]).max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize('batch_size', [1, 3])
def test_a_profile_follows_drives(batch_size: int) -> None:
    config = ConfigDict(
        dataset=dict(type=ToyDrives), collate_fn=dict(type='toy drives'), batch_size=batch_size)
    load, again = (batches(config, followed=True) for _ in range(2))
    model, pasts, steps = make_toy().train(), 0, 2 * len(ToyDrives()) // batch_size
    for _ in range(steps):
        batch = load()
        frames = batch['inputs'].frames
        assert [frame.token for frame in frames] == [frame.token for frame in again()['inputs'].frames]
        model(**batch, mode='loss')
        with model.memory_apart():  # the past that they had
            pasts += sum(map(len, model.memory.streams[True].recall(frames)))

    # all frames of two passes but those that begin a drive or a place
    most = 2 * (len(LENGTHS) + batch_size - 1)
    assert steps * batch_size - most <= pasts < steps * batch_size
    assert set(model.memory.streams[True].resets) <= {'new drive'}


def test_pruning_guards_losses_with_the_past_of_every_batch() -> None:
    """Frames of a drive that come again and again have the same past each time, as many as there are."""
    model, items = make_toy(), ToyDrives()
    given = [
        with_targets(model.data_preprocessor(toy_batch([items[number]])), model.heads) for number in range(4)]
    model.eval()
    first = calibration_losses(model, given)
    assert torch.equal(calibration_losses(model, given), first)
    alone = torch.stack([calibration_losses(model, [one]) for one in given]).mean(0)
    assert not torch.equal(alone, first)

    batches_of_a_drive = iter([toy_batch([items[number]]) for number in range(4)])
    pruned = prune_model(
        model, lambda: next(batches_of_a_drive), 4, PruneOptions(flops=0.95, max_loss=5.0))
    assert pruned.flops[1] < pruned.flops[0] and pruned.widths
