"""List every benchmark by name.

Flow: a command names benchmarks -> build_benchmarks -> runner.evaluate.
"""

from collections.abc import Callable, Sequence

from sa2va.evaluation.benchmark import Benchmark, LiveBenchmark
from sa2va.extensions import collect, find_part, load_extensions

# Name -> function (split name, seed, number of items) -> benchmark. Seed None means the seed of the split. Extensions
# list their benchmarks under BENCHMARKS in extension.py.
BENCHMARKS: dict[str, Callable[[str, int | None, int], Benchmark | LiveBenchmark]] = {}


def list_benchmarks(extension: str | None = None) -> list[str]:
    """Return the names of all benchmarks, or of those that one extension adds."""
    if extension is None:
        return [*BENCHMARKS, *collect("BENCHMARKS")]
    return list(getattr(load_extensions().get(extension), "BENCHMARKS", ()))


def build_benchmarks(
    names: Sequence[str] | None = None,
    *,
    extension: str | None = None,
    split: str = "dev",
    seed: int | None = None,
    limit: int = 500,
) -> list[Benchmark | LiveBenchmark]:
    """Build benchmarks by name.

    Args:
        names: from list_benchmarks; None takes all except those that run on request only.
        extension: None takes those of the core and of all extensions.
        split: test set of each benchmark: "dev" to choose by, "report" for figures to quote.
        seed: of generated items; None takes the split's own.
        limit: number of items of each benchmark, >= 1.

    Raises:
        ValueError: an unknown name, or a number out of range.
    """
    if (seed is not None and seed < 0) or limit < 1:
        raise ValueError(f"seed {seed} and items {limit}: expected a seed of at least 0 and at least 1 item")
    chosen = list_benchmarks(extension) if names is None else names
    built = [find_part("benchmark", name, BENCHMARKS)(split, seed, limit) for name in chosen]
    return [one for one in built if names is not None or not (isinstance(one, LiveBenchmark) and one.on_request)]
