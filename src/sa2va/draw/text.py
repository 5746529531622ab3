"""Write text on pictures in any script, with fonts that have its letters.

Flow: labels -> replace_unwritable -> measure, write -> overlay.py, gaze/render.py.
Source: Pillow shapes text with Raqm (HarfBuzz, FriBiDi); without Raqm, scripts that need shaping count as unwritable.
    Pillow reads no character map, so a letter is missing if it is drawn as the font's empty box.
"""

import os
import sys
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, features

FONT_PACKAGES = ("manimgx_fonts", "manimgx_fonts_cjk")  # Noto, from PyPI; the first one is the extra "fonts"
PREFERRED = ("notosans-", "notosans[", "notosansarabic", "notosanscjk", "notoemoji", "dejavusans.")
OTHER_STYLES = ("bold", "italic", "oblique", "light", "thin", "black", "condensed", "mono", "serif")
NO_FONTS = ("lastresort", "notdef", "blank")  # fonts that draw a box, or nothing, for every letter
USUAL_WEIGHT = 400  # for variable fonts, some of which start at the thinnest
PROBE_SIZE = 24  # px, font size of the letters drawn to find a font
NOWHERE = "\U0010fffe"  # a noncharacter, for which every font draws its box
SHAPED = {"R", "AL"}  # bidirectional classes of scripts that run from right to left
Run = tuple[str, ImageFont.FreeTypeFont]  # letters of one font


