"""An interrupted test that is started again: who goes through the model, whose results count, and that no
score changes."""
from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist
from mmengine.dataset import DefaultSampler
from torch.utils.data import DataLoader

from perception.core.selection import spread
from perception.evaluation.errors import ResultError
from perception.evaluation.metrics import MultiTaskMetric
from perception.evaluation.storage.progress import Progress
from perception.evaluation.storage.records import record_to_arrays
from perception.evaluation.storage.results import ResultStore
from perception.evaluation.storage.resume import Remaining, describe_run, resume_test
from perception.evaluation.storage.summaries import SummaryStore, to_summary
from perception.evaluation.suite import MetricSuite
from tests.ranks import run_ranks

RUN = {'checkpoint': 'a', 'engine': 'torch fp32'}
NOISE = 0.4


def moments() -> Any:
    """The made drive of `test_metrics.py`, which lies one folder up."""
    import importlib.util
    name = 'made_drive'
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / 'test_metrics.py')
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


class Drive:
    """A dataset of (frame, truth) pairs that knows its tokens and labels."""

    def __init__(self, count: int) -> None:
        self.pairs = moments().MOMENTS[:count]
        self.tokens = [frame.token for frame, _ in self.pairs]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Any:
        return self.pairs[index]

    def annotations_of(self, token: str) -> Any:
        return self.pairs[self.tokens.index(token)][1]


class FakeRunner:
    """As much of a Runner as a test needs; its model is the truth moved by noise, and counts what it is
    asked."""

    seed = 0

    def __init__(self, results: Path | None, count: int = 5, sampler: Any = None, **options: Any) -> None:
        self.asked: list[str] = []
        self.sampler = sampler
        self.cfg = SimpleNamespace(test_dataloader={})
        metric = MultiTaskMetric(results_dir=results, options={'occupancy': {'rays': False}}, **options)
        self.test_loop = SimpleNamespace(dataloader=self.build_dataloader({'dataset': Drive(count)}),
                                         evaluator=SimpleNamespace(metrics=[metric]))

    def build_dataloader(self, loader: dict, seed: int | None = None) -> DataLoader:
        sampler = self.sampler(loader['dataset']) if self.sampler else None
        return DataLoader(loader['dataset'], batch_size=1, sampler=sampler, collate_fn=lambda pairs: pairs[0])

    def run(self, stop_after: int | None = None) -> dict[str, float]:
        metric, loader = self.test_loop.evaluator.metrics[0], self.test_loop.dataloader
        for frame, truth in loader:
            if len(self.asked) == stop_after:
                raise KeyboardInterrupt
            self.asked.append(frame.token)
            metric.process({'data_samples': [truth]}, [moments().perfect(frame, truth, NOISE)])
        return metric.evaluate(len(loader.dataset))


def start(results: Path | None, run: dict = RUN, overwrite: bool = False, stop_after: int | None = None,
          **options: Any) -> tuple[str, list[str], dict[str, float] | None]:
    """Start a test; what was said, which samples went through the model, the scores."""
    runner = FakeRunner(results, **options)
    said, scores = resume_test(runner, run, overwrite), None
    try:
        scores = runner.run(stop_after)
    except KeyboardInterrupt:
        pass
    return said, runner.asked, scores


