"""Resume a test that was interrupted: samples that have a result do not go through the model again.

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

from ...core.config import pipeline_transforms
from ...core.files import write_json
from ...core.reading import read_json
from ...core.selection import Part
from ..errors import ResultError
from ..metrics import MultiTaskMetric
from ..suite import Summary
from .results import ResultStore

RUN_FILE = 'run.json'
_ABOUT_SPEED = ('batch_size', 'num_workers', 'persistent_workers', 'prefetch_factor', 'pin_memory', 'sampler')
Run = Mapping[str, str]


# -------------------------------------------------------------------- identity of a run

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
    """What must be equal for stored samples to count: by name, so that a message can say what differs.

    Args:
        config: a test's whole configuration; what only changes its speed (batch size, workers, processes) is
            left out, and so is the metric: results can be evaluated again.
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

    return {
        'model configuration': fingerprint(config['model']),
        'data configuration': fingerprint(loader),
        'infos': fingerprint_files([infos / 'index.json']),
        'checkpoint': fingerprint_files([checkpoint]),
        'network': fingerprint_files(network),
        **{name: str(value) for name, value in words.items()},
    }


def read_run(folder: Path) -> dict[str, str] | None:
    """The run whose samples lie in a folder; None without `run.json`.

    Raises:
        ResultError: the file is damaged.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        return {str(name): str(value) for name, value in content.items()}
    except (ValueError, AttributeError) as error:
        raise ResultError(f'{path}: damaged: {error}; start again with --overwrite') from None


def differences(stored: Run | None, run: Run) -> list[str]:
    """The names that differ between two runs; everything is unknown of a folder without `run.json`."""
    if stored is None:
        return ['no run.json says which run they are of']
    return [name for name in dict.fromkeys((*run, *stored)) if stored.get(name) != run.get(name)]


def claim(store: ResultStore, run: Run, overwrite: bool = False) -> str | None:
    """Make a folder of results this run's; gives a sentence where samples of another run were discarded.

    Finished results of another run (`metrics.json` is there) are discarded: its scores are known.

    Raises:
        ResultError: there are samples of another run that was interrupted; says what differs. `overwrite`
            discards these too.
    """
    count = len(store.tokens())
    others = differences(read_run(store.folder), run) if count else []

    if others and not overwrite and not (store.folder / 'metrics.json').is_file():
        raise ResultError(
            f'{store.folder}: {count} samples of another, interrupted run lie here (different: '
            f'{", ".join(others)}); --overwrite discards them, or take another --work-dir'
        )

    message = None
    if count and (others or overwrite):
        reason = f'of another run ({", ".join(others)})' if others else 'as asked for'
        message = f'{count} stored samples discarded, {reason}'
    if others or overwrite or not count:
        store.clear()
    write_json(store.folder / RUN_FILE, dict(run))
    return message


# -------------------------------------------------------------------- the samples that are left

class NothingLeft:
    """A loader for when all samples are stored."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())


