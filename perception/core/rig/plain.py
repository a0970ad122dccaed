"""Plain values of files that people write: JSON, and YAML without tags and references."""
from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..reading import BadFile, decoding, read_text

__all__ = ['load_plain', 'plain_yaml', 'unique_json']

PLAIN_MIB = 16
_EXPONENT = re.compile(r'[-+]?[0-9]+[eE][-+]?[0-9]+')
"""1e-05 is a number in JSON and in YAML 1.2, but text in YAML 1.1, which the library reads."""


def load_plain(path: str | Path, mib: float = PLAIN_MIB, kind: str | None = None) -> Any:
    """The content of a JSON or YAML file; numbers are those of JSON.

    Args:
        path: the file; one that ends in `.json` is JSON alone.
        mib: the most that is read.
        kind: what it is in an error's words; then the name's end says nothing.

    Raises:
        BadFile: not readable as either, a name that stands twice in one place, or YAML with references
            (which could unfold to anything) or tags.
    """
    path = Path(path)
    text = read_text(path, mib)
    is_json = kind is None and path.suffix.lower() == '.json'
    if is_json or text.lstrip()[:1] in ('{', '['):
        try:
            return unique_json(path, text)
        except json.JSONDecodeError as error:
            # braces and brackets may begin YAML, too
            if is_json:
                raise BadFile(path, f'cannot be read as JSON: {error}') from error
    return plain_yaml(path, text, kind or 'YAML')


def unique_json(path: str | Path, text: str) -> Any:
    """The values of JSON text in which no name stands twice in one place.

    Raises:
        BadFile: a name stands twice, or values lie too deep. json.JSONDecodeError: this is no JSON.
    """
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise _twice(path, next(name for name in names if names.count(name) > 1))
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except RecursionError as error:
        raise BadFile(path, 'cannot be read as JSON: its values lie too deep in each other') from error


def plain_yaml(path: str | Path, text: str, kind: str = 'YAML') -> Any:
    """The values of YAML text.

    Raises:
        BadFile: as `load_plain`.
    """
    import yaml

    with decoding(path, kind):
        try:
            # references could unfold to anything
            if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
                raise BadFile(path, 'found a YAML reference (*name), expected plain values')
            return yaml.load(text, _loader(str(path)))  # noqa: S506 - a safe loader
        except yaml.YAMLError as error:
            words = ' '.join(str(error).split())[:200]
            raise BadFile(path, f'cannot be read as {kind}: {words}') from error


@lru_cache(maxsize=8)
def _loader(path: str) -> type:
    """YAML's safe loader with JSON's numbers, which refuses a name that stands twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict:
            """A mapping whose plain names are all different."""
            names: set[str] = set()
            for key, _ in node.value:
                # what is no plain word is refused, or kept apart, by the library
                if isinstance(key, yaml.ScalarNode):
                    if key.value in names:
                        raise _twice(path, key.value)
                    names.add(key.value)
            return super().construct_mapping(node, deep)

    Loader.add_implicit_resolver('tag:yaml.org,2002:float', _EXPONENT, list('-+0123456789'))
    return Loader


def _twice(path: str | Path, name: Any) -> BadFile:
    return BadFile(path, f'found {name!r:.100} twice in one place, expected each name once')
