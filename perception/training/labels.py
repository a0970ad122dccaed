"""Training stops where nothing has labels; single frames without any are masked."""
from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..registry import HOOKS


@HOOKS.register_module()
class LabelsHook(Hook):
    """Refuse a split in which no frame has a label that the training wants.

    A dataset that can tell (`has_labels() -> bool | None`) is asked before the first step. Whatever it says,
    an epoch in which every sample came without annotations ends the training.

    Raises:
        ValueError: names the split, or the number of samples.
    """

    def __init__(self) -> None:
        self.seen = self.labelled = 0

    def before_train(self, runner: Runner) -> None:
        """Ask the dataset."""
        dataset = runner.train_dataloader.dataset
        if hasattr(dataset, 'has_labels') and dataset.has_labels() is False:
            raise ValueError(
                f'train_dataloader.dataset: expected labels for {", ".join(dataset.tasks)}, found none in '
                f'any frame of split {dataset.split!r} in {dataset.folder} (create_data says what is absent)'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Start to count."""
        self.seen = self.labelled = 0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Count the batch's samples."""
        annotations = (data_batch or {}).get('data_samples') or ()
        self.seen += len(annotations)
        self.labelled += sum(labels is not None for labels in annotations)

    def after_train_epoch(self, runner: Runner) -> None:
        """Stop after an epoch without labels."""
        if self.seen and not self.labelled:
            raise ValueError(
                f'train_dataloader.dataset: expected labels, found none in the {self.seen} samples of an '
                'epoch: nothing was trained'
            )
