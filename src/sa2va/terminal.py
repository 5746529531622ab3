"""Escape control characters in texts for the terminal.

Flow: a file name, a message, an answer -> shown, in_markup -> messages, tables, progress bars. JSON keeps the original
    text.
Source: Trojan Source, arXiv:2111.00169, for characters that reorder text; the escapes are those of Python.
"""

import unicodedata

# Controls (C0, C1), format characters (bidirectional ones, tags), line and paragraph separators, lone surrogates.
HIDDEN = {"Cc", "Cf", "Zl", "Zp", "Cs"}
JOINERS = "\u200c\u200d"  # they shape letters and emoji and cannot reorder text


def shown(text: str, *, lines: bool = False) -> str:
    """Replace characters that a terminal would interpret by their Python escapes, as `repr` does.

    Args:
        text: any text.
        lines: keep line ends and tabs.
    """
    kept = JOINERS + "\n\t" if lines else JOINERS
    return "".join(
        one.encode("unicode_escape").decode() if one not in kept and unicodedata.category(one) in HIDDEN else one
        for one in text
    )


def in_markup(text: str) -> str:
    """Escape control characters and rich markup, as for a table cell: `[red]` is shown literally."""
    from rich.markup import escape

    return escape(shown(text))
