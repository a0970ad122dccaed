"""Commands called in this process: what is tested is the command, not the start of an interpreter."""
from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

from perception.cli import run_verb


@dataclass(frozen=True)
class Called:
    """Exit status and what was printed."""

    status: int
    out: str
    err: str


def call(verb: str, *words: object) -> Called:
    """Run `perception VERB WORDS` as a shell would see it."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = run_verb(verb, [str(word) for word in words])
        except SystemExit as stop:
            if isinstance(stop.code, str):
                print(stop.code, file=err)
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Called(status, out.getvalue(), err.getvalue())
