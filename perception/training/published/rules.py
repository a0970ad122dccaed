r"""What a table of names is made of: rules that rename a tensor, and what a source's tables must fill.

A pattern's groups stand in the name that it becomes as \1, \2. The first pattern that fits a whole name
counts; what no pattern fits has no place here.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from . import turning


@dataclass(frozen=True)
class Rule:
    """Some tensors of a source.

    Attributes:
        pattern: of their names.
        ours: what it becomes.
        change: (tensor, axes of the weights) -> numbers in our form; None leaves them.
    """

    pattern: str
    ours: str
    change: Callable[[Tensor, turning.Axes], Tensor] | None = None

    def renamed(self, name: str) -> str | None:
        """Our name of a tensor; None where the pattern does not fit."""
        match = re.fullmatch(self.pattern, name)
        return match.expand(self.ours) if match else None


@dataclass(frozen=True)
class Source:
    """What a kind of checkpoint holds.

    Attributes:
        rules: the table.
        parts: prefixes of our names that it must fill, each whole.
        new: patterns of our names below them that it does not have; they stay as they start.
        groups: classes of boxes by branch of the head, in the order of their channels; none without a head.
        optional: prefixes of our names that it fills whole where ours have its form, and else leaves alone.
        prepared: (its tensors, our state) -> its tensors, where one of ours comes from several or two from
            one.
        lists: prefixes of rows of parts, of which a model may have some: an entry that it lacks is left out.
    """

    rules: Sequence[Rule]
    parts: Sequence[str]
    new: Sequence[str] = ()
    groups: Sequence[Sequence[str]] = ()
    lists: Sequence[str] = ()
    optional: Sequence[str] = ()
    prepared: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]] | None = None
