"""Name the splits of the drawn world, and say which pairs of color and shape each may show.

Flow: a command names a split -> Split -> items.draw_item and everything that is drawn from it.
    Weights, settings and code are chosen on DEV. REPORT is measured once, for the figures that are quoted.
"""

from dataclasses import dataclass

from sa2va.world.scenes.scene import COLORS, HELD_OUT_PAIRS, RESERVED_PAIRS, SHAPES

Pairs = frozenset[tuple[str, str]]

TRAIN = "train"  # shows and names neither held-out nor reserved pairs
RESERVED = "reserved"  # shows reserved pairs, so that they are seen nowhere else
UNSEEN_PAIRS: Pairs = HELD_OUT_PAIRS | RESERVED_PAIRS
SEEN_PAIRS: Pairs = frozenset((color, shape) for color in COLORS for shape in SHAPES) - UNSEEN_PAIRS


@dataclass(frozen=True)
class Split:
    """An endless, seeded test set.

    Attributes:
        name: of the generator; two names share no scene, whatever the seed.
        seed: of the world, >= 0.
    """

    name: str
    seed: int


DEV = Split("test", 7)  # looked at after every change
REPORT = Split("report", 58_406_113)  # in no log and no decision before its figures were printed
SPLITS = {"dev": DEV, "report": REPORT}


def find_split(name: str, seed: int | None = None) -> Split:
    """Return a split of SPLITS, "dev" with another seed where one is given.

    Raises:
        ValueError: an unknown name, or a seed for "report", which has one alone.
    """
    if name not in SPLITS:
        raise ValueError(f"split {name!r} is unknown: use one of {', '.join(SPLITS)}")
    if seed is None or seed == SPLITS[name].seed:
        return SPLITS[name]
    if name == "report":
        raise ValueError(f"seed {seed}: split report has one seed, {REPORT.seed}; leave --seed out, or use --split dev")
    return Split(SPLITS[name].name, seed)


def withheld_pairs(split: str) -> Pairs:
    """Return the unseen pairs that absent objects of this split may not have.

    In training an absent unseen pair would teach that such pairs are not there. Elsewhere they are named, so that a
    model that takes every unseen pair for present loses by it.
    """
    return {TRAIN: UNSEEN_PAIRS, RESERVED: frozenset()}.get(split, RESERVED_PAIRS)


def unseen_pairs(split: str) -> Pairs:
    """Return the pairs that training never shows and scenes of this split may: none in training itself."""
    return {TRAIN: frozenset(), RESERVED: RESERVED_PAIRS}.get(split, HELD_OUT_PAIRS)
