"""What a corruption is, and the list of all of them."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ...core.contracts import Annotations, Sample

KINDS = ('camera', 'lidar', 'radar', 'alignment')
NEEDS = ('boxes', 'previous')
METABEV = 'Ge et al., MetaBEV, ICCV 2023, arXiv 2304.09801'
ROBOBEV = 'Xie et al., RoboBEV, 2023, arXiv 2304.06719'
MULTICORRUPT = 'Beemelmanns et al., MultiCorrupt, IV 2024, arXiv 2402.11677'
OURS = 'this project'

Previous = Callable[[Sample], Sample | None]


@dataclass(frozen=True)
class Corruption:
    """A way in which sensors fail.

    Attributes:
        name: for the command line.
        kind: one of `KINDS`.
        sensors: those that must be there for it to mean anything.
        severities: the values it may be called with, mildest first.
        unit: what they count.
        source: paper.
        function: `(sample, severity, rng) -> Sample`, with one more argument for each of `needs`, in their
            order.
        needs: 'boxes' (an `Annotations` with boxes), 'previous' (a callable that gives the frame before a
            frame, or None).
        lasting: it stays as it is for a whole drive (a dead camera, dirt, drift), so a test draws it once per
            drive.
        harmless: the severity that changes nothing, where the source lists one.
        suites: per benchmark the severities it uses.
    """

    name: str
    kind: str
    sensors: tuple[str, ...]
    severities: tuple[float, ...]
    unit: str
    source: str
    function: Callable[..., Sample]
    needs: tuple[str, ...] = ()
    lasting: bool = False
    harmless: float | None = None
    suites: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.function.__doc__ or '').strip().split('\n')[0]

    @property
    def harmful(self) -> tuple[float, ...]:
        """The severities that change something."""
        return tuple(s for s in self.severities if s != self.harmless)

    def __call__(
        self,
        sample: Sample,
        severity: float,
        rng: np.random.Generator,
        annotations: Annotations | None = None,
        previous: Previous | None = None,
    ) -> Sample:
        """The sample as the failing sensors would give it; the one passed in stays as it is.

        A sample without the sensor concerned comes back unchanged.

        Raises:
            ValueError: a severity that this corruption does not have, or something it needs is not given.
        """
        if severity not in self.severities:
            raise ValueError(
                f'corruption {self.name}: expected a severity of {_listed(self.severities)} ({self.unit}), '
                f'found {severity}'
            )

        needs_boxes = 'boxes' in self.needs
        if needs_boxes and (annotations is None or annotations.boxes is None):
            raise ValueError(
                f'corruption {self.name}: needs annotated boxes, sample {sample.frame.token} has none'
            )
        needs_previous = 'previous' in self.needs
        if needs_previous and previous is None:
            raise ValueError(
                f'corruption {self.name}: needs a callable that gives the frame before a frame, found '
                'None (a NuScenesDataset gives it to the transforms of its own pipeline)'
            )

        extra = [annotations] * needs_boxes + [previous] * needs_previous
        return self.function(sample, severity, rng, *extra)


_ALL: dict[str, Corruption] = {}


def register(name: str, kind: str, severities: Iterable[float], unit: str, source: str, suite: str, *,
             sensors: tuple[str, ...] | None = None, suites: Mapping[str, tuple[float, ...]] | None = None,
             **facts: object) -> Callable[[Callable[..., Sample]], Callable[..., Sample]]:
    """Decorate a function to put it on the list.

    `suite` is the benchmark it comes from; `suites` adds others.
    """
    severities = tuple(severities)
    if name in _ALL or kind not in KINDS or set(facts.get('needs', ())) - set(NEEDS):
        raise ValueError(
            f'corruption {name}: registered twice, or unknown kind {kind} or needs {facts.get("needs")}'
        )

    def keep(function: Callable[..., Sample]) -> Callable[..., Sample]:
        sensed = (kind,) if sensors is None else sensors
        _ALL[name] = Corruption(name, kind, sensed, severities, unit, source, function,
                                suites={suite: severities, **(suites or {})}, **facts)
        return function
    return keep


def corruptions(kind: str | None = None, suite: str | None = None) -> tuple[Corruption, ...]:
    """All corruptions, or those of a kind or of a benchmark, kind by kind."""
    ordered = sorted(_ALL.values(), key=lambda c: KINDS.index(c.kind))
    return tuple(c for c in ordered if kind in (None, c.kind) and (suite is None or suite in c.suites))


def corruption(name: str) -> Corruption:
    """One corruption by name.

    Raises:
        ValueError: no such corruption; names the nearest one.
    """
    if name not in _ALL:
        import difflib

        near = difflib.get_close_matches(name, _ALL, 1)
        raise ValueError(
            f'no corruption {name!r}'
            + (f', did you mean {near[0]!r}?' if near else '; known: ' + ', '.join(_ALL))
        )
    return _ALL[name]


def parse_choice(words: str) -> tuple[tuple[Corruption, float], ...]:
    """Parse command-line words into the rows to run.

    Args:
        words: 'all', a suite or kind ('robobev', 'radar'), 'fog', 'fog:2', or several with commas.

    Returns:
        (corruption, severity) of every row, each once.

    Raises:
        ValueError: an unknown name or severity.
    """
    rows: list[tuple[Corruption, float]] = []
    for word in filter(None, (w.strip() for w in words.split(','))):
        name, _, severity = word.partition(':')
        if severity:
            chosen = [_with_severity(corruption(name), severity)]
        else:
            chosen = [(c, s) for c in _group(name) for s in c.suites.get(name, c.severities)]
        rows += [row for row in chosen if row not in rows]

    if not rows:
        raise ValueError(f"expected 'all', a corruption, a suite or a kind, found {words!r}")
    return tuple(rows)


def _group(name: str) -> tuple[Corruption, ...]:
    """The corruptions of a word: of a kind, of a suite, or the one of that name."""
    if name == 'all':
        return corruptions()
    if name in KINDS:
        return corruptions(kind=name)
    return corruptions(suite=name) or (corruption(name),)


def _with_severity(chosen: Corruption, words: str) -> tuple[Corruption, float]:
    for severity in chosen.severities:
        try:
            if float(words) == severity:
                return chosen, severity
        except ValueError:
            break
    raise ValueError(
        f'corruption {chosen.name}: expected a severity of {_listed(chosen.severities)} ({chosen.unit}), '
        f'found {words!r}'
    )


def suite_rows() -> dict[str, dict[str, tuple[float, ...]]]:
    """Per benchmark and corruption, the severities that its summary averages over (no harmless ones)."""
    suites: dict[str, dict[str, tuple[float, ...]]] = {}
    for c in corruptions():
        for suite, severities in c.suites.items():
            suites.setdefault(suite, {})[c.name] = tuple(s for s in severities if s != c.harmless)
    return suites


def _listed(values: Iterable[float]) -> str:
    return ', '.join(f'{v:g}' for v in values)
