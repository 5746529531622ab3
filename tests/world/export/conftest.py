"""Export layouts into a temporary data root."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sa2va.world.export.catalog import LAYOUTS
from sa2va.world.export.layout import Part, choose_scenes, export

Export = Callable[..., tuple[Path, list[Part]]]


@pytest.fixture
def write(tmp_path: Path) -> Export:
    """Function of (layout, splits, items, options) that returns the data root and the parts written to it."""

    def write(layout: str, *splits: str, items: int = 3, **options: bool) -> tuple[Path, list[Part]]:
        scenes = choose_scenes(splits or ("train",), None, items, **options)
        assert list(export({layout: LAYOUTS[layout]}, tmp_path, scenes)) == [layout]
        return tmp_path, LAYOUTS[layout].parts(scenes)

    return write
