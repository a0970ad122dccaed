"""The one error that judging raises about files other people wrote."""
from __future__ import annotations


class ResultError(ValueError):
    """A result or truth file does not say what it must; the message names the file, the entry, what was found
    and expected."""
