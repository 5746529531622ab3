"""Define Query, a validated request with open media and decoded key frames.

Flow: Request -> Engine.open -> Query -> Engine.prefill, Engine.draw.
Shapes: K key frames.
"""

from dataclasses import dataclass
from pathlib import Path

from sa2va.inference.requests import Options, StopFlag, never
from sa2va.media.source import Media
from sa2va.model.sam.sam2 import FrameFeatures
from sa2va.types import Frames, Turn


@dataclass(frozen=True, kw_only=True)
class Query:
    """Validated request with open media and decoded key frames."""

    media: Media  # source of all frames
    pictures: list[Frames]  # for the MLLM: one array per image, or one with the K key frames
    keyframes: list[int]  # K indices
    turn: Turn
    mode: str  # "official" or "consistent"
    options: Options
    stop: StopFlag = never
    sources: tuple[Path, ...] = ()  # files of further images
    features: FrameFeatures | None = None  # of its image, if SAM 2 has encoded it before

    @property
    def is_clip(self) -> bool:
        return not self.media.is_image
