"""Define the options of commands that spread their items over processes or over actors on Ray.

Flow: --shard, --ray, --workers, --gpus-per-worker, or the environment of torchrun -> Spread -> a Shard, or Ray.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sa2va.apps.options import require_finite

if TYPE_CHECKING:
    from sa2va.evaluation.store import Shard

PANEL = "Batches and processes"


def spread_option(name: str, metavar: str | None, text: str, **how: Any) -> Any:
    return typer.Option(name, metavar=metavar, help=text, rich_help_panel=PANEL, **how)


def check_share(number: float | None) -> float | None:
    return None if number is None else require_finite(number)


@dataclass(frozen=True)
class Spread:
    """Processes of a run, as options."""

    shard: Annotated[str | None, spread_option("--shard", "i/n", "Every n-th batch from the i-th on.")] = None
    ray: Annotated[str | None, spread_option("--ray", "ADDRESS", "Ray cluster; local: this machine.")] = None
    workers: Annotated[int | None, spread_option("--workers", None, "Actors on Ray; one per GPU.", min=1)] = None
    gpus_per_worker: Annotated[
        float | None,
        spread_option("--gpus-per-worker", None, "GPUs of an actor.", min=0, callback=check_share),
    ] = None

    def find_shard(self) -> "Shard":
        """Return the part of --shard or of torchrun's environment.

        Raises:
            ValueError: a malformed shard, or options that exclude each other.
        """
        from sa2va.evaluation.store import Shard

        if self.ray is None:
            if not (self.workers is self.gpus_per_worker is None):
                raise ValueError("--workers and --gpus-per-worker belong to Ray; add --ray local, or use --shard")
            return Shard.parse(self.shard)
        if self.shard is not None:
            raise ValueError("--ray and --shard exclude each other; leave one out")
        return Shard()
