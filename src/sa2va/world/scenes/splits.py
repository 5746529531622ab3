"""Define the splits of the drawn world and the pairs of color and shape that each may show.

Flow: the name of a split in a command -> Split -> items.draw_item and everything sampled from it.
    Weights, settings and code are chosen on DEV. REPORT is evaluated once, for the published figures.
"""

from dataclasses import dataclass

from sa2va.world.scenes.scene import COLORS, HELD_OUT_PAIRS, RESERVED_PAIRS, SHAPES

Pairs = frozenset[tuple[str, str]]

TRAIN = "train"  # neither shows nor names held-out and reserved pairs
RESERVED = "reserved"  # the only split that shows reserved pairs
UNSEEN_PAIRS: Pairs = HELD_OUT_PAIRS | RESERVED_PAIRS
SEEN_PAIRS: Pairs = frozenset((color, shape) for color in COLORS for shape in SHAPES) - UNSEEN_PAIRS


@dataclass(frozen=True)
class Split:
    """An unlimited, seeded test set.

    Attributes:
        name: Name of the split; two names share no scene, for any seed.
        seed: Random seed of the scenes, >= 0.
    """

    name: str
    seed: int


DEV = Split("test", 7)  # evaluated after every change
REPORT = Split("report", 58_406_113)  # unused before its figures were published
SPLITS = {"dev": DEV, "report": REPORT}


def find_split(name: str, seed: int | None = None) -> Split:
    """Return a split of SPLITS; "dev" takes another seed if one is given.

    Raises:
        ValueError: an unknown name, or another seed for "report".
    """
    if name not in SPLITS:
        raise ValueError(f"split {name!r} is unknown: use one of {', '.join(SPLITS)}")
    if seed is None or seed == SPLITS[name].seed:
        return SPLITS[name]
    if name == "report":
        raise ValueError(f"seed {seed}: split report has one seed, {REPORT.seed}; leave --seed out, or use --split dev")
    return Split(SPLITS[name].name, seed)


def withheld_pairs(split: str) -> Pairs:
    """Return the pairs of color and shape that may not be asked for in a split when they are absent.

    In training, questions about absent unseen pairs would teach that such pairs never exist. Other splits do ask for
    them, to penalize a model that takes every unseen pair for present.
    """
    return {TRAIN: UNSEEN_PAIRS, RESERVED: frozenset()}.get(split, RESERVED_PAIRS)


def unseen_pairs(split: str) -> Pairs:
    """Return the pairs absent from training that a split's scenes may show; none in training itself."""
    return {TRAIN: frozenset(), RESERVED: RESERVED_PAIRS}.get(split, HELD_OUT_PAIRS)
