"""Define the motion of an object in a clip: position, scale and visibility over time.

Flow: choreography.py samples a Motion -> WorldObject.state(u) -> shift_at, scale_at, is_on -> scene.py renders.
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
    """A linear shift and a change of size between two times, with spans of invisibility."""

    kind: str = "stays still"  # one of MOTIONS
    dx: float = 0.0  # total shift to the right, fraction of the side
    dy: float = 0.0  # total shift downward
    scale: float = 1.0  # final over initial radius
    start: float = 0.0  # time at which the change begins
    end: float = 1.0  # time at which the change is complete
    off: tuple[tuple[float, float], ...] = ()  # time spans in which the object is invisible

    def __post_init__(self) -> None:
        if self.kind not in MOTIONS:
            raise ValueError(f"motion {self.kind!r} is unknown: use one of {', '.join(MOTIONS)}")

    def progress(self, u: float) -> float:
        """Return the completed share of the change at time u, 0..1, linear in time."""
        return min(1.0, max(0.0, (u - self.start) / (self.end - self.start)))

    def shift_at(self, u: float) -> tuple[float, float]:
        """Return the (x, y) shift from the position at time 0, fractions of the side."""
        progress = self.progress(u)
        return self.dx * progress, self.dy * progress

    def scale_at(self, u: float) -> float:
        """Return the radius at time u over the radius at time 0."""
        return self.scale ** self.progress(u)

    def is_on(self, u: float) -> bool:
        """Tell whether the object is visible at time u."""
        return not any(begin <= u <= finish for begin, finish in self.off)


STILL = Motion()
