"""Score people against each other, so that a model's figure has something to stand beside.

Flow: all people of a case, any score of (one, the others) -> leave_one_out.
Source: usual practice. It is no upper bound: one dull average scanpath agrees with people better than people do.
Shapes: P people.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def leave_one_out(humans: Sequence[Any], score: Callable[[Any, list[Any]], float]) -> NDArray[np.float64]:
    """Let each person in turn be the prediction for all others.

    Args:
        humans: P scanpaths, in whatever form the score takes them.
        score: (one, the others) -> number.

    Returns:
        (P,); (0,) when there is nobody to compare with.
    """
    if len(humans) < 2:
        return np.zeros(0)
    return np.array([score(one, [*humans[:place], *humans[place + 1 :]]) for place, one in enumerate(humans)], float)
