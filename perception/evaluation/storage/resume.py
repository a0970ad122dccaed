"""Going on with a test that was interrupted: samples that have a result do not go through the model again.

A folder of stored samples belongs to one run. `run.json` in it says what that run is: fingerprints of the
model's configuration, of the data's (with sensors and corruption), of the weights and of the engine's
network. Another run never takes its samples over.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import broadcast_object_list, get_dist_info
from torch.utils.data import Subset

from ...core.config import pipeline_transforms
from ...core.files import write_json
from ..errors import ResultError
from ..judge import Summary
from ..metrics import MultiTaskMetric
from .results import ResultStore

RUN_FILE = 'run.json'
_ABOUT_SPEED = ('batch_size', 'num_workers', 'persistent_workers', 'prefetch_factor', 'pin_memory', 'sampler')
Run = Mapping[str, str]


# ------------------------------------------------------------------------------------------------------------
# whose is it

def fingerprint(content: Any) -> str:
    """Sixteen hexadecimal digits that change with anything in a plain, nested value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def fingerprint_files(paths: Sequence[str | Path]) -> str:
    """The same for the contents of files, in this order; those that do not exist count as empty."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        if path.is_file():
            with path.open('rb') as file:
                while chunk := file.read(1 << 22):
                    digest.update(chunk)
        digest.update(b'|')
    return digest.hexdigest()[:16]


def describe_run(config: Mapping[str, Any], checkpoint: str | Path, network: Sequence[str | Path] = (),
                 **words: Any) -> dict[str, str]:
    """What must be equal for stored samples to count: by name, so that a difference can be said in words.

    Args:
        config: a test's whole configuration; what only changes its speed (batch size, workers, processes) is
            left out, and so is the judge: results can be judged anew.
        checkpoint: the weights.
        network: files of an exported network.
        words: anything else, e.g. engine, precision, sensors, corruption.
    """
    loader = {
        name: value for name, value in dict(config['test_dataloader']).items() if name not in _ABOUT_SPEED
    }
    data = dict(loader.get('dataset', {}))
    # a list: fingerprints sort the keys of dictionaries, and the order of the stages matters
    data['pipeline'] = pipeline_transforms(data.get('pipeline', ()))
    loader['dataset'] = data
    infos = Path(
        data.get('infos') or Path(data.get('root', '')) / 'infos' / data.get('version', 'v1.0-trainval')
    )
    return {'model configuration': fingerprint(config['model']), 'data configuration': fingerprint(loader),
            'infos': fingerprint_files([infos / 'index.json']), 'checkpoint': fingerprint_files([checkpoint]),
            'network': fingerprint_files(network), **{name: str(value) for name, value in words.items()}}


def read_run(folder: Path) -> dict[str, str] | None:
    """Whose samples lie in a folder; None where nothing says so.

    Raises:
        ResultError: the file is damaged.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        return {str(name): str(value) for name, value in found.items()}
    except (ValueError, AttributeError) as error:
        raise ResultError(f'{path}: damaged: {error}; start anew (--overwrite)') from None


def differences(found: Run | None, wanted: Run) -> list[str]:
    """The names that differ between two runs; all is unknown of a folder without `run.json`."""
    if found is None:
        return ['no run.json says whose they are']
    return [name for name in dict.fromkeys((*wanted, *found)) if found.get(name) != wanted.get(name)]


def claim(store: ResultStore, run: Run, anew: bool = False) -> str | None:
    """Make a folder of results this run's; gives a sentence where samples of another run were discarded.

    Finished results of another run (they have been judged: `metrics.json` is there) are discarded: its
    figures are known.

    Raises:
        ResultError: there are samples of another run that was interrupted; says what differs. `anew` discards
        these too.
    """
    count, said = len(store.tokens()), None
    others = differences(read_run(store.folder), run) if count else []
    if others and not anew and not (store.folder / 'metrics.json').is_file():
        raise ResultError(
            f'{store.folder}: {count} samples of another, interrupted run lie here (different: '
            f'{", ".join(others)}); start anew with --overwrite, which discards them, or take another --work-dir'
        )
    if count and (others or anew):
        said = f'{count} stored samples discarded, ' + (
            f'of another run ({", ".join(others)})' if others else 'as asked for'
        )
    if others or anew or not count:
        store.clear()
    write_json(store.folder / RUN_FILE, dict(run))
    return said


