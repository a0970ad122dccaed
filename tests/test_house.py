"""What keeps the code easy to read: small rooms, no circles of imports, functions with paragraphs."""
from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'perception'
FILES = sorted(PACKAGE.rglob('*.py'))
LONGEST_WALL = 15
MOST_FILES = 15
MOST_PARAMETERS = 10
MOST_LINES = 400

# names that stand in several files on purpose: each task has its own, each command has its own
PARALLEL = {'main', 'add_arguments', 'check_arguments', 'build_targets', 'as_raw'}
# objects whose attributes with an underscore are public by their documentation
NAMED_TUPLES = {'_asdict', '_replace', '_fields', '_make'}


def parse(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding='utf-8'))


def module_name(path: Path) -> str:
    """'perception.bev.camera' of a file; a package has its folder's name."""
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {module_name(path): path for path in FILES}


# -------------------------------------------------------------------- circles

def imported_files(name: str, tree: ast.Module, is_package: bool) -> set[str]:
    """Files of the package that a file imports anywhere in it, inside functions and for annotations too."""
    package = name if is_package else name.rpartition('.')[0]
    targets: set[str] = set()

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split('.')[:len(package.split('.')) - node.level + 1] if node.level else []
            source = '.'.join([*base, *([node.module] if node.module else [])])
            # `from a import b` reads the file b where there is one, else the file a
            targets |= {
                full if (full := f'{source}.{alias.name}') in MODULES else source for alias in node.names
            }

    # a file of another package runs that package's `__init__`, and those above it, first
    parts = [target.split('.') for target in targets]
    above = {'.'.join(names[:depth]) for names in parts for depth in range(2, len(names))}
    targets |= {other for other in above if not f'{name}.'.startswith(f'{other}.')}
    return {target for target in targets if target in MODULES} - {name}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of two and more files that import each other, directly or by way of others (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])

        if low[node] == index[node]:
            group = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(group) > 1:
                groups.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return groups


def test_no_circle_of_files():
    graph = {
        name: imported_files(name, parse(path), path.name == '__init__.py') for name, path in MODULES.items()
    }
    # a package that gathers its files may be imported by none of them
    assert circles(graph) == []


def test_importing_a_file_runs_its_package():
    tree = ast.parse('from .contracts.columns import XY')
    package = 'perception.core.contracts'
    assert imported_files('perception.core.geometry', tree, False) == {package, f'{package}.columns'}
    assert imported_files(f'{package}.sample', ast.parse('from .columns import XY'), False) == {
        f'{package}.columns'}


def test_a_circle_is_seen():
    assert circles({'a': {'b'}, 'b': {'c'}, 'c': {'a'}, 'd': {'a'}}) == [['a', 'b', 'c']]


# -------------------------------------------------------------------- rooms

def test_no_folder_has_too_many_files():
    sizes = defaultdict(int)
    for path in FILES:
        sizes[path.parent.relative_to(ROOT).as_posix()] += 1
    assert {folder: count for folder, count in sizes.items() if count > MOST_FILES} == {}


def test_no_file_is_too_long():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding='utf-8').splitlines())
        for path in FILES
    }
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


# -------------------------------------------------------------------- names

def private_names_taken(tree: ast.Module) -> list[str]:
    """Names with a leading underscore that a file takes from another file or from another object than its
    own."""
    taken = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or '').startswith('perception')):
            taken += [f'line {node.lineno}: import of {alias.name}' for alias in node.names
                      if alias.name.startswith('_') and not alias.name.startswith('__')]
        elif isinstance(node, ast.Attribute) and node.attr.startswith('_') and not node.attr.startswith('__'):
            owner = node.value.id if isinstance(node.value, ast.Name) else ''
            if (
                owner
                and owner not in ('self', 'cls', 'torch', 'np', 'os', 'sys')
                and node.attr not in NAMED_TUPLES
            ):
                taken.append(f'line {node.lineno}: {owner}.{node.attr}')
    return taken


