"""Configurations that were read as data: they may name what is registered, and nothing else is imported.

mmengine's registries import any dotted name that they do not know and call what they find. A Python
configuration may do that, since it is code itself; a JSON file must not.
"""
from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import mmengine.registry
from mmengine.registry import Registry

from .config import SCOPE, nearest_name

FOREIGN_SCOPES = ('mmdet', 'mmdet3d')
"""Packages of the extra [mm] whose modules a configuration may use."""

DEEPEST = 40
"""Levels of dictionaries and lists; the configurations of this package have 8."""

# where OpenMMLab's modules look up the types of their own parts
_FOREIGN_KINDS = ('MODELS', 'TASK_UTILS', 'WEIGHT_INITIALIZERS')


def check_registered(
    config: Any, registry: Registry, where: str, foreign: Collection[str] = (), look_up: bool = True
) -> None:
    """Go through a whole configuration that came from data; every `type` in it must be a registered name.

    Args:
        config: plain values, as JSON has them.
        registry: ours, in which names without a package are looked up.
        where: file and field, for the message ('DIR/sidecar.json: model_config').
        foreign: packages of `FOREIGN_SCOPES` whose registered modules it may name, too.
        look_up: import those packages and look the names up; without it the package alone is checked.

    Raises:
        ValueError: the first type that is not registered, a change of scope, or too many levels; names the
            field.
    """
    registry.import_from_location()
    for field, node, scope in _nodes(config, where, '', 0):
        if '_scope_' in node:
            raise ValueError(f'{field}._scope_: found {node["_scope_"]!r}, expected no change of scope')
        if 'type' in node:
            _check_type(f'{field}.type', node['type'], registry, foreign, scope, look_up)


def _nodes(value: Any, field: str, scope: str, level: int) -> Iterator[tuple[str, Mapping, str]]:
    """Every dictionary, its field, and the package whose module it is a part of ('': ours)."""
    if level > DEEPEST:
        raise ValueError(f'{field[:200]}: expected at most {DEEPEST} levels, found more')

    if isinstance(value, Mapping):
        yield field, value, scope
        kind = value.get('type')
        if isinstance(kind, str):
            scope = _scope_of(kind) or scope
        for key, item in value.items():
            yield from _nodes(item, f'{field}.{key}', scope if scope != SCOPE else '', level + 1)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _nodes(item, f'{field}[{index}]', scope, level + 1)


def _scope_of(kind: str) -> str:
    return kind.partition('.')[0] if '.' in kind else ''


def _check_type(
    field: str, kind: Any, registry: Registry, foreign: Collection[str], scope: str, look_up: bool
) -> None:
    if not isinstance(kind, str):
        raise ValueError(f'{field}: found {kind!r}, expected a name registered in {SCOPE}')

    own_scope = _scope_of(kind)
    name = kind.partition('.')[2] if own_scope else kind
    package = own_scope or scope
    if package in ('', SCOPE):
        if name not in registry.module_dict:
            hint = nearest_name(name, registry.module_dict)
            raise ValueError(f'{field}: found {kind!r}, expected a name registered in {SCOPE}{hint}')
        return

    if package not in FOREIGN_SCOPES or '.' in name:
        known = f'{SCOPE}, or in {" or ".join(FOREIGN_SCOPES)}'
        raise ValueError(f'{field}: found {kind!r}, expected a name registered in {known}')
    if package not in foreign:
        raise ValueError(
            f'{field}: found {kind!r}, expected a name registered in {SCOPE}: modules of {package} are built '
            f'only where the configuration beside it uses {package}, or foreign=({package!r},) asks for it'
        )
    if look_up and not _is_registered(package, name):
        raise ValueError(f'{field}: found {kind!r}, expected a name registered in {package}')


def _is_registered(package: str, name: str) -> bool:
    """Whether a package of the list, or mmengine above it, registers a module of this name."""
    if find_spec(package) is None:
        raise ModuleNotFoundError(
            f'{package!r} is not installed: it comes with the extra [mm] (docs/openmmlab.md)', name=package
        )
    import_module(f'{package}.registry')

    for kind in _FOREIGN_KINDS:
        root = getattr(mmengine.registry, kind)
        child = root.children.get(package)
        if child is not None:
            child.import_from_location()
        if name in root.module_dict or (child is not None and name in child.module_dict):
            return True
    return False


def foreign_scopes(config: Any) -> tuple[str, ...]:
    """The packages of `FOREIGN_SCOPES` that a trusted configuration uses, for `check_registered`."""
    kinds = [node.get('type') for _, node, _ in _nodes(config, '', '', 0)]
    used = {_scope_of(kind) for kind in kinds if isinstance(kind, str)}
    return tuple(scope for scope in FOREIGN_SCOPES if scope in used)
