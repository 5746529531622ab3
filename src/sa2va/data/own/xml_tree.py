"""Read XML files without entities, document types or external parts.

Flow: path -> read_xml -> Tag, the root -> own/cvat.py.
Source: Python's expat parser. A document type is what defines entities, so that refusing it rules out their expansion.
"""

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from sa2va.data.records import Record
from sa2va.files.read_limits import read_bounded

MAX_XML_BYTES = 2**31
MAX_DEPTH = 32


@dataclass
class Tag:
    """An element of an XML file.

    Attributes:
        record: its attributes as texts, and its line for messages.
    """

    name: str
    record: Record
    children: list["Tag"] = field(default_factory=list)
    text: str = ""

    def all(self, *names: str) -> list["Tag"]:
        """Return the children of some names."""
        return [child for child in self.children if child.name in names]

    def below(self, name: str) -> list["Tag"]:
        """Return all elements of a name below this one, in the order of the file."""
        found, stack = [], self.children[::-1]
        while stack:
            tag = stack.pop()
            found += [tag] if tag.name == name else []
            stack += tag.children[::-1]
        return found

    def integer(self, key: str) -> int:
        """Return an attribute that is a whole number, at least 0.

        Raises:
            ValueError: it is missing or anything else.
        """
        text = self.record.get(key, str)
        if not text.strip().isdecimal():
            raise self.record.error(f"{key} is {text!r:.60}; expected a whole number")
        return int(text)


def read_xml(path: Path) -> Tag:
    """Read an XML file.

    Raises:
        ValueError: it is malformed, nested too deeply, or has a document type.
    """
    parser, stack, roots = expat.ParserCreate(), list[Tag](), list[Tag]()

    def start(name: str, attributes: dict[str, str]) -> None:
        tag = Tag(name, Record(attributes, path, f"line {parser.CurrentLineNumber}, {name}"))
        (stack[-1].children if stack else roots).append(tag)
        stack.append(tag)
        if len(stack) > MAX_DEPTH:
            raise tag.record.error(f"it is nested more than {MAX_DEPTH} deep")

    def end(_: str) -> None:
        stack.pop()

    def add_text(text: str) -> None:
        if stack:
            stack[-1].text += text

    def refuse(*_: object) -> None:
        raise ValueError(
            f"{path}: line {parser.CurrentLineNumber}: it has a document type, which is not read; "
            "export it again without it"
        )

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, add_text
    parser.StartDoctypeDeclHandler = refuse
    parser.buffer_text = True
    try:
        parser.Parse(read_bounded(path, MAX_XML_BYTES), True)
    except LookupError as error:  # the encoding that the file names
        raise ValueError(f"{path}: it is not valid XML ({error})") from None
    except expat.ExpatError as error:
        raise ValueError(
            f"{path}: line {error.lineno}: it is not valid XML ({expat.ErrorString(error.code)})"
        ) from None
    return roots[0]
