"""List every benchmark by name. Open this first.

Flow: a command names benchmarks -> build_benchmarks -> runner.evaluate.
Shapes: none.
"""

from collections.abc import Callable, Sequence

from sa2va.evaluation.benchmark import Benchmark, LiveBenchmark
from sa2va.world.benchmarks import long
from sa2va.world.benchmarks import short as world
from sa2va.world.scenes.splits import DEV, Split

# Name -> function of a split and a number of items.
BENCHMARKS: dict[str, Callable[[Split, int], Benchmark | LiveBenchmark]] = {
    "world/referring": world.referring,
    "world/heldout": world.heldout,
    "world/reserved": world.reserved,
    "world/kinds": world.kinds,
    "world/absent": world.absent,
    "world/groups": world.groups,
    "world/calibration": world.calibration,
    "world/conversation": world.conversation,
    "world/grounded_caption": world.grounded_caption,
    "world/region": world.region,
    "world/caption": world.caption,
    "world/video": world.video,
    "world/occlusion": world.occlusion,
    "world/long": long.long_clips,
    "world/video_conversation": world.video_conversation,
    "world/video_caption": world.video_caption,
}
BY_NAME_ONLY = ("world/long",)  # takes minutes, where a demonstration has seconds


def build_benchmarks(
    names: Sequence[str] | None = None, *, split: Split = DEV, num_items: int = 500
) -> list[Benchmark | LiveBenchmark]:
    """Build benchmarks by name.

    Args:
        names: keys of BENCHMARKS; None takes all but those of BY_NAME_ONLY.
        split: of the drawn world.
        num_items: of each benchmark, >= 1; long clips are fewer.

    Raises:
        ValueError: a name that is not there, or a number out of range.
    """
    unknown = [name for name in names or () if name not in BENCHMARKS]
    if unknown:
        raise ValueError(f"benchmark {unknown[0]!r} is unknown: use one of {', '.join(BENCHMARKS)}")
    if split.seed < 0 or num_items < 1:
        raise ValueError(f"seed {split.seed} and items {num_items}: expected a seed of at least 0 and at least 1 item")
    usual = [name for name in BENCHMARKS if name not in BY_NAME_ONLY]
    return [BENCHMARKS[name](split, num_items) for name in names or usual]