@dataclass(frozen=True)
class Remaining:
    """What is left of a test: indices of its samples without a result, and the tokens of those with one."""

    missing: list[int]
    stored: list[str]

    @staticmethod
    def of(
        tokens: Sequence[str],
        chosen: Sequence[int],
        done: Callable[[], Collection[str]],
        drives: Sequence[Sequence[int]] = (),
    ) -> Remaining:
        """Split the chosen indices of a dataset's tokens.

        The first process looks, so that all processes see the same.

        Args:
            tokens: of the dataset.
            chosen: indices.
            done: tokens with a result.
            drives: indices that belong together, for a model with a memory: where one of a drive is missing,
                all of it goes through the model again.
        """
        shared: list[Any] = [None]
        if get_dist_info()[0] == 0:
            shared = [sorted(set(done()))]
        broadcast_object_list(shared)

        known = set(shared[0])
        broken = [drive for drive in drives if not known.issuperset(tokens[index] for index in drive)]
        known -= {tokens[index] for drive in broken for index in drive}
        missing = [index for index in chosen if tokens[index] not in known]
        return Remaining(missing, [tokens[index] for index in chosen if tokens[index] in known])

    def of_this_process(self) -> list[str]:
        """The stored samples that this process evaluates.

        Some stand twice where they cannot be dealt out evenly; they count once.
        """
        rank, processes = get_dist_info()
        if not self.stored:
            return []
        rounded_up = -(-len(self.stored) // processes) * processes
        return np.resize(self.stored, rounded_up)[rank::processes].tolist()


def run_missing(
    runner: Any,
    loader: Mapping[str, Any],
    dataset: Any,
    remaining: Remaining,
    restore: Callable[[str], Summary],
) -> None:
    """Let the runner's test loop pass over the missing samples only; the others are summarised now.

    The samples keep their index in the dataset, on which their randomness depends.

    Args:
        runner: its evaluator has one `MultiTaskMetric` alone.
        loader: the test loader's configuration.
        dataset: of all samples.
        remaining: which samples are stored and which are missing.
        restore: token -> the summary of a stored sample.
    """
    loop = runner.test_loop
    loop.evaluator.metrics[0].results.extend(restore(str(token)) for token in remaining.of_this_process())

    if remaining.missing:
        rest = {**loader, 'dataset': Part(dataset, remaining.missing)}
        loop.dataloader = runner.build_dataloader(rest, seed=runner.seed)
    else:
        loop.dataloader = NothingLeft(Part(dataset, []))


def tests_drives(runner: Any) -> bool:
    """Whether the runner tests whole drives in the order of time, as a model with a memory needs it."""
    sampler = getattr(runner.test_loop.dataloader, 'sampler', None)
    return getattr(sampler, 'follows_drives', False)


def sole_metric(runner: Any) -> MultiTaskMetric | None:
    """The runner's only metric, if it is ours; others do not know what was stored."""
    metrics = runner.test_loop.evaluator.metrics
    return metrics[0] if len(metrics) == 1 and isinstance(metrics[0], MultiTaskMetric) else None


def resume_test(runner: Any, run: Run, overwrite: bool = False) -> str:
    """Prepare a test that writes results: keep what an interrupted run of the same kind has stored.

    Args:
        runner: ready to test.
        run: of `describe_run`.
        overwrite: discard whatever is stored.

    Returns:
        How many samples are stored, in words.

    Raises:
        ResultError: see `claim`.
    """
    metric, dataset = sole_metric(runner), runner.test_loop.dataloader.dataset
    if metric is None or metric.store is None or not hasattr(dataset, 'tokens'):
        return 'all samples go through the model (no results are kept that a test could resume from)'

    messages = [_claimed(metric.store, run, overwrite)]
    done = metric.store.tokens if metric.keeps_all else list
    drives = dataset.drives() if tests_drives(runner) else ()
    remaining = Remaining.of(dataset.tokens, range(len(dataset)), done, drives)

    def restore(token: str) -> Summary:
        return metric.suite.summarise(metric.store.read(token), dataset.annotations_of(token))

    if remaining.stored:
        run_missing(runner, runner.cfg.test_dataloader, dataset, remaining, restore)
        messages.append(
            f'{len(remaining.stored)} of {len(dataset)} samples have a result and are only evaluated, '
            f'{len(remaining.missing)} go through the model (--overwrite runs all)'
        )
    return '; '.join(filter(None, messages)) or f'{len(dataset)} samples go through the model'


def _claimed(store: ResultStore, run: Run, overwrite: bool) -> str | None:
    """`claim` by the first process; its error is raised in all of them."""
    shared: list[Any] = [None]
    if get_dist_info()[0] == 0:
        try:
            shared = [(claim(store, run, overwrite), None)]
        except ResultError as error:
            shared = [(None, str(error))]
    broadcast_object_list(shared)

    message, error = shared[0]
    if error is not None:
        raise ResultError(error)
    return message