@pytest.mark.parametrize(
    'source', ['from .optim import _DTYPES', 'queue._closed', 'from perception.model import _check']
)
def test_a_private_name_is_seen(source):
    assert private_names_taken(ast.parse(source))


def test_no_file_reaches_past_an_underscore():
    files = [*FILES, *sorted((ROOT / 'tools').glob('*.py'))]
    taken = {
        path.relative_to(ROOT).as_posix(): names
        for path in files
        if (names := private_names_taken(parse(path)))
    }
    assert taken == {}


def test_a_name_stands_in_one_file():
    """`git grep` leads to one place: no public function or class of one name in two files."""
    homes = defaultdict(list)
    for path in FILES:
        for node in parse(path).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith('_'):
                homes[node.name].append(path.relative_to(PACKAGE).as_posix())
    assert {name: places for name, places in homes.items() if len(places) > 1 and name not in PARALLEL} == {}


# -------------------------------------------------------------------- functions

def functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """All functions and methods of a file."""
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def is_compiled(function: ast.FunctionDef) -> bool:
    """Is it a compiled loop (numba), where one long page is the clearest form?"""
    return any(
        'njit' in ast.unparse(decorator) or 'jit' in ast.unparse(decorator)
        for decorator in function.decorator_list
    )


def is_wall(function: ast.FunctionDef, lines: list[str]) -> bool:
    """Has its body fifteen lines and more without one blank line?"""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return False
    span = lines[body[0].lineno - 1:body[-1].end_lineno]
    return len(span) >= LONGEST_WALL and all(line.strip() for line in span)


def test_functions_have_paragraphs():
    walls = []
    for path in FILES:
        lines = path.read_text(encoding='utf-8').splitlines()
        walls += [
            f'{path.relative_to(ROOT)}:{function.lineno} {function.name}'
            for function in functions(parse(path))
            if is_wall(function, lines) and not is_compiled(function)
        ]
    assert walls == []


def test_constructors_have_few_parameters():
    many = []
    for path in FILES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef) and node.name == '__init__':
                count = len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs) - 1
                if count > MOST_PARAMETERS:
                    many.append(f'{path.relative_to(ROOT)}:{node.lineno} {count} parameters')
    assert many == []


# -------------------------------------------------------------------- encodings

def texts_without_encoding(tree: ast.Module) -> list[int]:
    """Lines that open, read or write text in whatever encoding the machine has."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(word.arg == 'encoding' for word in node.keywords):
            continue
        called, words = node.func, node.args
        if isinstance(called, ast.Attribute) and called.attr in ('read_text', 'write_text'):
            lines.append(node.lineno)
        elif is_text_mode(called, words, node.keywords):
            lines.append(node.lineno)
    return lines


def is_text_mode(called: ast.expr, words: list[ast.expr], named: list[ast.keyword]) -> bool:
    """Whether a call is `open(path, 'w')` or `path.open('w')`, with a mode for text."""
    if isinstance(called, ast.Name) and called.id == 'open':
        modes = words[1:2]
        if not words:
            return False
    elif isinstance(called, ast.Attribute) and called.attr == 'open':
        modes = words[:1]
    else:
        return False

    modes = [*modes, *(word.value for word in named if word.arg == 'mode')]
    known = [mode.value for mode in modes if isinstance(mode, ast.Constant) and isinstance(mode.value, str)]
    if not known:
        return isinstance(called, ast.Name) and not modes
    return set(known[0]) <= set('rwaxt+') and 'b' not in known[0]


def test_every_text_file_is_read_and_written_in_a_named_encoding() -> None:
    found = [
        f'{path.relative_to(ROOT)}:{line}' for path in FILES for line in texts_without_encoding(parse(path))]
    assert found == []


def test_texts_without_encoding_are_found() -> None:
    code = (
        "p.read_text()\nopen(p)\nopen(p, 'w')\np.open('a')\nopen(p, 'rb')\nz.open('x.npy')\n"
        "open(p, encoding='utf-8')")
    assert texts_without_encoding(ast.parse(code)) == [1, 2, 3, 4]
