"""How far a training has come, in samples, and what of its configuration that count rests on."""
from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.processes import process_count
from .loops import EpochLoop, Place, StepLoop

SAID_OF = {
    'samples of a pass': 'another order: the pass starts over where it was broken off inside',
    'batch size': 'samples are counted: those already trained on are skipped',
    'processes': 'samples are counted: those already trained on are skipped',
    'drives at once': 'another order: the pass starts over where it was broken off inside',
    'accumulated batches': "the configuration's",
    'epochs': "the configuration's",
    'steps': "the configuration's",
    'schedule': "the configuration's, set to this place",
    'optimiser': 'its state is left out: it starts from nothing',
    'precision': "the configuration's",
    'seed': "the checkpoint's, or the order of the samples would be another one",
    'data': "the configuration's",
    'frozen': "the configuration's",
}
"""What differs between a checkpoint and the configuration that reads it -> which of the two counts."""


def facts_of(loop: EpochLoop, config: Mapping[str, Any], optimiser: str, seed: int | None) -> dict[str, Any]:
    """What progress rests on, as plain values.

    Args:
        loop: the training loop.
        config: the whole configuration.
        optimiser: name of its class.
        seed: of the training.
    """
    wrapper = config.get('optim_wrapper') or {}
    metainfo = getattr(loop.dataloader.dataset, 'metainfo', {})
    limit = {'steps': loop.max_iters} if isinstance(loop, StepLoop) else {'epochs': loop.max_epochs}

    return limit | {
        'samples of a pass': loop.samples_of_pass,
        'batch size': loop.batch_size // process_count(),
        'processes': process_count(),
        'drives at once': getattr(loop.dataloader.sampler, 'places', None),
        'accumulated batches': wrapper.get('accumulative_counts', 1),
        'schedule': json.dumps(config.get('param_scheduler'), default=str),
        'optimiser': optimiser,

        'precision': wrapper.get('dtype', 'float32'),
        'seed': seed,
        'data': ' '.join(str(metainfo[key]) for key in ('root', 'version', 'split') if key in metainfo),
        'frozen': json.dumps(list(config.get('freeze') or ())),
    }


@dataclass(frozen=True)
class TrainingProgress:
    """How far a checkpoint's training has come.

    Args:
        epoch: whole epochs; 0 of a loop that counts steps.
        step: steps, counted in its own batches.
        passes: whole passes over the data.
        samples: samples of the current pass, all processes together.
        facts: as `facts_of` gives them; empty where the checkpoint does not say.
    """

    epoch: int
    step: int
    passes: int
    samples: int
    facts: Mapping[str, Any]

    @staticmethod
    def now(loop: EpochLoop, epoch: int, step: int, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What a checkpoint keeps of `epoch` and `step`, which a hook may count one ahead of the loop."""
        ahead = not isinstance(loop, StepLoop) and epoch > loop.epoch
        return {
            'epoch': epoch, 'step': step, 'passes': epoch if ahead else loop.place.passes,
            'samples': 0 if ahead else loop.samples_done, 'facts': dict(facts)}

    @staticmethod
    def read(meta: Mapping[str, Any], source: str) -> TrainingProgress:
        """From the `meta` of a checkpoint, also of one by mmengine alone, which knows whole epochs.

        Raises:
            ValueError: it does not say how far it has come.
        """
        saved = meta.get('progress')
        if saved is not None:
            return TrainingProgress(**saved)
        if not isinstance(meta.get('epoch'), int) or not isinstance(meta.get('iter'), int):
            raise ValueError(
                f'checkpoint {source}: expected meta.epoch and meta.iter to go on from, found '
                f'{sorted(meta)}: it holds weights alone (load_from starts from them)'
            )
        return TrainingProgress(meta['epoch'], meta['iter'], meta['epoch'], 0, {})

    def differences(self, facts: Mapping[str, Any]) -> list[str]:
        """A line for all that the configuration has otherwise than the checkpoint, with both values."""
        names = [name for name in SAID_OF if name in self.facts and self.facts[name] != facts.get(name)]
        return [
            f'{name}: {self.facts[name]} in the checkpoint, {facts.get(name)} now: {SAID_OF[name]}'
            for name in names
        ]

    def place(self, loop: EpochLoop) -> tuple[Place, list[str]]:
        """Where `loop` begins, in its own batches, and what could not be kept."""
        notes: list[str] = []
        steps_counted = isinstance(loop, StepLoop)
        if not self.facts and steps_counted:
            notes.append(f'step {self.step}: the checkpoint does not say which samples: they are drawn again')
            return Place(0, self.step, 0, 0, 0), notes

        samples = self._samples_in(loop, notes)
        batch = self._batches_in(loop, samples)
        if steps_counted:
            per_step = self.facts['batch size'] * self.facts['processes']
            place = Place(0, self.step * per_step // loop.batch_size, self.passes, batch, samples)
        else:
            step = self.epoch * len(loop.dataloader) + batch
            place = Place(self.epoch, step, self.epoch, batch, samples)

        if place.step != self.step:
            notes.append(f'step: {self.step} in the checkpoint, {place.step} now: the same samples')
        return place, notes

    def _samples_in(self, loop: EpochLoop, notes: list[str]) -> int:
        """Samples of the current pass that can be skipped."""
        if not self.samples or not loop.ends:
            return self.samples

        # what several processes are padded to does not change the order
        before = self.facts['batch size'] * self.facts['processes']
        off = abs(loop.samples_of_pass - self.facts['samples of a pass'])
        drives = getattr(loop.dataloader.sampler, 'places', None)
        other_order = off >= max(before, loop.batch_size) or drives != self.facts.get('drives at once')
        if other_order or not hasattr(loop.dataloader.sampler, 'start_at') or not loop.dataloader.batch_size:
            notes.append(f'{self.samples} samples of the pass were trained on already: they come again')
            return 0

        whole = self.samples // process_count() * process_count()
        if whole != self.samples:
            notes.append(f'{self.samples - whole} samples come again: {process_count()} processes share them')
        return whole

    def _batches_in(self, loop: EpochLoop, samples: int) -> int:
        """How many batches of the pass count as done, so that those of the other samples end it."""
        if not loop.ends:
            return samples // loop.batch_size

        size = loop.batch_size // process_count()
        left = len(loop.dataloader.sampler) - samples // process_count()
        batches_left = left // size if loop.dataloader.drop_last else -(-left // size)
        return max(len(loop.dataloader) - batches_left, 0) if samples else 0
