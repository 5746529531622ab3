"""Say what is asked how often while all tasks are trained together.

Flow: Lessons -> TaskSource (cotrain.py), which draws a group of tasks a step and the tasks of its samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Tasks of one group share a batch: their answers have about one length, and a batch of pure text needs no SAM 2.
GROUPS: dict[str, dict[str, float]] = {
    "refseg": {"refseg": 1.0},
    "gcg": {"gcg": 1.0},
    "region": {"region": 1.0},
    "text": {"caption": 0.3, "conversation": 0.7},
    "video_refseg": {"video_refseg": 1.0},
    "video_text": {"video_conversation": 0.65, "video_caption": 0.35},
}


@dataclass(frozen=True)
class Lessons:
    """A mixture of tasks."""

    shares: Mapping[str, float]  # of the steps, by group
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of a task's own function


# A picture's marked region is the plainest lesson in reading the visual tokens, so the language begins with many; a
# request for a mask teaches no word of its answer.
FIRST = Lessons({"region": 0.06, "gcg": 0.16, "refseg": 0.38, "text": 0.22, "video_refseg": 0.12, "video_text": 0.06})
ALL = Lessons({"region": 0.05, "gcg": 0.15, "refseg": 0.33, "text": 0.18, "video_refseg": 0.20, "video_text": 0.09})
# What takes several steps of thought is learnt last, and from few of the questions that come by chance.
HARD = Lessons(
    {"region": 0.02, "gcg": 0.06, "refseg": 0.36, "text": 0.42, "video_refseg": 0.08, "video_text": 0.06},
    {
        "refseg": {
            "shares": {
                "negation": 0.24,
                "ordinal": 0.18,
                "relation": 0.18,
                "group": 0.12,
                "absent": 0.12,
                "attribute": 0.10,
                "place": 0.03,
                "superlative": 0.03,
            }
        },
        "conversation": {
            "shares": {
                "count": 0.22,
                "more or fewer": 0.20,
                "larger or smaller": 0.20,
                "texture": 0.14,
                "shape": 0.07,
                "color": 0.05,
                "existence": 0.05,
                "place": 0.04,
                "size": 0.03,
            }
        },
    },
)
