"""Make any text safe to show on a terminal, whatever control characters a file name holds.

Flow: a name, a message, an answer -> shown, in_markup -> messages, remarks, tables, progress bars. JSON keeps the
    real text.
Source: Trojan Source, arXiv:2111.00169, for characters that reorder text; the escapes are those of Python.
"""

import unicodedata

# Controls (C0, C1), format characters (bidirectional ones, tags), line and paragraph separators, lone surrogates.
HIDDEN = {"Cc", "Cf", "Zl", "Zp", "Cs"}
JOINERS = "\u200c\u200d"  # shape letters and emoji, and change nothing around them


def shown(text: str, *, lines: bool = False) -> str:
    """Escape what a terminal would obey rather than show: ESC becomes the four characters of backslash x1b.

    Args:
        text: anything.
        lines: leave line ends and tabs as they are.
    """
    kept = JOINERS + "\n\t" if lines else JOINERS
    return "".join(_escape(one) if one not in kept and unicodedata.category(one) in HIDDEN else one for one in text)


def in_markup(text: str) -> str:
    """Make a text safe to stand in the markup of rich, as in a cell of a table: `[red]` stays those five letters."""
    from rich.markup import escape

    return escape(shown(text))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
