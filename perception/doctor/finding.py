"""The record of one examined item."""
from __future__ import annotations

from dataclasses import dataclass

STATES = ('ok', 'partly', 'absent', 'broken')


@dataclass(frozen=True)
class Finding:
    """The state of one item.

    Attributes:
        area: heading under which it is listed.
        name: of the item.
        state: one of `STATES`.
        detail: what was found.
        next_step: what to do about a gap; '' where nothing is to do.
        required: without it the requested work cannot be done, and the doctor's exit code is 1.
    """

    area: str
    name: str
    state: str
    detail: str
    next_step: str = ''
    required: bool = False

    @property
    def blocking(self) -> bool:
        """Whether it is required and cannot be used."""
        return self.required and self.state in ('absent', 'broken')
