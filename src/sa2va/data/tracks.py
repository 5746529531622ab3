"""Store the masks of a sample as RLE and decode them on demand.

Flow: annotations of a dataset (RLE) -> RleTracks -> Sample.tracks -> model/processor.py, which decodes the key frames.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sa2va.masks import decode_rle
from sa2va.types import Masks


@dataclass(frozen=True)
class RleTracks:
    """Masks of M objects on T frames as COCO RLE."""

    rles: Sequence[Sequence[Mapping[str, Any] | None]]  # M lists of T; None = not in that frame
    height: int  # px
    width: int

    def __len__(self) -> int:
        return len(self.rles)

    def masks(self, objects: Sequence[int], frames: Sequence[int]) -> Masks:
        """Decode masks of n objects on K frames, bool (n, K, H, W).

        Raises:
            ValueError: a mask differs in size from the frames.
        """
        out = np.zeros((len(objects), len(frames), self.height, self.width), bool)
        for row, index in enumerate(objects):
            for column, frame in enumerate(frames):
                rle = self.rles[index][frame]
                if rle is None:
                    continue
                if list(rle["size"]) != [self.height, self.width]:
                    raise ValueError(
                        f"mask of object {index} on frame {frame} is {rle['size']}; expected the frame's size "
                        f"[{self.height}, {self.width}]"
                    )
                out[row, column] = decode_rle(rle)
        return out