def test_a_stopped_test_goes_on_and_gives_the_same_scores(tmp_path: Path) -> None:
    _, asked, whole = start(tmp_path / 'whole')
    assert asked == [f'sample0{i}' for i in range(5)]
    said, asked, scores = start(tmp_path / 'parts', stop_after=2)
    assert asked == ['sample00', 'sample01'] and scores is None and said == '5 samples go through the model'
    said, asked, scores = start(tmp_path / 'parts')
    assert asked == ['sample02', 'sample03', 'sample04'] and json.dumps(scores) == json.dumps(whole)
    assert '2 of 5 samples have a result' in said and '3 go through the model' in said
    for name in ('results_nusc.json', 'lanes.json', 'metrics.json'):
        assert (tmp_path / 'parts' / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()
    said, asked, scores = start(tmp_path / 'parts')
    assert asked == [] and json.dumps(scores) == json.dumps(whole)
    assert start(tmp_path / 'parts', overwrite=True)[1] == [f'sample0{i}' for i in range(5)]


def test_samples_of_another_interrupted_run_are_refused(tmp_path: Path) -> None:
    start(tmp_path, stop_after=2)
    other = {**RUN, 'checkpoint': 'b'}
    with pytest.raises(
        ResultError, match=r'2 samples of another, interrupted run lie here \(different: checkpoint\)'
    ):
        start(tmp_path, other)
    assert len(ResultStore(tmp_path).tokens()) == 2
    said, asked, _ = start(tmp_path, other, overwrite=True)
    assert len(asked) == 5 and '2 stored samples discarded, of another run (checkpoint)' in said


def test_finished_results_of_another_run_make_place(tmp_path: Path) -> None:
    start(tmp_path)
    said, asked, _ = start(tmp_path, {**RUN, 'engine': 'openvino bf16'}, stop_after=1)
    assert '5 stored samples discarded, of another run (engine)' in said and len(asked) == 1
    assert ResultStore(tmp_path).tokens() == ['sample00'] and not (tmp_path / 'metrics.json').exists()


def test_samples_of_no_known_run_are_refused(tmp_path: Path) -> None:
    frame, truth = moments().MOMENTS[0]
    ResultStore(tmp_path).write(moments().perfect(frame, truth))
    with pytest.raises(ResultError, match='no run.json says which run they are of'):
        start(tmp_path)
    (tmp_path / 'run.json').write_text('{')
    with pytest.raises(ResultError, match='run.json: damaged'):
        start(tmp_path)


def test_results_without_grids_cannot_be_gone_on_with(tmp_path: Path) -> None:
    start(tmp_path, stop_after=2, write_grids=False)
    assert len(start(tmp_path, write_grids=False)[1]) == 5
    start(tmp_path / 'boxes', stop_after=2, write_grids=False, tasks=('detection',))
    assert len(start(tmp_path / 'boxes', write_grids=False, tasks=('detection',))[1]) == 3
    assert 'no results are kept' in start(None)[0]


def test_what_a_run_is(tmp_path: Path) -> None:
    weights, network = tmp_path / 'a.pth', tmp_path / 'network.onnx'
    weights.write_bytes(b'1')
    loader = dict(
        batch_size=1, num_workers=0,
        dataset=dict(root=str(tmp_path), split='val', pipeline=[dict(type='Resize')]))
    config = dict(model=dict(type='X'), test_dataloader=loader)
    first = describe_run(config, weights, [network], engine='torch fp32')
    assert first == describe_run(
        {**config, 'test_dataloader': {**loader, 'batch_size': 4, 'num_workers': 2}}, weights, [network],
        engine='torch fp32')

    def changed(found: dict) -> list[str]:
        return [name for name in first if first[name] != found[name]]
    corrupted = dict(root=str(tmp_path), split='val', pipeline=[dict(type='Corrupt'), dict(type='Resize')])
    assert changed(
        describe_run(
            {**config, 'test_dataloader': {**loader, 'dataset': corrupted}}, weights, [network],
            engine='torch fp32')
    ) == ['data configuration']
    assert changed(
        describe_run({**config, 'model': dict(type='Y')}, weights, [network], engine='torch bf16')
    ) == ['model configuration', 'engine']
    weights.write_bytes(b'2')
    network.write_bytes(b'graph')
    assert changed(describe_run(config, weights, [network], engine='torch fp32')) == ['checkpoint', 'network']


def test_spread_over_a_split() -> None:
    assert spread(10, 2) == [2, 7]
    assert spread(10, 3) == [1, 5, 8]
    assert spread(4, None) == spread(4, 9) == [0, 1, 2, 3]
    assert all(len(set(spread(97, n))) == n and max(spread(97, n)) < 97 for n in range(1, 98))


def test_only_chosen_samples_count() -> None:
    rest = Remaining.of(['a', 'b', 'c', 'd'], [0, 2, 3], lambda: ['d', 'b', 'x'])
    assert rest == Remaining([0, 2], ['d']) and rest.of_this_process() == ['d']
    assert Remaining([], []).of_this_process() == []

    # a model with a memory goes through a whole drive again where one of its frames is missing
    drives = Remaining.of(['a', 'b', 'c', 'd'], [0, 1, 2, 3], lambda: ['a', 'b', 'c'], [[0, 2], [1, 3]])
    assert drives == Remaining([1, 3], ['a', 'c'])


def test_a_summary_comes_back_from_disk_to_the_last_bit(tmp_path: Path) -> None:
    suite = MetricSuite(options={'lanes': {'ranges': ('60x30', '100x50')}})
    store = SummaryStore(tmp_path)
    made = [suite.summarise(moments().perfect(*pair, NOISE), pair[1]) for pair in moments().MOMENTS[:3]]
    for summary in made:
        store.write(summary)
    back = [store.read(token) for token in store.tokens()]
    assert json.dumps(suite.report(back).metrics) == json.dumps(suite.report(made).metrics)
    for a, b in zip(made, back, strict=True):
        one, two = record_to_arrays(a), record_to_arrays(b)
        assert list(one) == list(two) and all(
            np.array_equal(one[n], two[n], equal_nan=one[n].dtype.kind == 'f') for n in one
        )
        assert [one[n].dtype for n in one] == [two[n].dtype for n in one]
    bare = suite.summarise(moments().perfect(*moments().MOMENTS[0]), None)
    again = to_summary(record_to_arrays(bare))
    assert list(again.parts) == ['detection'] and again.parts['detection'].truth is None


def test_a_damaged_summary_is_named(tmp_path: Path) -> None:
    (tmp_path / 'samples').mkdir()
    (tmp_path / 'samples' / 'x.npz').write_bytes(b'PK\x03\x04')
    with pytest.raises(ResultError, match='x.npz: damaged summary of sample x'):
        SummaryStore(tmp_path).read('x')


def test_time_left_by_the_time_per_sample() -> None:
    now, lines = [0.0], []
    progress = Progress(samples=10, report=lines.append, every_s=30, clock=lambda: now[0])
    progress.rows = 3
    progress.row('fog 1', missing=6, stored=4)
    assert progress.time_left() == 'time left not known yet'
    for _ in range(6):
        now[0] += 10
        progress.after_test_iter(None, 0, outputs=[None])
    assert lines == ['fog 1: 4 samples were evaluated before the run was stopped, 6 left',
                     'row 1 of 3 to run, fog 1: 7 of 10 samples, 10.00 s a sample, about 4 min left',
                     'row 1 of 3 to run, fog 1: 10 of 10 samples, 10.00 s a sample, about 3 min left']
    progress.row('fog 2', missing=10, stored=0)
    assert progress.time_left() == '10.00 s a sample, about 3 min left'


def go_on(folder: Path) -> None:
    """What one of two processes does of the interrupted test."""
    dist.init_process_group('gloo')
    found = start(folder / 'parts', sampler=lambda data: DefaultSampler(data, shuffle=False, seed=0))
    (folder / f'rank{dist.get_rank()}.json').write_text(json.dumps(found))


def test_two_processes_go_on_like_one(tmp_path: Path) -> None:
    """Five samples, of which one process stored three: two processes share out those and the rest."""
    whole = start(tmp_path / 'whole')[2]
    start(tmp_path / 'parts', stop_after=3)
    run_ranks(go_on, tmp_path)
    found = [json.loads((tmp_path / f'rank{rank}.json').read_text()) for rank in (0, 1)]
    assert [asked for _, asked, _ in found] == [['sample03'], ['sample04']]
    assert all(json.dumps(scores) == json.dumps(whole) for _, _, scores in found)
    assert '3 of 5 samples have a result' in found[0][0] and found[0][0] == found[1][0]
