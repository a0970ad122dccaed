"""The one error that evaluation raises about files other people wrote."""
from __future__ import annotations


class ResultError(ValueError):
    """A result or truth file does not say what it must.

    The message names the file, the entry, what was found and what was expected.
    """
