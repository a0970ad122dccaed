"""Labels taken away at random, by a seed: to measure what a training does without them."""
from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real


@dataclass(frozen=True)
class MissingLabels:
    """A share of the frames that lack each task's labels, another random one for every task.

    Args:
        share: of a split's frames, of all tasks or {task: share}; the number of frames is rounded.
        seed: another one takes other frames.

    Raises:
        ValueError: a share is not between 0 and 1.
    """

    share: float | Mapping[str, float] = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        shares = self.share if isinstance(self.share, Mapping) else {'share': self.share}
        for name, share in shares.items():
            if not isinstance(share, Real) or not 0 <= share <= 1:
                raise ValueError(f'missing_labels.{name}: expected a share from 0 to 1, found {share!r}')

    def frames(self, tokens: Sequence[str], tasks: Sequence[str]) -> dict[str, frozenset[str]]:
        """The frames that lack each task's labels: those whose hash with seed and task is lowest.

        Raises:
            ValueError: `share` names a task that is not among `tasks`.
        """
        unknown = set(self.share) - set(tasks) if isinstance(self.share, Mapping) else ()
        if unknown:
            raise ValueError(
                f'missing_labels.share: expected some of {", ".join(tasks)}, found {min(unknown)!r}')

        return {task: self.frames_of(tokens, task) for task in tasks}

    def share_of(self, task: str) -> float:
        """Which share of a task's labels is missing."""
        return self.share.get(task, 0) if isinstance(self.share, Mapping) else self.share

    def frames_of(self, tokens: Sequence[str], task: str) -> frozenset[str]:
        """The frames that lack the labels of one task."""
        def rank(token: str) -> bytes:
            return hashlib.sha256(f'{self.seed}/{task}/{token}'.encode()).digest()

        return frozenset(sorted(tokens, key=rank)[:round(self.share_of(task) * len(tokens))])
