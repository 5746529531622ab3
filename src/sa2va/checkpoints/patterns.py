"""Refuse regular expressions that can take exponential time, before a library runs them.

Flow: pattern in a tokenizer's or an adapter's file -> check_pattern.
"""

import re
from dataclasses import dataclass

MAX_CHARACTERS = 2_000
MAX_REPEATS = 3  # long repeats in a row
MAX_WAYS = 10_000  # combinations of choices in a row
LONG, LONGEST = 16, 1_000  # repetitions: long from LONG on, refused above LONGEST

_REPEAT = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}")
_OPENING = re.compile(r"\?(?:[:=!>~|]|<[=!]|P?<\w+>|[a-zA-Z-]+[:)])")
_REFERENCE = re.compile(r"\?(?:[R(&]|P[>=]|[+-]?\d)")


def check_pattern(pattern: str, name: str) -> None:
    """Refuse a pattern whose backtracking has no useful bound.

    Repeated groups that hold a repeat or a choice, more than MAX_REPEATS long repeats in a row, more than MAX_WAYS
    combinations of choices, references and recursion are refused. Published tokenizers and adapters have none of them.

    Args:
        pattern: in the syntax of re or of Oniguruma.
        name: its name in an error message.

    Raises:
        ValueError: the pattern has one of these constructs.
    """
    if len(pattern) > MAX_CHARACTERS:
        raise ValueError(f"{name} has {len(pattern)} characters; expected at most {MAX_CHARACTERS}")
    reason = _find_explosion(pattern)
    if reason is not None:
        raise ValueError(f"{name} {pattern!r:.80} {reason}, which can take exponential time; fetch the file again")


@dataclass
class _Group:
    """Counts of a group, or of the whole pattern, up to the current character."""

    repeats: int = 0  # long repeats in the current alternative
    ways: int = 1  # combinations of choices in the current alternative
    most_repeats: int = 0  # maximum of `repeats` over earlier alternatives
    all_ways: int = 0  # sum of `ways` over earlier alternatives
    varies: bool = False  # whether the group holds a repeat or a choice

    def end_alternative(self) -> None:
        self.most_repeats, self.all_ways = max(self.most_repeats, self.repeats), self.all_ways + self.ways
        self.repeats, self.ways = 0, 1


def _find_explosion(pattern: str) -> str | None:
    """Return why a pattern can explode, or None."""
    groups, position = [_Group()], 0
    while position < len(pattern):
        letter, closed = pattern[position], None
        position += 1
        if letter == "\\":
            if pattern[position : position + 1] in tuple("123456789kg"):
                return "refers to its own groups"
            position += 1
        elif letter == "[":
            position = _skip_set(pattern, position)
        elif letter == "(":
            if _REFERENCE.match(pattern, position):
                return "refers to its own groups"
            opening = _OPENING.match(pattern, position)
            position = opening.end() if opening else position
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
        repeat = _REPEAT.match(pattern, position)
        if repeat is not None:
            position = repeat.end()
            reason = _count_repeat(groups[-1], closed, repeat)
            if reason is not None:
                return reason
            position += pattern[position : position + 1] in ("?", "+")  # lazy or possessive
            if pattern[position : position + 1] in ("*", "+"):
                return "repeats a repeat"
        if groups[-1].repeats > MAX_REPEATS or groups[-1].ways > MAX_WAYS:
            return "has too many repeats or choices after each other"
    return None


def _count_repeat(group: _Group, closed: _Group | None, repeat: re.Match[str]) -> str | None:
    """Count a repeat in the enclosing group; return why it explodes, or None. `closed` is the repeated group."""
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


def _skip_set(pattern: str, position: int) -> int:
    """Return the end of the character set that begins at `position`; sets may be nested."""
    depth, first = 1, True
    while position < len(pattern) and depth:
        letter = pattern[position]
        if letter == "\\":
            position += 1
        elif letter == "[" and not first:
            depth += 1
        elif letter == "]" and not first:
            depth -= 1
        first = first and letter == "^"
        position += 1
    return position
