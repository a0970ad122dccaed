"""The search for a network with as many layers in int8 as a limit allows."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import ExportError
from ..export.parts import move_network, remove_network
from .records import DropFn, QuantisationReport, Ranking, Writer


def search(
    writer: Writer,
    path: str | Path,
    max_drop: float,
    drop_fn: DropFn,
    rank: Callable[[], Ranking],
    report: Callable[[str], None] | None = None,
) -> QuantisationReport:
    """Write the network with all layers in int8, or with as few in float as the limit asks.

    The first 1, 2, 4, ... layers of the ranking go to float (or as many as it wants together, twice as many,
    ...) until the drop is allowed; then the gap to the last refusal is halved until it closes. The result is
    measured last, so that what `drop_fn` remembers is of it.

    Args:
        writer: writes networks.
        path: of the result.
        max_drop: largest drop that is allowed.
        drop_fn: network file -> drop.
        rank: called once, when all layers together drop too much.
        report: gets a line for each attempt.

    Raises:
        ExportError: the drop is too large even with a single layer in int8.
    """
    trial = _Search(writer, Path(path), max_drop, drop_fn, report)
    ranking: Ranking | None = None
    try:
        float_count = 0
        if not trial.accepts(0):
            trial.check_layers_left(0)
            ranking = rank()
            trial.order = ranking.order()
            refused, accepted = trial.double(max(1, len(ranking.float_first)))
            float_count = trial.halve(refused, accepted)
        trial.finish(float_count)
    finally:
        trial.remove_files()

    return QuantisationReport(
        path=trial.path,
        layers=len(trial.order),
        float_layers=tuple(trial.order[:float_count]),
        drop=trial.drops[float_count],
        drop_all_int8=trial.drops[0],
        sensitivity={} if ranking is None else ranking.sensitivity,
        attempts=tuple(trial.drops.items()),
        weight_bits=writer.weight_bits,
    )


class _Search:
    """Attempts of one search: their files and their drops by the number of layers in float."""

    def __init__(
        self,
        writer: Writer,
        path: Path,
        max_drop: float,
        drop_fn: DropFn,
        report: Callable[[str], None] | None,
    ) -> None:
        self.writer = writer
        self.path = path
        self.max_drop = max_drop
        self.drop_fn = drop_fn
        self.report = report or (lambda line: None)
        self.order = list(writer.layers)
        self.drops: dict[int, float] = {}
        self._attempt = path.with_name(f'{path.stem}.attempt{path.suffix}')
        self._best = path.with_name(f'{path.stem}.best{path.suffix}')

    def accepts(self, float_count: int) -> bool:
        """Measure with the first layers of the order in float; a network within the limit is kept."""
        drop = self.drop_fn(self.writer.write(self._attempt, self.order[float_count:]))
        self.drops[float_count] = drop
        if float_count:
            self.report(
                f'int8 with {float_count} of {len(self.order)} layers in float: drop {drop:.4g} '
                f'(at most {self.max_drop:.4g})'
            )

        # a drop that is NaN is not within the limit
        within_limit = drop <= self.max_drop
        if within_limit:
            move_network(self._attempt, self._best)
        return within_limit

    def double(self, float_count: int) -> tuple[int, int]:
        """Twice as many layers in float until the drop is allowed.

        Returns:
            The largest number refused and the number accepted; what goes to float together is not parted, so
            that fewer than the first number count as refused.

        Raises:
            ExportError: the drop is too large even with a single layer in int8.
        """
        most = len(self.order) - 1
        float_count = min(float_count, most)
        refused = float_count - 1
        while not self.accepts(float_count):
            self.check_layers_left(float_count)
            refused, float_count = float_count, min(2 * float_count, most)
        return refused, float_count

    def check_layers_left(self, float_count: int) -> None:
        """Raise ExportError when a number of layers in float was refused that leaves one in int8."""
        if float_count == len(self.order) - 1:
            raise ExportError(
                f'{self.writer.network}: drop {self.drops[float_count]:.3g} with a single layer in int8, '
                f'allowed {self.max_drop:.3g}'
            )

    def halve(self, refused: int, accepted: int) -> int:
        """The smallest number of layers in float that is accepted between the two."""
        while accepted - refused > 1:
            middle = (refused + accepted) // 2
            if self.accepts(middle):
                accepted = middle
            else:
                refused = middle
        return accepted

    def finish(self, float_count: int) -> None:
        """Measure the best network again unless it was the last one, and give it its name."""
        if list(self.drops)[-1] != float_count:
            self.drops[float_count] = self.drop_fn(self._best)
        move_network(self._best, self.path)

    def remove_files(self) -> None:
        """Remove what attempts left behind."""
        remove_network(self._attempt)
        remove_network(self._best)
