"""XML of strangers: elements and attributes, and nothing that could unfold, open a file or call a network."""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from ..reading import BadFile

__all__ = ['Element', 'parse_xml']

DEEPEST = 200
MOST_ELEMENTS = 200_000


@dataclass
class Element:
    """One element; text between elements is left away."""

    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)

    def child(self, tag: str) -> Element | None:
        """The first child of a kind."""
        return next((child for child in self.children if child.tag == tag), None)


def parse_xml(path: str | Path, data: bytes) -> Element:
    """The root element of XML that was read from `path`.

    Raises:
        BadFile: no XML, nested too deeply, too many elements, or a document type or entity (which could
            unfold to any size or name other files).
    """
    open_elements: list[Element] = []
    roots: list[Element] = []
    count = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if count > MOST_ELEMENTS or len(open_elements) >= DEEPEST:
            raise BadFile(path, f'found over {MOST_ELEMENTS} elements, or over {DEEPEST} within each other')
        element = Element(tag, attributes)
        (open_elements[-1].children if open_elements else roots).append(element)
        open_elements.append(element)

    def end(tag: str) -> None:
        open_elements.pop()

    def refuse(*_: object) -> None:
        raise BadFile(path, 'found a document type or an entity (<!DOCTYPE>, <!ENTITY>), expected plain XML')

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ExternalEntityRefHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise BadFile(path, f'cannot be read as XML: {error}') from error
    except (ValueError, LookupError) as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile(path, f'cannot be read as XML: {error}') from error
    return roots[0]
