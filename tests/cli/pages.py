"""The commands and examples that the pages show."""
from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / folder / 'README.md' for folder in ('.', 'perception', 'data')),
    *sorted((ROOT / 'docs').glob('*.md'))]


@dataclass
class Command:
    """A command as a page has it.

    Attributes:
        page: where it stands.
        text: one line, without its comment and the brackets around what may be left out.
    """

    page: str
    text: str

    @property
    def verb(self) -> str:
        """'make-world' of `python tools/make_world.py ...` and of `perception make-world ...`."""
        tool, verb = re.search(r'tools/(\w+)\.py|perception ([\w-]+)', self.text).groups()
        return verb or tool.replace('_', '-')

    @property
    def words(self) -> list[str]:
        """What stands behind the tool or verb."""
        words = shlex.split(self.text)
        at = next(i for i, word in enumerate(words) if 'tools/' in word or word == 'perception')
        return words[at + (1 if 'tools/' in words[at] else 2):]


def fences(page: Path, language: str = '') -> list[str]:
    """The fenced blocks of a page in a language, shell by default."""
    blocks, opened = [], None
    for line in page.read_text(encoding='utf-8').splitlines():
        mark = re.fullmatch(r' *```(\w*)', line)
        if mark and opened is None:
            opened = mark.group(1)
            blocks.append((opened, []))
        elif mark:
            opened = None
        elif opened is not None:
            blocks[-1][1].append(line)
    return ['\n'.join(lines) for name, lines in blocks if name == language]


def page_commands() -> list[Command]:
    """Every line in a fence, or in backquotes, that starts a tool or a verb, in the order of the pages."""
    found = []
    for page in PAGES:
        quoted = re.findall(r'`(python tools/[^`]*)`', page.read_text(encoding='utf-8'))
        blocks = [*fences(page), *(' '.join(text.split()) for text in quoted)]
        for block in blocks:
            for line in re.sub(r'\s*\\\n\s*', ' ', block).splitlines():
                text = re.split(r'\s#\s|\s{3,}', line.strip())[0].strip()
                if re.match(r'(python|torchrun .*?) tools/\w+\.py|perception [a-z]', text):
                    text = re.sub(r'[\[\]]', '', text)
                    found.append(Command(page.relative_to(ROOT).as_posix(), text))
    return [command for command in found if '...' not in command.text]
