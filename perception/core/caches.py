"""What libraries keep in caches of the user's: compiled loops (numba), a grammar (yapf)."""
from __future__ import annotations

import importlib
import os
import shutil
import stat
import sys
import tempfile
import warnings
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from .files import is_writable

CACHE_VARIABLE = 'NUMBA_CACHE_DIR'


# -------------------------------------------------------------------- yapf's grammar

def import_yapf() -> None:
    """Import yapf, which mmengine imports, where it is installed: one process at a time.

    At its first import yapf writes a pickle of its grammar in place. A process that starts beside it (two
    ranks of one training) reads half a file and ends in an EOFError; one that is killed while it writes
    leaves a file that ends every later import so. A damaged grammar is made again here.
    """
    if 'yapf' in sys.modules or find_spec('yapf') is None:
        return

    with ExitStack() as stack:
        try:
            from filelock import FileLock
            lock = FileLock(Path(tempfile.gettempdir()) / f'perception-yapf-{os.getuid()}.lock')
            stack.enter_context(lock)
        except (ImportError, OSError):
            pass  # no lock to be had: a damaged grammar is still made again
        try:
            importlib.import_module('yapf')
        except Exception:  # half a pickle raises almost anything
            shutil.rmtree(_yapf_cache(), ignore_errors=True)
            importlib.import_module('yapf')


def _yapf_cache() -> Path:
    from platformdirs import user_cache_dir
    return Path(user_cache_dir('YAPF', 'Google', version('yapf')))


# -------------------------------------------------------------------- what numba compiled

def choose_numba_cache(package: Path) -> Path | None:
    """Give numba a temporary folder where it would find no place of its own and importing would fail.

    It looks beside the code, then in the user's cache; a place that the user named is left alone. Processes
    started from this one inherit the folder, so the warning comes once.

    Returns:
        The temporary folder; None where none is needed.
    """
    if os.environ.get(CACHE_VARIABLE):
        return None
    user_cache = Path(os.environ.get('XDG_CACHE_HOME') or Path('~/.cache').expanduser())
    if is_writable(package / '__pycache__') or is_writable(user_cache / 'numba'):
        return None

    folder = _private_folder()
    warnings.warn(
        f'{package} and {user_cache} cannot be written: numba keeps its compiled code in {folder}; set '
        f'{CACHE_VARIABLE} to a folder of yours to keep it',
        stacklevel=2,
    )
    os.environ[CACHE_VARIABLE] = str(folder)
    if 'numba' in sys.modules:
        sys.modules['numba'].config.CACHE_DIR = str(folder)
    return folder


def _private_folder() -> Path:
    """A temporary folder that nobody else can write, since numba unpickles what lies in it.

    The same one for all runs of a user where that is safe.
    """
    folder = Path(tempfile.gettempdir()) / f'perception-numba-{os.getuid()}'
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if not is_own or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            folder = Path(tempfile.mkdtemp(prefix='perception-numba-'))
    return folder
