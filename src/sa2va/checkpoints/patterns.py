"""Refuse regular expressions that can take exponential time, before a library runs them.

Flow: pattern in a tokenizer's or an adapter's file -> check_pattern.
"""

import re
from dataclasses import dataclass

MAX_CHARACTERS = 2_000
MAX_REPEATS = 3  # long ones that follow each other
MAX_WAYS = 10_000  # product of the choices that follow each other
LONG, LONGEST = 16, 1_000  # times; from LONG on a repeat counts as unbounded

_REPEAT = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}")
_OPENING = re.compile(r"\?(?:[:=!>~|]|<[=!]|P?<\w+>|[a-zA-Z-]+[:)])")
_REFERENCE = re.compile(r"\?(?:[R(&]|P[>=]|[+-]?\d)")


def check_pattern(pattern: str, name: str) -> None:
    """Refuse a pattern that can backtrack without a useful bound.

    Repeated groups that hold a repeat or a choice, more than MAX_REPEATS long repeats in a row, more than MAX_WAYS
    combinations of choices, references and recursion are refused. Published tokenizers and adapters have none of them.

    Args:
        pattern: in the syntax of re or of Oniguruma.
        name: what a message calls it.

    Raises:
        ValueError: the pattern is one of these.
    """
    if len(pattern) > MAX_CHARACTERS:
        raise ValueError(f"{name} has {len(pattern)} characters; expected at most {MAX_CHARACTERS}")
    reason = _find_explosion(pattern)
    if reason is not None:
        raise ValueError(f"{name} {pattern!r:.80} {reason}, which can take for ever; take the file from its source")


@dataclass
class _Group:
    """Counts of a group, or of the whole pattern, as far as it has been read."""

    repeats: int = 0  # long ones of this alternative
    ways: int = 1  # to match this alternative
    most_repeats: int = 0  # of any alternative before
    all_ways: int = 0  # of the alternatives before
    varies: bool = False  # holds a repeat or a choice

    def end_alternative(self) -> None:
        self.most_repeats, self.all_ways = max(self.most_repeats, self.repeats), self.all_ways + self.ways
        self.repeats, self.ways = 0, 1


def _find_explosion(pattern: str) -> str | None:
    """Return why a pattern can explode, or None."""
    groups, place = [_Group()], 0
    while place < len(pattern):
        letter, closed = pattern[place], None
        place += 1
        if letter == "\\":
            if pattern[place : place + 1] in tuple("123456789kg"):
                return "refers to its own groups"
            place += 1
        elif letter == "[":
            place = _skip_set(pattern, place)
        elif letter == "(":
            if _REFERENCE.match(pattern, place):
                return "refers to its own groups"
            opening = _OPENING.match(pattern, place)
            place = opening.end() if opening else place
            if not (opening and opening[0].endswith(")")):
                groups.append(_Group())
            continue
        elif letter == ")" and len(groups) > 1:
            closed = groups.pop()
            closed.end_alternative()
            groups[-1].repeats += closed.most_repeats
            groups[-1].ways *= closed.all_ways
            groups[-1].varies |= closed.varies
        elif letter == "|":
            groups[-1].end_alternative()
            groups[-1].varies = True
            continue
        repeat = _REPEAT.match(pattern, place)
        if repeat is not None:
            place = repeat.end()
            reason = _count_repeat(groups[-1], closed, repeat)
            if reason is not None:
                return reason
            place += pattern[place : place + 1] in ("?", "+")  # lazy or possessive
            if pattern[place : place + 1] in ("*", "+"):
                return "repeats a repeat"
        if groups[-1].repeats > MAX_REPEATS or groups[-1].ways > MAX_WAYS:
            return "has too many repeats or choices after each other"
    return None


def _count_repeat(group: _Group, closed: _Group | None, repeat: re.Match[str]) -> str | None:
    """Add a repeat to the group it stands in and return why it explodes; `closed` is the group it repeats."""
    low, comma, high = repeat.groups()
    if max(int(low or 0), int(high or 0)) > LONGEST:
        return f"repeats more than {LONGEST} times"
    once = repeat[0] == "?"
    times = 1 if once else int(high or (0 if comma else low) or 0)
    unbounded = not once and not times
    if closed is not None and closed.varies and (unbounded or times > 1):
        return "repeats a group that holds a repeat or a choice"
    group.varies = True
    if once:
        group.ways *= 2
    elif unbounded or times >= LONG:
        group.repeats += 1
    else:
        group.ways *= max(1, times - int(low or 0) + 1) if comma else 1
    return None


def _skip_set(pattern: str, place: int) -> int:
    """Return the end of the set of characters that begins at `place`; a set may hold others."""
    depth, first = 1, True
    while place < len(pattern) and depth:
        letter = pattern[place]
        if letter == "\\":
            place += 1
        elif letter == "[" and not first:
            depth += 1
        elif letter == "]" and not first:
            depth -= 1
        first = first and letter == "^"
        place += 1
    return place
