"""The table of verbs: each is a file below this folder with `add_arguments(parser)` and `main(args)`.

A verb's description is the docstring of its file; the first line of it stands in `perception --help`. A file
may also have `check_arguments(parser, args)` for what one argument says about another. Everything heavy is
imported inside functions, so that help is quick.
"""
from __future__ import annotations

import argparse
import dis
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

GROUPS = {
    'data': (
        'doctor', 'import-rig', 'make-world', 'import-drive', 'export-drive', 'create-data', 'make-occupancy',
        'mmdet3d-infos', 'world-statistics'),
    'training': (
        'train', 'compare-systems', 'profile-step', 'pseudo-label', 'task-affinity', 'training-page'),
    'weights': ('extract-weights', 'import-weights', 'merge-models', 'prune-model', 'slim-model'),
    'evaluation': (
        'test', 'evaluate', 'track', 'visualize', 'corruption-gallery', 'benchmark-evaluation',
        'lift-coverage'),
    'deployment': ('export', 'benchmark', 'benchmark-peers', 'engine-table', 'run-scene')}
"""Folder -> its verbs."""

VERBS = tuple(verb for verbs in GROUPS.values() for verb in verbs)

PACKAGE = Path(__file__).resolve().parents[1]


def main(words: Sequence[str] | None = None) -> int:
    """Run `perception VERB ...`; `words` are those behind `perception`, the process's own by default.

    Returns:
        The exit status: 0 done; 2 for an unknown verb.
    """
    words = sys.argv[1:] if words is None else list(words)
    if not words or words[0] in ('-h', '--help', 'help'):
        print(overview())
        return 0
    if words[0] == '--version':
        from .. import __version__
        print(f'perception {__version__}')
        return 0

    verb, *rest = words
    if verb not in VERBS:
        from ..core.config import nearest_name
        print(
            f'perception: no verb {verb!r}{nearest_name(verb, VERBS)} (`perception --help` lists them)',
            file=sys.stderr)
        return 2
    return run_verb(verb, rest, prog=f'perception {verb}')


def run_verb(verb: str, words: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Parse the arguments of one verb and do it.

    Args:
        verb: one of `VERBS`.
        words: the arguments, the process's own by default.
        prog: name in the usage line, the script's by default.

    Returns:
        The exit status; 2, and one line, for an error that the package raised on purpose.
    """
    module = verb_module(verb)
    parser = argparse.ArgumentParser(
        prog, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    words = sys.argv[1:] if words is None else list(words)
    args = parser.parse_args(words)
    args.words = words  # for verbs that start themselves again
    check_files(parser, args)
    if hasattr(module, 'check_arguments'):
        module.check_arguments(parser, args)

    try:
        return module.main(args) or 0
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        if not raised_on_purpose(error):
            raise
        print(f'{parser.prog}: error: {error}', file=sys.stderr)
        return 2


def check_files(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse a configuration or checkpoint that is not there, before anything is imported or built."""
    for name in ('config', 'checkpoint', 'checkpoints'):
        given = getattr(args, name, None)
        for path in given if isinstance(given, list) else [given]:
            if path not in (None, 'none') and not Path(path).is_file():
                parser.error(f'{name.removesuffix("s")} {path}: no such file')


def raised_on_purpose(error: Exception) -> bool:
    """Whether a `raise` of this package made the error.

    Its message then says all that the user needs. Any other error is a fault, which needs its traceback.
    """
    place = error.__traceback__
    while place.tb_next is not None:
        place = place.tb_next
    code = place.tb_frame.f_code
    ours = Path(code.co_filename).is_relative_to(PACKAGE)
    return ours and code.co_code[place.tb_lasti] == dis.opmap['RAISE_VARARGS']


def verb_module(verb: str) -> ModuleType:
    """The file of a verb: 'make-world' is `data/make_world.py`."""
    group = next(group for group, verbs in GROUPS.items() if verb in verbs)
    return import_module(f'{__package__}.{group}.{verb.replace("-", "_")}')


def overview() -> str:
    """All verbs with the first line of their descriptions."""
    width = max(map(len, VERBS))
    lines = ['usage: perception VERB ...      (`perception VERB --help` says more)']
    for group, verbs in GROUPS.items():
        lines.append(f'{group}:')
        lines += [f'  {verb:<{width}}  {verb_module(verb).__doc__.splitlines()[0]}' for verb in verbs]
    return '\n'.join(lines)


def child_process(verb: str) -> tuple[list[str], dict[str, str]]:
    """What starts a verb in a process of its own from any folder: the command, and its environment."""
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get('PYTHONPATH')])]
    return [sys.executable, '-m', 'perception', verb], {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}
