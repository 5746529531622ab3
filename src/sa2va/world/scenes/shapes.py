"""Define the outlines of the shapes as polygons around the origin.

Flow: a shape name -> outline(name) -> paint.coverage (scaled, rotated, moved, filled).
Source: our own; every outline fits [-1, 1], with an area of 1.4 to 2.6 square radii, so that objects of one size class
    look equally large.
Shapes: K corners of one contour, xy order, y down, in units of the object's radius.
"""

import numpy as np


def _polygon(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, dtype=np.float64)


def _arc(radius: float, start: float, stop: float, num_points: int, x: float = 0.0) -> np.ndarray:
    """Return points on an arc around (x, 0); angles in degrees, clockwise from the right since y is down."""
    angles = np.radians(np.linspace(start, stop, num_points))
    return np.stack([x + radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _circle(radius: float, num_points: int = 48) -> np.ndarray:
    return _arc(radius, 0.0, 360.0 * (1 - 1 / num_points), num_points)


def _star(inner: float) -> np.ndarray:
    angles = np.radians(np.arange(10) * 36.0 - 90.0)
    lengths = np.where(np.arange(10) % 2 == 0, 1.0, inner)
    return np.stack([lengths * np.cos(angles), lengths * np.sin(angles) + 0.06], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0.0, 2 * np.pi, 48, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3 / 17, -(y + 2.5) / 16], axis=1)


def _crescent(radius: float = 0.98, bite_radius: float = 0.74, bite_x: float = 0.5) -> np.ndarray:
    """Cut a disk out of the right side of a disk; the two arcs meet at the horns."""
    meet_x = (radius**2 - bite_radius**2 + bite_x**2) / (2 * bite_x)
    outer = np.degrees(np.arccos(meet_x / radius))
    inner = np.degrees(np.arccos((meet_x - bite_x) / bite_radius))
    back = _arc(radius, outer, 360.0 - outer, 40)
    front = _arc(bite_radius, 360.0 - inner, inner, 28, x=bite_x)
    return np.concatenate([back, front[1:-1]]) + np.array([0.1, 0.0])


_CROSS = _polygon(
    (-0.34, -0.95), (0.34, -0.95), (0.34, -0.34), (0.95, -0.34), (0.95, 0.34), (0.34, 0.34),
    (0.34, 0.95), (-0.34, 0.95), (-0.34, 0.34), (-0.95, 0.34), (-0.95, -0.34), (-0.34, -0.34),
)  # fmt: skip
_ARROW = _polygon(
    (-0.97, -0.34), (0.05, -0.34), (0.05, -0.9), (1.0, 0.0), (0.05, 0.9), (0.05, 0.34), (-0.97, 0.34)
)  # fmt: skip

# A second contour is a hole (even-odd rule).
_OUTLINES: dict[str, tuple[np.ndarray, ...]] = {
    "circle": (_circle(0.9),),
    "square": (_polygon((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)),),
    "triangle": (_polygon((0.0, -0.94), (1.0, 0.76), (-1.0, 0.76)),),
    "star": (_star(0.5),),
    "heart": (_heart(),),
    "cross": (_CROSS,),
    "ring": (_circle(0.96), _circle(0.5)),
    "diamond": (_polygon((0.0, -1.0), (0.76, 0.0), (0.0, 1.0), (-0.76, 0.0)),),
    "pentagon": (_arc(0.97, -90.0, 198.0, 5) + np.array([0.0, 0.06]),),
    "crescent": (_crescent(),),
    "arrow": (_ARROW,),
    "hourglass": (_polygon((-0.82, -0.95), (0.82, -0.95), (0.16, 0.0), (0.82, 0.95), (-0.82, 0.95), (-0.16, 0.0)),),
}

CONVEX_SHAPES = ("circle", "square", "pentagon")  # can fully occlude a small object


def outline(shape: str) -> tuple[np.ndarray, ...]:
    """Return the contours of a shape: each (K, 2), xy, in radii; a second contour is a hole."""
    return _OUTLINES[shape]


def outline_area(shape: str) -> float:
    """Return the area of a shape in square radii."""
    areas = []
    for points in _OUTLINES[shape]:
        x, y = points.T
        areas.append(abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2)
    return areas[0] - sum(areas[1:])


def place_outline(shape: str, x: float, y: float, radius: float, angle: float) -> list[np.ndarray]:
    """Rotate, scale and translate an outline; `angle` in radians, the rest in fractions of the side."""
    cos, sin = np.cos(angle) * radius, np.sin(angle) * radius
    turn = np.array([[cos, sin], [-sin, cos]])
    return [points @ turn + (x, y) for points in _OUTLINES[shape]]
