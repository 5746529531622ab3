"""Define the model configuration, one frozen dataclass that is saved with the weights.

Flow: config.json <-> Sa2VAConfig -> sa2va.py, processor.py, families/.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sa2va.model.config_limits import COUNT, SHARE, SIDE, Limit, check_number
from sa2va.model.seg_design import SEG_DESIGNS

KEYFRAME_CHOICES = ("uniform", "first", "content")  # see inference/keyframes.py
MAX_PIXELS = 16_384 * 28 * 28  # area limit of the released code, px
LIMITS = {
    "tile_size": SIDE,
    "tokens_per_tile": COUNT,
    "max_tiles": Limit(1, 64),
    "min_pixels": Limit(0, MAX_PIXELS),
    "max_pixels": Limit(0, MAX_PIXELS),
    "num_keyframes": Limit(1, 256),
    "temporal_heads": Limit(0, 64),
    "sure_keyframes": SHARE,
}


@dataclass(frozen=True, kw_only=True)
class Sa2VAConfig:
    """Model configuration: every setting needed to rebuild the model and its processor.

    `mllm` and `sam2` are the native Transformers configurations as plain dictionaries.
    """

    family: str = "internvl"  # a name in families/catalog.py
    mllm: dict[str, Any] = field(default_factory=dict)
    sam2: dict[str, Any] = field(default_factory=dict)
    template: str = "qwen_chat"  # a name in families/templates.py
    system: str = ""  # text of the system turn; empty = no system turn
    question_joint: str = "\n"  # text between the pictures and the question
    tile_size: int = 448  # px, side of one MLLM tile, for families with tiles
    tokens_per_tile: int = 256
    max_tiles: int = 12  # 1 = the picture is resized to a single tile
    min_pixels: int = 0  # px, least area of a picture, for families that take any size
    max_pixels: int = 0  # px, largest area of a picture, for families that take any size
    num_keyframes: int = 5  # frames of a clip that the MLLM reads and [SEG] prompts
    keyframes: str = "uniform"  # selection of these frames; one of KEYFRAME_CHOICES
    sure_keyframes: float = 0.0  # least ratio of a prompting key frame's score to the object's best score
    temporal_heads: int = 0  # heads of the comparison of the frames of a clip, see temporal.py; 0 = none
    seg_design: str = "single"  # a name in seg_design.py: how mask tokens map to frames
    gate_absent: bool = False  # an object with presence < 0.5 in a frame gets an empty mask there

    def __post_init__(self) -> None:
        for name, limit in LIMITS.items():
            check_number(getattr(self, name), limit, name)
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels is {self.min_pixels}; expected at most max_pixels, {self.max_pixels}")
        if not isinstance(self.gate_absent, bool):
            raise ValueError(f"gate_absent is {self.gate_absent!r:.60}; expected true or false")
        for name in ("family", "template", "system", "question_joint"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is {getattr(self, name)!r:.60}; expected a text")
        if self.keyframes not in KEYFRAME_CHOICES:
            raise ValueError(f"keyframes {self.keyframes!r} is unknown; use one of {', '.join(KEYFRAME_CHOICES)}")
        if self.seg_design not in SEG_DESIGNS:
            raise ValueError(f"seg_design {self.seg_design!r} is unknown; use one of {', '.join(SEG_DESIGNS)}")
        for name in ("mllm", "sam2"):
            if not isinstance(getattr(self, name), dict):
                raise ValueError(f"{name} is {getattr(self, name)!r:.60}; expected an object")

    def to_dict(self) -> dict[str, Any]:
        return {"model_type": "sa2va", **asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Sa2VAConfig":
        """Build a config from a dictionary.

        Raises:
            ValueError: a key is unknown, so the file comes from another program or version.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known - {"model_type"})
        if unknown:
            raise ValueError(f"config.json has unknown keys {unknown}; expected a Sa2VA model with {sorted(known)}")
        return cls(**{key: value for key, value in values.items() if key in known})
