"""Which samples of many are looked at, where all would take too long."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Subset


def spread(total: int, count: int | None) -> list[int]:
    """Indices of `count` samples spread evenly over `total` (the middles of equal parts), in order.

    All of them for None or more than there are.

    >>> spread(10, 2), spread(3, 9), spread(4, 0)
    ([2, 7], [0, 1, 2], [])
    """
    if count is None or count >= total:
        return list(range(total))
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def spread_drives(drives: Sequence[Sequence[int]], count: int | None) -> list[int]:
    """Indices of whole drives, spread evenly, that have at least `count` frames together, in order.

    All of them for None or more than there are.
    """
    frames = sum(map(len, drives))
    for number in range(1, len(drives)):
        chosen = [index for i in spread(len(drives), number) for index in drives[i]]
        if count is not None and count <= min(len(chosen), frames):
            return sorted(chosen)
    return sorted(index for drive in drives for index in drive)


def split_draw(number: int, size: int) -> tuple[int | None, int]:
    """(draw, index) of a number that a sampler handed out; a plain index has no draw, None."""
    rounds, index = divmod(int(number), size)
    return (rounds - 1 if rounds else None), index


def join_draw(draw: int, index: int, size: int) -> int:
    """Inverse of `split_draw`."""
    return (draw + 1) * size + index


class Part(Subset):
    """Some samples of a dataset; those of a drive stay one, and draws go through."""

    @property
    def accepts_draws(self) -> bool:
        """As the dataset's."""
        return getattr(self.dataset, 'accepts_draws', False)

    @property
    def reading(self) -> Any:
        """As the dataset's; None where it has none."""
        return getattr(self.dataset, 'reading', None)

    def __getitem__(self, number: int) -> Any:
        """The sample of an index, or of one with a draw in it."""
        draw, index = split_draw(number, len(self))
        inner = self.indices[index]
        return self.dataset[inner if draw is None else join_draw(draw, inner, len(self.dataset))]

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        """Several samples, for torch's loader."""
        return [self[number] for number in numbers]

    def drives(self) -> list[list[int]]:
        """What is here of each of the dataset's drives."""
        here = {inner: index for index, inner in enumerate(self.indices)}
        drives = [[here[i] for i in drive if i in here] for drive in self.dataset.drives()]
        return [drive for drive in drives if drive]

    def follow_drives(self) -> None:
        """As the dataset's."""
        self.dataset.follow_drives()

    def set_epoch(self, epoch: int) -> None:
        """As the dataset's, where it has one."""
        if hasattr(self.dataset, 'set_epoch'):
            self.dataset.set_epoch(epoch)
