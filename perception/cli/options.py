"""Arguments that several verbs have, and how the value of `--cfg-options` is read."""
from __future__ import annotations

import argparse
import ast
import math
from collections.abc import Callable, Sequence
from typing import Any

ENGINES = ('torch', 'onnxruntime', 'openvino', 'tensorrt')
PRECISIONS = ('fp32', 'fp16', 'bf16', 'int8')
_CLOSING = {'(': ')', '[': ']', '{': '}'}


class OptionAction(argparse.Action):
    """Collects KEY=VALUE words into a dictionary; a word that cannot be read ends the parsing."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Add the words of one `--cfg-options`."""
        options = dict(getattr(namespace, self.dest) or {})
        for word in values or ():
            key, equals, text = word.partition('=')
            if not (key and equals):
                parser.error(f'{option_string}: expected KEY=VALUE, found {word!r}')
            try:
                options[key] = option_value(text)
            except ValueError as error:
                parser.error(f'{option_string} {key}: {error}')
        setattr(namespace, self.dest, options)


def option_value(text: str) -> Any:
    """The value that a word of the command line stands for.

    Numbers, true, false, None, lists `[1, 2]`, tuples `(1, 2)` and dictionaries as in Python; words within
    lists and tuples need no quotes. `'...'` is the text within, anything else the text as it stands.

    Raises:
        ValueError: brackets or quotes that do not close, a dictionary that is none, or a comma outside of
            brackets and quotes, which could mean a list or a text.
    """
    bare = text.strip()
    first, last = bare[:1], bare[-1:]
    if first == '{':
        return _literal(bare)
    if first in ('"', "'") and first == last and len(bare) > 1 and first not in bare[1:-1]:
        return bare[1:-1]
    if first in ('[', '('):
        values = [option_value(part.strip()) for part in _elements(bare)]
        return tuple(values) if first == '(' else values

    if ',' in text:
        raise ValueError(f'found a comma in {text}; expected [{bare}] for a list, "\'{bare}\'" for a text')
    if bare == 'None':
        return None
    if bare.lower() in ('true', 'false'):
        return bare.lower() == 'true'
    for number in (int, float):
        try:
            return number(bare)
        except ValueError:
            continue
    return text


def _elements(text: str) -> list[str]:
    """The elements of `[...]` or `(...)`, split at the commas outside of inner brackets and quotes."""
    elements, waiting, quote = [''], [_CLOSING[text[0]]], ''
    place = 0
    while waiting and place < len(text) - 1:
        place += 1
        letter = text[place]
        if quote:
            quote = '' if letter == quote else quote
        elif letter in '"\'' and not elements[-1].strip():
            quote = letter  # within a word it is an apostrophe
        elif letter in _CLOSING:
            waiting.append(_CLOSING[letter])
        elif letter == waiting[-1]:
            waiting.pop()

        if letter == ',' and len(waiting) == 1 and not quote:
            elements.append('')
        elif waiting:
            elements[-1] += letter

    if waiting or place < len(text) - 1:
        raise ValueError(f'expected brackets and quotes that close, found {text!r}; quotes make it a text')
    if not elements[-1].strip():
        elements.pop()  # of (1,) and of []
    if not all(map(str.strip, elements)):
        raise ValueError(f'found an empty element in {text!r}')
    return elements


def _literal(text: str) -> Any:
    """A Python literal; never runs anything."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise ValueError(f'expected a Python dictionary, words in quotes, found {text!r}') from None


def at_least(least: int) -> Callable[[str], int]:
    """An argparse type: whole numbers of at least `least`."""
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < least:
            raise argparse.ArgumentTypeError(f'expected a whole number of at least {least}, found {text!r}')
        return number
    return read


def positive(text: str) -> float:
    """An argparse type: finite numbers above zero."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f'expected a number above 0, found {text!r}')
    return number


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """`--cfg-options`, which changes values of the configuration."""
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionAction, metavar='KEY=VALUE',
        help='change values of the configuration, e.g. test_dataloader.batch_size=4')


def add_engine(parser: argparse.ArgumentParser, default: str = 'torch') -> None:
    """`--engine`, `--precision` and `--device`, which choose what runs the network; see `check_device`."""
    parser.add_argument(
        '--engine', default=default, choices=ENGINES, help='what runs the network (default: %(default)s)'
    )
    parser.add_argument(
        '--precision', default='fp32', choices=PRECISIONS, help='of the engine (default: %(default)s)'
    )
    parser.add_argument(
        '--device', help='where an engine runs: of openvino CPU, GPU, NPU or AUTO, of onnxruntime cpu, cuda, '
        'tensorrt or tensorrt_rtx (default: the processor; of tensorrt its GPU)')


def check_device(parser: argparse.ArgumentParser, args: argparse.Namespace, torch_too: bool = False) -> None:
    """Refuse a device that the engine does not know.

    Args:
        parser: of the command line.
        args: with the arguments of `add_engine`.
        torch_too: whether the verb moves the torch engine to a device.
    """
    if args.device is None:
        return
    if args.engine == 'torch' and not torch_too:
        parser.error('--device goes with another --engine; torch runs where the configuration is tested')

    from ..deployment.engines.choices import device_options
    try:
        device_options(args.engine, args.device)
    except ValueError as error:
        parser.error(f'--{error}')


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """`--launcher`, for several processes."""
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
        help='pytorch: started by torchrun, on GPUs (nccl) or CPUs (gloo)')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
