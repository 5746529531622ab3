"""Represent a drawn (synthetic) scene, and render it with the exact visible mask of every object.

Flow: sampling.make_scene -> Scene -> Scene.render -> frames and masks; world/language/ describes its objects.
Shapes: N objects, T frames, S side of the image in px; places and lengths are fractions of the side, y down.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sa2va.world.scenes.motion import STILL, Motion
from sa2va.world.scenes.paint import Coverage, coverage, paint_background, paint_object

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (222, 44, 44),
    "green": (44, 158, 62),
    "blue": (44, 88, 222),
    "yellow": (248, 216, 44),
    "orange": (247, 132, 24),
    "purple": (130, 56, 178),
    "pink": (250, 128, 192),
    "brown": (122, 74, 42),
    "black": (34, 34, 40),
    "white": (250, 250, 248),
}
# Second tone of a texture, darker or lighter, distinct from the other colors.
TONES: dict[str, tuple[int, int, int]] = {
    "red": (166, 16, 34),
    "green": (112, 210, 112),
    "blue": (116, 160, 255),
    "yellow": (206, 172, 0),
    "orange": (255, 180, 96),
    "purple": (172, 106, 216),
    "pink": (212, 78, 146),
    "brown": (176, 124, 82),
    "black": (104, 104, 114),
    "white": (176, 178, 188),
}
SHAPES: tuple[str, ...] = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "cross",
    "ring",
    "diamond",
    "pentagon",
    "crescent",
    "arrow",
    "hourglass",
)
SIZES = ("small", "medium", "large")
RADII: dict[str, tuple[float, float]] = {"small": (0.064, 0.074), "medium": (0.100, 0.118), "large": (0.155, 0.182)}
TEXTURES = ("plain", "striped", "dotted", "checkered")
BACKGROUNDS: tuple[str, ...] = ("plain", "gradient", "noise", "grid", "waves", "paper")
HELD_OUT_PAIRS: frozenset[tuple[str, str]] = frozenset(
    {
        ("red", "star"),
        ("green", "heart"),
        ("blue", "triangle"),
        ("yellow", "square"),
        ("orange", "ring"),
        ("purple", "circle"),
        ("pink", "cross"),
        ("brown", "arrow"),
        ("black", "diamond"),
        ("white", "pentagon"),
        ("blue", "crescent"),
        ("red", "hourglass"),
    }
)
# A second set, with each shape once, shown only in the split "reserved": no design choice is based on it.
RESERVED_PAIRS: frozenset[tuple[str, str]] = frozenset(
    {
        ("red", "pentagon"),
        ("green", "ring"),
        ("green", "diamond"),
        ("blue", "heart"),
        ("yellow", "arrow"),
        ("yellow", "circle"),
        ("orange", "cross"),
        ("purple", "hourglass"),
        ("pink", "square"),
        ("brown", "star"),
        ("black", "triangle"),
        ("white", "crescent"),
    }
)


@dataclass(frozen=True, kw_only=True)
class ObjectState:
    """One object at one moment."""

    x: float
    y: float
    radius: float
    visible: bool  # on and at least partly inside the image; it may still be occluded


@dataclass(frozen=True, kw_only=True)
class WorldObject:
    """One object with its appearance, initial position and motion."""

    shape: str
    color: str
    size: str
    texture: str
    x: float  # center at time 0, fraction of the side
    y: float
    radius: float  # half extent at time 0, fraction of the side
    angle: float = 0.0  # small clockwise rotation, radians
    motion: Motion = STILL

    @property
    def pair(self) -> tuple[str, str]:
        """Return (color, shape)."""
        return self.color, self.shape

    def state(self, u: float) -> ObjectState:
        """Return position, radius and visibility at time u (0..1)."""
        dx, dy = self.motion.shift_at(u)
        x, y, radius = self.x + dx, self.y + dy, self.radius * self.motion.scale_at(u)
        inside = -radius < x < 1 + radius and -radius < y < 1 + radius
        return ObjectState(x=x, y=y, radius=radius, visible=inside and self.motion.is_on(u))


@dataclass(frozen=True)
class Rendering:
    """The frames of a scene with exact visible masks."""

    frames: np.ndarray  # uint8 (T, S, S, 3)
    masks: np.ndarray  # bool (N, T, S, S)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Objects on a background, in depth order: later objects occlude earlier ones."""

    objects: tuple[WorldObject, ...]
    background: str  # one of BACKGROUNDS
    seed: int  # of the background's pattern and tint

    def render(self, size: int = 256, num_frames: int = 1, chosen: Sequence[int] | None = None) -> Rendering:
        """Render the scene.

        Args:
            size: S, px.
            num_frames: T; frame t shows time t / (T - 1), or time 0 if T is 1.
            chosen: indices of the frames to render, in any order; None = all.

        Returns:
            Frames, and masks of each object's visible pixels.

        Raises:
            ValueError: an image under 16 px, or no frames.
        """
        drawn = self.stream(size, num_frames, chosen)
        length = num_frames if chosen is None else len(chosen)
        frames = np.empty((length, size, size, 3), np.uint8)
        masks = np.empty((len(self.objects), length, size, size), bool)
        for t, (frame, seen) in enumerate(drawn):
            frames[t], masks[:, t] = frame, seen
        return Rendering(frames=frames, masks=masks)

    def stream(
        self, size: int = 256, num_frames: int = 1, chosen: Sequence[int] | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Render the scene as `render` does, with one frame in memory at a time.

        Returns:
            An iterator of uint8 (S, S, 3) and bool (N, S, S).
        """
        if size < 16 or num_frames < 1:
            raise ValueError(f"render(size={size}, num_frames={num_frames}): size >= 16 and num_frames >= 1 expected")
        kept = range(num_frames) if chosen is None else chosen
        times = [t / (num_frames - 1) if num_frames > 1 else 0.0 for t in kept]
        return self._draw(size, times)

    def _draw(self, size: int, times: list[float]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        background = paint_background(self.background, self.seed, size)
        drawn: dict[int, tuple[ObjectState, Coverage | None]] = {}
        for u in times:
            frame, masks = background.copy(), np.zeros((len(self.objects), size, size), dtype=bool)
            for index, item in enumerate(self.objects):
                state = item.state(u)
                if index not in drawn or drawn[index][0] != state:
                    drawn[index] = (state, coverage(item.shape, state.x, state.y, state.radius, item.angle, size))
                covered = drawn[index][1]
                if covered is None or not state.visible:
                    continue
                paint_object(
                    frame,
                    covered,
                    color=COLORS[item.color],
                    tone=TONES[item.color],
                    texture=item.texture,
                    center=(state.x, state.y),
                    radius=state.radius,
                    period=0.1 + 0.04 / item.radius,
                )
                masks[(slice(index), *covered.box)] &= ~covered.mask
                masks[(index, *covered.box)] = covered.mask
            yield frame, masks
