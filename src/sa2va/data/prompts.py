"""List the question and answer templates of the datasets.

Flow: a dataset samples a template with its own generator and fills it -> Turn.question and Turn.answer.
"""

import numpy as np

from sa2va.tokens import SEGMENT_REQUEST

CAPTION = (
    "Describe the image.",
    "What is in this image?",
    "Please describe what you see.",
    "Write a caption for the image.",
)
VIDEO_CAPTION = (
    "Describe the video.",
    "What happens in this video?",
    "Please describe what happens.",
    "Write a caption for the video.",
)
GROUNDED_CAPTION = (
    "Describe the image and mark each object.",
    "Please describe the image with a mask for every phrase.",
    "What is in this image? Show each object with a mask.",
)
SEGMENT = (
    SEGMENT_REQUEST,
    "Segment {}.",
    "Can you segment {}?",
    "Where is {}? Answer with a mask.",
    "Show me {} with a mask.",
    "Mark {} for me.",
)
SEGMENT_GROUP = (
    "Please segment {}.",
    "Segment {}.",
    "Can you segment {}?",
    "Where are {}? Answer with masks.",
    "Show me {} with masks.",
    "Mark {} for me.",
)
SEGMENT_DESCRIBED = (
    "Please segment the object that is described here: {}",
    "Which object fits this description? Answer with a mask. {}",
    "Segment what this text describes: {}",
)
# The mask tokens are inserted before the full stop.
FOUND = ("It is .", "Sure, it is .", "Here it is: .")
FOUND_GROUP = ("They are .", "Sure, they are .", "Here they are: .")
NOT_FOUND = "There is no {}."
NOT_FOUND_ANY = "There is no such object."
REGION = ("Describe {}.", "What is {}?", "Please describe {}.")
REGION_DETAIL = (
    "Describe {} in detail.",
    "What does {} show? Please be thorough.",
    "Please write a detailed description of {}.",
    "Tell me everything you see in {}.",
)
SHORT_ANSWER = "Answer with a word or a short phrase."
NEXT_REGION = ("And {}?", "Describe {}.", "What is {}?")


def pick(rng: np.random.Generator, templates: tuple[str, ...]) -> str:
    """Sample one template uniformly."""
    return templates[int(rng.integers(len(templates)))]
