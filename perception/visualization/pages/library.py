"""three.js, the library that draws in the browser, as the wheel of trimesh brings it along."""
from __future__ import annotations

import re
import zipfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

_ARCHIVE = Path('resources', 'templates', 'viewer.zip')
_MEMBER = 'viewer.html.template'
_BUNDLE = re.compile(
    r'<script>(/\*\*\s*\* @license\s*\* Copyright [-\d]+ Three\.js Authors.*?)\n\(function\(\)\{', re.DOTALL)
_HINT = 'install the trimesh that is known to have it: pip install "perception[viewer]"'


@lru_cache(maxsize=1)
def three_js() -> str:
    """The library's text, licence and all; it makes the global `THREE`.

    Raises:
        ImportError: the [viewer] extra is not installed, or its trimesh has no three.js where it is looked
            for.
    """
    spec = find_spec('trimesh')
    if spec is None or not spec.submodule_search_locations:
        raise ImportError('--viewer needs the [viewer] extra: pip install "perception[viewer]"')

    path = Path(spec.submodule_search_locations[0]) / _ARCHIVE
    try:
        with zipfile.ZipFile(path) as archive:
            found = _BUNDLE.search(archive.read(_MEMBER).decode('utf-8'))
    except (OSError, KeyError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise ImportError(f'{path}: expected three.js in {_MEMBER}, found {error}; {_HINT}') from error
    if found is None:
        raise ImportError(f'{path}: expected three.js in {_MEMBER}, found none; {_HINT}')
    return found.group(1)
