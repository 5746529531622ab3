"""Define Query, a validated request with open media and decoded key frames.

Flow: Request -> Engine.open -> Query -> Engine.prefill, Engine.draw.
Shapes: K key frames.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sa2va.inference.requests import Options, StopFlag, never
from sa2va.media.source import Media
from sa2va.model.sam.sam2 import FrameFeatures
from sa2va.types import Frames, Turn


@dataclass(frozen=True, kw_only=True)
class Query:
    """Validated request with open media and decoded key frames."""

    media: Media  # source of all frames
    pictures: list[Frames]  # input of the MLLM: one array per image, or one array of the K key frames
    keyframes: list[int]  # indices of the K key frames
    turn: Turn
    mode: str  # "official" or "consistent"
    options: Options
    stop: StopFlag = never
    sources: tuple[Path, ...] = ()  # files of all images after the first
    features: FrameFeatures | None = None  # SAM 2's features of the image, if already computed

    @property
    def is_clip(self) -> bool:
        return not self.media.is_image


def group_pictures(queries: Sequence[Query]) -> tuple[list[Query], list[int]]:
    """Return queries with different pictures, and for each query the index of its picture among them."""
    shown: list[Query] = []
    index = []
    for query in queries:
        same = (row for row, one in enumerate(shown) if np.array_equal(one.pictures[0], query.pictures[0]))
        index.append(next(same, len(shown)))
        if index[-1] == len(shown):
            shown.append(query)
    return shown, index


def group_clips(queries: Mapping[int, Query]) -> list[list[int]]:
    """Group queries about one clip that can be tracked together: the same open media, key frames, mode and options."""
    groups: dict[Any, list[int]] = {}
    for index, one in queries.items():
        same = (id(one.media), tuple(one.keyframes), one.mode, one.options) if one.stop is never else index
        groups.setdefault(same, []).append(index)
    return list(groups.values())
