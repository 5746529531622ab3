"""Move an object through a clip: where it is, how big, and whether it shows at a given time.

Flow: sampling.py chooses a Motion -> WorldObject.state(u) -> position_at, scale_at, is_on -> scene.py draws.
Shapes: none; u is the time from 0 (first frame) to 1 (last frame), lengths are fractions of the side.
"""

from dataclasses import dataclass

MOTIONS = (
    "stays still",
    "moves left",
    "moves right",
    "moves up",
    "moves down",
    "grows",
    "shrinks",
    "blinks",
    "enters",
    "leaves",
    "stops",
    "passes behind",
)


@dataclass(frozen=True, kw_only=True)
class Motion:
    """One motion: a straight shift and a change of size between two moments, and the spans in which it is off."""

    kind: str = "stays still"  # one of MOTIONS
    dx: float = 0.0  # whole shift to the right, fraction of the side
    dy: float = 0.0  # whole shift downwards
    scale: float = 1.0  # radius at the end over radius at the start
    start: float = 0.0  # the change begins at this time
    end: float = 1.0  # and is complete at this one
    off: tuple[tuple[float, float], ...] = ()  # spans of time in which the object is switched off

    def __post_init__(self) -> None:
        if self.kind not in MOTIONS:
            raise ValueError(f"motion {self.kind!r} is unknown: use one of {', '.join(MOTIONS)}")

    def progress(self, u: float) -> float:
        """Return how much of the change is done at time u, 0..1, at constant speed."""
        return min(1.0, max(0.0, (u - self.start) / (self.end - self.start)))

    def shift_at(self, u: float) -> tuple[float, float]:
        """Return the (x, y) shift from the place at time 0, fractions of the side."""
        progress = self.progress(u)
        return self.dx * progress, self.dy * progress

    def scale_at(self, u: float) -> float:
        """Return the radius at time u over the radius at time 0."""
        return self.scale ** self.progress(u)

    def is_on(self, u: float) -> bool:
        """Tell whether the object is switched on at time u."""
        return not any(begin <= u <= finish for begin, finish in self.off)


STILL = Motion()
