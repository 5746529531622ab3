"""Precompute the outputs of a frozen Sa2VA on many expressions, for training and evaluation without it.

Flow: (seed, split) -> fill: shards of simulated gaze, shards of groundings (half precision) -> read -> Store
    -> stored.py, evaluation/. Existing shards are kept, so an interrupted run resumes; several processes may share the
    work.
Shapes: N expressions, V observers of each, P packs, g h g w grid of cells on the canvas, C = g h * g w, S width of the
    language model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sa2va.checkpoints.shards import save_tensors
from sa2va.gaze.model.density import Grid
from sa2va.gaze.model.events import NO_LABEL, EventBatch
from sa2va.gaze.model.scanpath_model import Grounding, ScanpathModel, fingerprint
from sa2va.gaze.simulator.cases import make_case
from sa2va.gaze.training.simulated import Beliefs, DrawnGaze, draw_gaze, draw_viewings
from sa2va.model.sa2va import Sa2VA
from sa2va.world.tasks.items import SIDE

SHARD = 50  # expressions per file
TOGETHER = 10  # expressions per batch of the model
HEARD = ("states", "beliefs", "coarse", "fine")
EVENT = "event."


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """Content of a store: split and seed of the scenes, numbers of expressions and observers."""

    seed: int = 0  # random seed of the scenes
    split: str = "train"  # "train" has no held-out pair of color and shape; any other name is another split
    num_cases: int = 4000  # N, rounded up to whole shards; may be increased later
    num_people: int = 10  # V

    @property
    def num_shards(self) -> int:
        return -(-self.num_cases // SHARD)

    def signature(self, grid: Grid) -> dict[str, str]:
        """Return the metadata that all shards of a store share."""
        return {
            "drawn world": f"{self.split}, seed {self.seed}",
            "people": str(self.num_people),
            "cell": str(grid.cell),
            "first pack": "until the first onset",  # in older shards it ends at 50 ms
        }


@dataclass(frozen=True)
class Store:
    """Store of N expressions, loaded into memory."""

    config: StoreConfig
    gaze: DrawnGaze
    heard: dict[str, Tensor] | None  # states (N, P, S), beliefs (N, P, g h, g w), coarse, fine; None = no model

    def __len__(self) -> int:
        return len(self.gaze.target)

    def find(self, case: str) -> int:
        """Return the index of a simulated case, parsed from its name.

        Raises:
            ValueError: the case is not in the store.
        """
        *_, seed, index = case.split("/")
        split = case.removeprefix("world/").removesuffix(f"/{seed}/{index}")
        if (split, int(seed)) != (self.config.split, self.config.seed) or int(index) >= len(self):
            raise ValueError(
                f"case {case}: the store holds cases 0..{len(self) - 1} of {self.config.split}/{self.config.seed}"
            )
        return int(index)

    def grounding(self, index: Tensor, beliefs: Beliefs) -> Grounding:
        """Return beliefs and model states of some expressions, cut to their largest number of packs.

        Args:
            index: (B,) indices of the expressions.
            beliefs: source of the beliefs.
        """
        known = self.gaze.known[index]
        most = int(known.sum(1).max())
        if beliefs == "target":
            maps = self.gaze.target[index, None].expand(-1, most, -1, -1).float()
        elif beliefs == "possible":
            maps = self.gaze.possible[index, :most].float()
        else:
            assert self.heard is not None
            maps = self.heard["beliefs"][index, :most].float()
        heard = {name: value[index].float() for name, value in (self.heard or {}).items() if name != "beliefs"}
        return Grounding(
            states=heard["states"][:, :most] if heard else None,
            beliefs=maps,
            coarse=heard.get("coarse"),
            fine=heard.get("fine"),
            known=known[:, :most],
            image_size=(SIDE, SIDE),
        )

    def scanpaths(self, index: Tensor, people: Tensor, heard: Grounding) -> EventBatch:
        """Return the scanpaths of observers (B, V') at expressions (B,), with their groundings: B * V' rows."""
        batch = self.gaze.events.rows((index[:, None] * self.config.num_people + people).flatten())
        owner = torch.arange(len(index)).repeat_interleave(people.shape[1])
        states = None if heard.states is None else heard.states[owner]
        return replace(batch, beliefs=heard.beliefs[owner], states=states, cover=self.gaze.target[index[owner]].float())


def fill(
    folder: Path,
    config: StoreConfig,
    grid: Grid,
    model: ScanpathModel | None,
    *,
    turn: tuple[int, int] = (0, 1),
    tell: Callable[[str], None] | None = None,
) -> None:
    """Write the missing shards.

    Args:
        folder: folder of the store.
        config: content of the store.
        grid: grid of cells on the canvas.
        model: computes the groundings; None leaves them out.
        turn: (rank, number) of the processes that share the work.
        tell: callback for one progress line per shard.

    Raises:
        ValueError: a shard cannot be written.
    """
    signature = config.signature(grid)
    listener = {} if model is None else {"model": fingerprint(model.sa2va)}
    for number in range(turn[0], config.num_shards, turn[1]):
        indices = range(number * SHARD, (number + 1) * SHARD)
        path = _shard(folder, "drawn", number)
        if not path.exists():
            save_tensors(path, _drawn_tensors(config, grid, indices), signature)
        if model is not None and not _shard(folder, "heard", number).exists():
            save_tensors(_shard(folder, "heard", number), _heard_tensors(config, indices, model), signature | listener)
        if tell is not None:
            tell(f"gaze store: {number + 1} of {config.num_shards} shards")


def read(folder: Path, config: StoreConfig, grid: Grid, model: Sa2VA | None) -> Store:
    """Read a store that `fill` has written.

    Raises:
        ValueError: a shard is missing, damaged, or from another store or model.
    """
    signature = config.signature(grid)
    numbers = range(config.num_shards)
    parts = _joined([_read(_shard(folder, "drawn", number), signature) for number in numbers])
    heard = None
    if model is not None:
        wanted = signature | {"model": fingerprint(model)}
        heard = _joined([_read(_shard(folder, "heard", number), wanted) for number in numbers])
    events = {name.removeprefix(EVENT): value for name, value in parts.items() if name.startswith(EVENT)}
    flat = {name: value.flatten(0, 1) for name, value in events.items()}
    gaze = DrawnGaze(
        **{name: parts[name] for name in ("possible", "target", "crowd", "known")},
        events=EventBatch(beliefs=torch.zeros(len(flat["facts"]), 0), **flat),
    )
    return Store(config, gaze, heard)


def _drawn_tensors(config: StoreConfig, grid: Grid, indices: Sequence[int]) -> dict[str, Tensor]:
    groups = [draw_viewings(config.seed, config.split, index, config.num_people) for index in indices]
    gaze = draw_gaze(groups, grid)
    maps = {name: getattr(gaze, name).half() for name in ("possible", "target", "crowd")}
    shape = (len(indices), config.num_people)
    events = {
        EVENT + name: value.unflatten(0, shape) for name, value in gaze.events.tensors.items() if name != "beliefs"
    }
    return maps | {"known": gaze.known} | events


@torch.no_grad()
def _heard_tensors(config: StoreConfig, indices: Sequence[int], model: ScanpathModel) -> dict[str, Tensor]:
    cases = [make_case(config.seed, config.split, index) for index in indices]
    parts = []
    for begin in range(0, len(cases), TOGETHER):
        some = cases[begin : begin + TOGETHER]
        heard = model.ground([case.frame[None] for case in some], [case.expression.words for case in some])
        parts.append({name: getattr(heard, name).half().cpu() for name in HEARD})
    return _joined(parts)


def _joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Concatenate shards; shorter ones repeat their last pack, or are padded with blank packs and tokens."""
    joined = {}
    for name in parts[0]:
        values = [part[name] for part in parts]
        if name in ("states", "beliefs", "possible", "crowd"):
            most = max(value.shape[1] for value in values)
            values = [torch.cat([v, v[:, -1:].expand(-1, most - v.shape[1], *v.shape[2:])], 1) for v in values]
        elif name == "known" or name.startswith(EVENT):
            axis = 1 if name == "known" else 2
            most = max(value.shape[axis] for value in values)
            blank = NO_LABEL if name == EVENT + "label" else 0
            values = [F.pad(v, (0, 0) * (v.ndim - axis - 1) + (0, most - v.shape[axis]), value=blank) for v in values]
        joined[name] = torch.cat(values)
    return joined


def _shard(folder: Path, kind: str, number: int) -> Path:
    return folder / f"{kind}-{number:05d}.safetensors"


def _read(path: Path, signature: dict[str, str]) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as shard:
            found = shard.metadata() or {}
            for name, wanted in signature.items():
                if found.get(name) != wanted:
                    raise ValueError(
                        f"{path}: made with {name} {found.get(name)}, this run has {wanted}; use another output folder"
                    )
            return {name: shard.get_tensor(name) for name in shard.keys()}
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); delete it, and the run makes it again") from error