@lru_cache(maxsize=64)
def base_font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font for plain labels: bundled with Pillow, so the same on every machine."""
    font = ImageFont.load_default(size=size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


def can_write(text: str) -> bool:
    """Return whether installed fonts have all letters of a text."""
    return _assign(text) is not None


def measure(text: str, size: int) -> float:
    """Return the width of a text, px; letters without a font count as boxes."""
    return sum(font.getlength(part) for part, font in _runs(text, size))


def write(
    pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, ink: Any, size: int, anchor: str = "la"
) -> None:
    """Write a line of text.

    Args:
        pen: drawing context of the picture.
        place: (x, y) px.
        text: one line in any script.
        ink: color.
        size: font size, px.
        anchor: "la" or "mm", as in Pillow, with the metrics of the base font.
    """
    runs = _runs(text, size)
    if len(runs) == 1 and runs[0][1] is base_font(size):
        pen.text(place, text, ink, runs[0][1], anchor)
        return
    ascent, descent = base_font(size).getmetrics()
    x, y = place
    if anchor == "mm":
        x, y = x - measure(text, size) / 2, y - (ascent + descent) / 2
    for part, font in runs:
        pen.text((x, y + ascent), part, ink, font, "ls")
        x += font.getlength(part)


def replace_unwritable(texts: Sequence[str], instead: Sequence[str], stacklevel: int) -> list[str]:
    """Replace texts whose letters no installed font has, and warn about them.

    Args:
        texts: N labels.
        instead: N replacements.
        stacklevel: as in `warnings.warn`, counted from the caller.

    Returns:
        N labels that can be written.
    """
    unwritable = {short: text for short, text in zip(instead, texts, strict=True) if not can_write(text)}
    if unwritable:
        pairs = ", ".join(f"{short} = {' '.join(text.split()):.60}" for short, text in unwritable.items())
        warnings.warn(
            f"no installed font has all letters of some labels; the picture shows instead: {pairs}; install a font, as "
            "with pip install 'sa2va[fonts]', or pip install manimgx-fonts-cjk for Chinese, Japanese and Korean",
            stacklevel=stacklevel + 1,
        )
    return [short if short in unwritable else text for short, text in zip(instead, texts, strict=True)]


def _runs(text: str, size: int) -> list[Run]:
    """Split a text into runs of one font each, from left to right."""
    assigned = _assign(text)
    if assigned is None:
        return [(text, base_font(size))]
    runs = [(part, base_font(size) if path is None else _open(path, size)) for part, path in assigned]
    return runs[::-1] if _runs_left(text) else runs


@lru_cache(maxsize=1024)
def _assign(text: str) -> tuple[tuple[str, Path | None], ...] | None:
    """Assign a font to each part of a text, None for the base font; return None if a letter has no font.

    A font with all letters is preferred. Otherwise a font is kept as long as it has the next letter.
    """
    drawn = [letter for letter in text if _is_drawn(letter)]
    if any(map(_needs_shaping, text)) and not features.check("raqm"):
        return None
    foreign = next((letter for letter in drawn if not _has(None, letter)), None)
    whole = None if foreign is None else _find_font(foreign)
    if (foreign is None or whole is not None) and all(_has(whole, letter) for letter in drawn):
        return ((text, whole),)
    parts: list[tuple[str, Path | None]] = []
    for letter in text:
        here = parts[-1][1] if parts else None
        if letter.isspace() and parts and not _runs_left(parts[-1][0]):
            font = None  # the usual width; in right-to-left text a space must stay in the run
        elif not _is_drawn(letter) or (parts and _has(here, letter)):
            font = here
        elif _has(None, letter):
            font = None
        elif (path := _find_font(letter)) is not None:
            font = path
        else:
            return None
        if parts and font == here:
            parts[-1] = (parts[-1][0] + letter, font)
        else:
            parts.append((letter, font))
    return tuple(parts)


def _is_drawn(letter: str) -> bool:
    """Return whether a letter is drawn, unlike spaces and combining marks."""
    return not letter.isspace() and unicodedata.category(letter) not in ("Mn", "Me", "Cf", "Cc")


def _needs_shaping(letter: str) -> bool:
    return unicodedata.bidirectional(letter) in SHAPED or unicodedata.category(letter) in ("Mn", "Mc")


def _runs_left(text: str) -> bool:
    """Return whether a text runs from right to left, by its first letter with a direction."""
    directions = map(unicodedata.bidirectional, text)
    return next((found for found in directions if found in (*SHAPED, "L")), "L") in SHAPED


@cache
def _find_font(letter: str) -> Path | None:
    """Return the first installed font with a letter."""
    return next((path for path in _fonts() if _has(path, letter)), None)


@lru_cache(maxsize=4096)
def _has(path: Path | None, letter: str) -> bool:
    """Return whether a font has a letter: it draws pixels other than those of its missing-glyph box."""
    font = _probe(path)
    return font is not None and (drawn := _draw(font, letter)) is not None and drawn != _box(path)


@cache
def _box(path: Path | None) -> bytes | None:
    font = _probe(path)
    assert font is not None
    return _draw(font, NOWHERE)


def _draw(font: ImageFont.FreeTypeFont, letter: str) -> bytes | None:
    """Return the pixels of one letter, None if it is blank."""
    image = Image.new("L", (3 * PROBE_SIZE, 3 * PROBE_SIZE))
    try:
        ImageDraw.Draw(image).text((PROBE_SIZE, PROBE_SIZE), letter, 255, font)
    except (OSError, ValueError):
        return None
    return image.tobytes() if image.getbbox() else None


@cache
def _probe(path: Path | None) -> ImageFont.FreeTypeFont | None:
    """Open a font at the probe size; return None for damaged and bitmap fonts."""
    if path is None:
        return base_font(PROBE_SIZE)
    try:
        return ImageFont.truetype(path, PROBE_SIZE, layout_engine=ImageFont.Layout.BASIC)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=64)
def _open(path: Path, size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(path, size)
    try:
        axes = font.get_variation_axes()
    except OSError:  # not a variable font
        return font
    usual = [USUAL_WEIGHT if axis["name"] == b"Weight" else axis["default"] for axis in axes]
    font.set_variation_by_axes([float(value or 0) for value in usual])
    return font


@cache
def _fonts() -> tuple[Path, ...]:
    """List the installed fonts, upright ones of regular weight first."""

    def rank(path: Path) -> tuple[bool, int, int, str]:
        name = path.name.lower()
        preferred = next((place for place, word in enumerate(PREFERRED) if name.startswith(word)), len(PREFERRED))
        return any(word in name for word in OTHER_STYLES), preferred, len(name), str(path)

    found = {path for folder in _folders() for path in folder.rglob("*.[toTO][tT][fFcC]") if path.is_file()}
    return tuple(sorted((path for path in found if not path.name.lower().startswith(NO_FONTS)), key=rank))


def _folders() -> Iterator[Path]:
    """Yield font folders: of installed packages, and the usual ones of Linux, macOS and Windows."""
    for package in FONT_PACKAGES:
        spec = find_spec(package)
        yield from map(Path, spec.submodule_search_locations or () if spec else ())
    home = Path.home()
    if sys.platform == "win32":
        yield Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"
        yield Path(os.environ.get("LOCALAPPDATA", home)) / "Microsoft/Windows/Fonts"
    elif sys.platform == "darwin":
        yield from (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts")
    else:
        shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
        own = os.environ.get("XDG_DATA_HOME") or str(home / ".local/share")
        yield from (Path(folder) / "fonts" for folder in [own, *shared.split(":")])
        yield home / ".fonts"