# -------------------------------------------------------------------------------------------------------------
# going on

class NothingLeft:
    """A loader for when all samples are stored."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())


@dataclass(frozen=True)
class Rest:
    """What is left of a test: indices of its samples without a result, and the tokens of those with one."""

    missing: list[int]
    stored: list[str]

    @staticmethod
    def of(tokens: Sequence[str], chosen: Sequence[int], done: Callable[[], Collection[str]]) -> Rest:
        """Split the chosen indices of a dataset's tokens; the first process looks, so that all processes see
        the same."""
        answer = [None]
        if get_dist_info()[0] == 0:
            answer = [sorted(set(done()))]
        broadcast_object_list(answer)
        known = set(answer[0])
        return Rest(
            [i for i in chosen if tokens[i] not in known], [tokens[i] for i in chosen if tokens[i] in known]
        )

    def share(self) -> list[str]:
        """The stored samples that this process judges; some twice where they cannot be dealt out evenly (they
        count once)."""
        rank, processes = get_dist_info()
        if not self.stored:
            return []
        return np.resize(self.stored, -(-len(self.stored) // processes) * processes)[rank::processes].tolist()


def narrow(
    runner: Any, loader: Mapping[str, Any], dataset: Any, rest: Rest, restore: Callable[[str], Summary]
) -> None:
    """Let the runner's test loop pass over the missing samples only; the others are summarised now.

    The samples keep their index in the dataset, on which their randomness depends.

    Args:
        runner: its evaluator has one `MultiTaskMetric` alone.
        loader: the test loader's configuration.
        restore: token -> the summary of a stored sample.
    """
    loop = runner.test_loop
    loop.evaluator.metrics[0].results.extend(restore(str(token)) for token in rest.share())
    if rest.missing:
        loop.dataloader = runner.build_dataloader(
            {**loader, 'dataset': Subset(dataset, rest.missing)}, seed=runner.seed
        )
    else:
        loop.dataloader = NothingLeft(Subset(dataset, []))


def sole_metric(runner: Any) -> MultiTaskMetric | None:
    """The runner's only metric, if it is ours; others do not know what was stored."""
    metrics = runner.test_loop.evaluator.metrics
    return metrics[0] if len(metrics) == 1 and isinstance(metrics[0], MultiTaskMetric) else None


def go_on(runner: Any, run: Run, anew: bool = False) -> str:
    """Prepare a test that writes results: keep what an interrupted run of the same kind has stored.

    Args:
        runner: ready to test.
        run: of `describe_run`.
        anew: discard whatever is stored.

    Returns:
        What was found, in words.

    Raises:
        ResultError: see `claim`.
    """
    metric, dataset = sole_metric(runner), runner.test_loop.dataloader.dataset
    if metric is None or metric.store is None or not hasattr(dataset, 'tokens'):
        return 'all samples go through the model (no results are kept that could be gone on with)'
    said = [_claimed(metric.store, run, anew)]
    rest = Rest.of(dataset.tokens, range(len(dataset)), metric.store.tokens if metric.keeps_all else list)
    if rest.stored:
        narrow(runner, runner.cfg.test_dataloader, dataset, rest,
               lambda token: metric.judge.summarise(metric.store.read(token), dataset.annotations_of(token)))
        said.append(
            f'{len(rest.stored)} of {len(dataset)} samples have a result and are only judged, {len(rest.missing)} go '
            'through the model (--overwrite runs all)'
        )
    return '; '.join(filter(None, said)) or f'{len(dataset)} samples go through the model'


def _claimed(store: ResultStore, run: Run, anew: bool) -> str | None:
    """`claim` by the first process; its error is raised in all of them."""
    answer: list[Any] = [None]
    if get_dist_info()[0] == 0:
        try:
            answer = [(claim(store, run, anew), None)]
        except ResultError as error:
            answer = [(None, str(error))]
    broadcast_object_list(answer)
    said, error = answer[0]
    if error is not None:
        raise ResultError(error)
    return said
