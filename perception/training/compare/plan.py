"""What is compared: the rows, the recipe that they share, and the budget that each of them gets."""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...core.config import config_name, read_config

SINGLE, PLAIN = ROLES = ('single task', 'plain')


@dataclass(frozen=True)
class Row:
    """One configuration (a path below `configs/`) under a name for readers of the table.

    Attributes:
        name: what the table calls it.
        config: the configuration's path.
        start: trained weights that it starts from, all of equal name and shape: the name of a row above it
            (same seed), for recipes that are published as a second training, or a checkpoint `*.pth` of the
            repository; None: from nothing.
        steps: of the optimiser, in the place of the budget's.
        freeze: prefixes that are not trained, beside the budget's.
        taught: labels that are missing come from the weights that it starts from, its teacher.
        options: changes of its configuration, as `--cfg-options` makes them; its folder is then named after
            the row, too.
        role: 'single task' for the reference of one task's score, 'plain' for the row whose step others' cost
            is compared with; None for all others.

    Raises:
        ValueError: another role.
    """

    name: str
    config: str
    start: str | None = None
    steps: int | None = None
    freeze: tuple[str, ...] = ()
    taught: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    role: str | None = None

    def __post_init__(self) -> None:
        if self.role not in (None, *ROLES):
            raise ValueError(
                f'row {self.name!r}: role: expected one of {", ".join(ROLES)}, found {self.role!r}')

    @property
    def folder(self) -> str:
        """Name of the row's folder."""
        path = Path(self.config)
        folder = config_name(path) if path.is_absolute() else path.with_suffix('').as_posix()
        return f'{folder}/{re.sub(r"[^a-zA-Z0-9]+", "_", self.name)}' if self.options else folder

    @property
    def starts_from_file(self) -> bool:
        """Whether `start` names a checkpoint, not a row."""
        return self.start is not None and self.start.endswith('.pth')


@dataclass(frozen=True)
class Budget:
    """What every row gets.

    Attributes:
        steps: of the optimiser, with a cosine over them.
        batch: samples a step; None keeps the recipe's.
        root: of the data; None keeps the recipe's.
        load_from: checkpoint that encoders start from.
        freeze: prefixes that are not trained, such as 'encoders.lidar.'; 'encoders' means those that the
            checkpoint brings.
        limit: samples of the validation split to evaluate, spread evenly; None takes all.
        without: sensors to take away in turn.
        options: changes of every configuration, as `--cfg-options` makes them.
    """

    steps: int
    batch: int | None = None
    root: str | None = None
    load_from: str | None = None
    freeze: tuple[str, ...] = ()
    limit: int | None = None
    without: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The rows, the recipe that all of them follow, and the configuration that rows and recipe change.

    Attributes:
        configs: folder that the rows' paths are relative to.
        rows: in the order of the table.
        recipe: a configuration whose data, precision, optimiser and heads all rows get.
        base: a configuration; what a row changes against it in data and heads stays the row's.
    """

    configs: Path
    rows: tuple[Row, ...]
    recipe: dict[str, Any]
    base: dict[str, Any]

    @staticmethod
    def read(path: str | Path, recipe: str | Path | None = None) -> Plan:
        """Read a list of rows such as `configs/comparisons/systems.py`.

        The configurations it names lie in the folder above.

        Args:
            path: the list.
            recipe: another configuration than the list's.

        Raises:
            FileNotFoundError: there is no such list, or it names a configuration that is not there.
            ValueError: a row starts from what is neither a row above it nor a checkpoint.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f'list of rows {path}: no such file')
        content, configs = Config.fromfile(str(path)), path.resolve().parents[1]
        rows = tuple(Row(**row) for row in content.rows)

        for i, row in enumerate(rows):
            above = [other.name for other in rows[:i]]
            if row.start is not None and not row.starts_from_file and row.start not in above:
                raise ValueError(
                    f'{path}: row {row.name!r} starts from {row.start!r}, expected the name of a row above '
                    'it or a checkpoint *.pth'
                )
            if row.taught and row.start is None:
                raise ValueError(
                    f'{path}: row {row.name!r}: taught: expected a start, the teacher; found none')
        recipe_config = read_config(recipe or configs / content.recipe)
        return Plan(configs, rows, recipe_config.to_dict(), read_config(configs / content.base).to_dict())

    def row(self, name: str) -> Row:
        """The row of this name (or of this configuration's name).

        Raises:
            ValueError: there is none.
        """
        for row in self.rows:
            if name in (row.name, row.folder):
                return row
        raise ValueError(f'row {name!r}: expected one of {", ".join(repr(r.folder) for r in self.rows)}')
