"""A teacher looks at the frames that lack labels; what it is sure of is written as labels."""
from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from ...core.checkpoint import load_weights
from ...core.contracts import LabelledArea
from ...core.files import file_digest
from ...core.processes import FolderLock
from ...core.protocols import LANE_CLASSES, OCCUPANCY_CLASSES
from ...datasets.partial.files import PseudoWriter, split_facts
from ...datasets.partial.turning import CONFIDENCES, TURNS
from ...registry import DATASETS, FUNCTIONS, MODELS, without_pretrained

Report = Callable[[str], Any]
EVERY = 100


@dataclass(frozen=True)
class TeacherOptions:
    """What a teacher labels.

    Args:
        tasks: of its own; None: all four that it has.
        confidence: {task: what a label needs at least}, in the place of `CONFIDENCES`.
        everywhere: also frames that have labels of their own; a training reads those labels first all the
            same.
        device: of torch.

    Raises:
        ValueError: a confidence is not above 0 and at most 1.
    """

    tasks: tuple[str, ...] | None = None
    confidence: Mapping[str, float] = field(default_factory=dict)
    everywhere: bool = False
    device: str = 'cpu'

    def __post_init__(self) -> None:
        for task, share in self.confidence.items():
            if not 0 < share <= 1:
                raise ValueError(f'confidence: {task}: expected above 0 and at most 1, found {share}')


def label_frames(
    config: Config, checkpoint: str | Path, out: str | Path, options: TeacherOptions, report: Report = print
) -> dict[str, int]:
    """Label the frames of the training split that lack labels; goes on where an earlier run was stopped.

    Args:
        config: its training data say which frames there are and which labels they have, its test data how
            frames are prepared.
        checkpoint: the teacher's weights.
        out: folder to write.
        options: what to label.
        report: takes a line now and then.

    Returns:
        {task: frames that have a teacher's labels}.

    Raises:
        ValueError: a task that the teacher has not.
        OtherLabelsError: labels of another run in the folder.
    """
    dataset = teacher_dataset(config)
    model = MODELS.build(without_pretrained(config.model))
    load_weights(model, checkpoint)
    model.eval().to(options.device)
    tasks = _chosen_tasks(model, options)
    wanted = _wanted(dataset, tasks, options.everywhere)

    lock = FolderLock(out, 'labelling')
    try:
        writer = PseudoWriter(
            out, {'file': Path(checkpoint).name, 'sha256': file_digest(checkpoint)},
            split_facts(dataset.metainfo['version'], dataset.split, dataset.tokens, dataset.root),
            {task: _facts(model.heads[task], task, options, dataset) for task in tasks})
        _label(model, dataset, wanted, writer, config, report)
    finally:
        lock.release()
    return {task: sum(task in chosen for chosen in wanted.values()) for task in tasks}


def teacher_dataset(config: Config) -> Any:
    """The training data as a test prepares them: nothing is drawn at random, no teacher's labels."""
    options = copy.deepcopy(dict(config.train_dataloader.dataset))
    if options['type'] != 'NuScenesDataset':
        raise ValueError(
            f'train_dataloader.dataset: expected a NuScenesDataset to label, found {options["type"]}: label '
            'its parts one by one')
    test = config.test_dataloader.dataset
    reading = {**options.get('reading', {}), 'pseudo_labels': None, 'bad_file': 'mask', 'clip_frames': 1}
    return DATASETS.build({**options, 'pipeline': test.get('pipeline', ()), 'reading': reading})


def _chosen_tasks(model: Any, options: TeacherOptions) -> tuple[str, ...]:
    known = tuple(task for task in TURNS if task in model.heads)
    chosen = known if options.tasks is None else options.tasks
    for task in (*chosen, *options.confidence):
        if task not in known:
            raise ValueError(
                f'tasks: expected some of {", ".join(known) or "(none)"}, which this teacher has, found '
                f'{task!r}')
    return tuple(chosen)


def _wanted(dataset: Any, tasks: tuple[str, ...], everywhere: bool) -> dict[str, tuple[str, ...]]:
    """{token: the tasks to label it for}, of frames that need any."""
    unknown = [task for task in tasks if task not in dataset.tasks]
    if unknown:
        raise ValueError(
            f'tasks: expected some of {", ".join(dataset.tasks)}, which the data set loads, found '
            f'{unknown[0]!r}')
    columns = [dataset.tasks.index(task) for task in tasks]
    has_ST = dataset.label_table()[:, columns]
    wanted = {
        token: tuple(task for task, has in zip(tasks, row, strict=True) if everywhere or not has)
        for token, row in zip(dataset.tokens, has_ST.tolist(), strict=True)}
    return {token: lacking for token, lacking in wanted.items() if lacking}


def _facts(head: Any, task: str, options: TeacherOptions, dataset: Any) -> dict[str, Any]:
    """What a header says of a task."""
    grid = getattr(head, 'task_grid', None) or head.grid
    if task == 'occupancy':
        classes = OCCUPANCY_CLASSES
    elif task == 'lanes':
        classes = LANE_CLASSES
    else:
        classes = getattr(head.classes, 'names', head.classes)
    facts = {
        'confidence': float(options.confidence.get(task, CONFIDENCES[task])), 'classes': list(classes),
        'area': [list(grid.x_range_m), list(grid.y_range_m)]}
    if task == 'lanes':
        facts |= {'protocol': dataset.reading.lane_protocol, 'learned': list(head.classes)}
    return facts


def _label(
    model: Any, dataset: Any, wanted: Mapping[str, tuple[str, ...]], writer: PseudoWriter, config: Config,
    report: Report,
) -> None:
    """Predict and write, one frame in memory at a time, then say that the folder is whole."""
    missing = {token for token, tasks in wanted.items() if not writer.has(token, tasks)}
    report(f'{len(wanted)} of {len(dataset)} frames lack labels, {len(wanted) - len(missing)} are done')
    collate = dict(config.test_dataloader.collate_fn)
    together = FUNCTIONS.get(collate.pop('type'))

    done = 0
    for index in _order(dataset, missing, model):
        token = dataset.tokens[index]
        batch = together([dataset[index]], **collate)
        with torch.no_grad():
            output = model(**model.data_preprocessor(batch), mode='predict')[0]
        if token not in missing:
            continue  # a frame that only fills the memory

        writer.write(token, {
            task: _turned(output.get(task), task, writer.header['tasks'][task]) for task in wanted[token]})
        done += 1
        if done % EVERY == 0 or done == len(missing):
            report(f'{done} of {len(missing)} frames')
    writer.finish({
        task: [token for token, tasks in wanted.items() if task in tasks] for task in writer.header['tasks']})


def _turned(prediction: Any, task: str, facts: Mapping[str, Any]) -> Any:
    x_range_m, y_range_m = facts['area']
    area = LabelledArea(tuple(x_range_m), tuple(y_range_m))
    return TURNS[task](prediction, facts['confidence'], area)


def _order(dataset: Any, missing: set[str], model: Any) -> Iterator[int]:
    """Indices to look at: the missing frames, with a memory whole drives that have one."""
    for drive in dataset.drives():
        here = [index for index in drive if dataset.tokens[index] in missing]
        if getattr(model, 'memory', None) is None:
            yield from here
        elif here:
            model.forget()
            yield from drive[:drive.index(here[-1]) + 1]

