"""Errors of exports and engines; their messages say what to do."""


class EngineUnavailable(RuntimeError):
    """A runtime is not installed or not usable here; the message says why and how to get it."""


class EngineInputError(ValueError):
    """An input of another name, shape, type or with values that are not finite."""


class ExportError(RuntimeError):
    """An export that cannot be trusted: unsupported operators, or outputs that differ."""
