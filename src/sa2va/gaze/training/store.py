"""Keep what a frozen Sa2VA makes of many drawn expressions, so that training need not ask it twice.

Flow: (seed, split) -> fill: shards of drawn gaze, shards of what Sa2VA heard (half precision) -> read -> Store
    -> stored.py, evaluation. A shard that is there is not made again, so that a killed run goes on; several processes
    may share the work.
Shapes: N expressions, V people of each, P packs, g h g w grid of cells on the canvas, C = g h * g w, S width of the
    language model, I image channels.
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

SHARD = 50  # expressions of one file
TOGETHER = 10  # expressions that are heard at once
HEARD = ("states", "beliefs", "coarse", "fine")
EVENT = "event."


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """Which expressions and people a store holds."""

    seed: int = 0  # of the drawn world
    split: str = "train"  # never shows a held-out pair of color and shape; any other name is another split
    num_cases: int = 4000  # N, rounded up to whole shards; may grow
    num_people: int = 10  # V

    @property
    def num_shards(self) -> int:
        return -(-self.num_cases // SHARD)

    def signature(self, grid: Grid) -> dict[str, str]:
        """What shards of one store have in common."""
        return {
            "drawn world": f"{self.split}, seed {self.seed}",
            "people": str(self.num_people),
            "cell": str(grid.cell),
            "first pack": "until the first onset",  # older shards have it end at 50 ms
        }


@dataclass(frozen=True)
class Store:
    """N expressions in memory."""

    config: StoreConfig
    gaze: DrawnGaze
    heard: dict[str, Tensor] | None  # states (N, P, S), beliefs (N, P, g h, g w), coarse, fine; None: nobody listened

    def __len__(self) -> int:
        return len(self.gaze.target)

    def find(self, case: str) -> int:
        """Place of a case of the drawn world, by its name.

        Raises:
            ValueError: the store does not hold it.
        """
        *_, seed, index = case.split("/")
        split = case.removeprefix("world/").removesuffix(f"/{seed}/{index}")
        if (split, int(seed)) != (self.config.split, self.config.seed) or int(index) >= len(self):
            raise ValueError(f"case {case}: the store holds {len(self)} of {self.config.split}/{self.config.seed}")
        return int(index)

    def grounding(self, index: Tensor, beliefs: Beliefs) -> Grounding:
        """What is known of some of the expressions, (B,), and of no more packs than they have.

        Args:
            index: (B,) of the expressions.
            beliefs: whose.
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
        """Some people's look, (B, V') of the V, at expressions (B,) that were heard: B * V' scanpaths."""
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
    """Make the shards that are not there yet.

    Args:
        folder: of the store.
        config: what it holds.
        grid: of cells on the canvas.
        model: who listens; None leaves that out.
        turn: (which, of how many) processes that share the work.
        tell: is told what has been made.

    Raises:
        ValueError: the folder holds shards of another store, or of another model.
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
    """Read a store that `fill` has made.

    Raises:
        ValueError: a shard is missing, damaged, or of another store or model.
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
    """Put shards one after the other; packs and tokens that a shard does not have repeat its last one or are blank."""
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
