"""Answer the blocks of a bulk run with a pool of actors on Ray, on one machine or a cluster.

Flow: blocks -> Ray Data -> map_batches over actors, each with a Worker -> finished blocks, in any order.
    An actor writes its parts itself, whole or not at all, and skips those that are there. Ray Data starts a dead actor
    again and repeats its task as often as it takes; a block that is tried twice is written once.
Source: Ray Data (https://docs.ray.io/en/latest/data/data.html).
"""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sa2va.bulk.sources import needs_bulk
from sa2va.bulk.worker import Done, Job, Worker

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOCAL = "local"
CONNECT_SECONDS = 5.0
TASKS_PER_WORKER = 16  # a task is some blocks; more of them are shared out more evenly, and cost Ray more


class BlockActor:
    """Actor with a model of its own; a callable of `map_batches`."""

    def __init__(self, job: Job) -> None:
        self.worker = Worker(job)

    def __call__(self, batch: "dict[str, NDArray[Any]]") -> dict[str, list[int]]:
        done = [asdict(self.worker.run(int(block))) for block in batch["block"]]
        return {name: [one[name] for one in done] for name in done[0]}


def answer_on_ray(
    job: Job, blocks: Sequence[int], address: str, *, num_workers: int | None = None, num_gpus: float | None = None
) -> Iterator[Done]:
    """Answer blocks with a pool of actors.

    Args:
        job: its folder, store and model must be reachable from every machine of the cluster.
        blocks: numbers of the blocks.
        address: of the cluster, as for `ray.init`; "local" starts Ray on this machine.
        num_workers: number of actors; None = as many as the GPUs carry, 1 without GPUs.
        num_gpus: of one actor, such as 0.5; None = 1 if the cluster has GPUs.

    Raises:
        ValueError: Ray is not installed or not reachable, or a block failed.
    """
    if not blocks:
        return
    with needs_bulk():
        import ray
    from ray.exceptions import RayError

    require_reachable(address)
    _connect(address, num_workers)
    try:
        all_gpus = ray.cluster_resources().get("GPU", 0.0)
        per_worker = (1.0 if all_gpus else 0.0) if num_gpus is None else num_gpus
        size = num_workers or (max(1, int(all_gpus / per_worker)) if per_worker else 1)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = [{"block": block} for block in blocks]
        found = ray.data.from_items(rows, override_num_blocks=min(len(rows), size * TASKS_PER_WORKER)).map_batches(
            BlockActor,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            fn_constructor_args=(job,),
            num_gpus=per_worker,
        )
        for row in found.iter_rows():
            yield Done(**{name: int(value) for name, value in row.items()})
    except RayError as error:
        reason = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
        raise ValueError(f"Ray: a worker failed ({reason}); the same command again resumes") from error
    finally:
        ray.shutdown()


def require_reachable(address: str) -> None:
    """Refuse the HOST:PORT of a cluster that does not answer; Ray itself would try for minutes.

    Raises:
        ValueError: nothing listens there.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        return  # "local", "auto" or ray://
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from None


def _unreachable(address: str, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())
    return ValueError(f"--ray {address}: cannot be reached ({reason:.200}); start it: ray start --head")


def _connect(address: str, num_workers: int | None) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default, which a warning announces
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports its use to its makers otherwise
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else Ray Data's own actors cause an error message
    try:
        if address == LOCAL:
            # An actor takes a core of Ray's count, and a small machine may be asked for more actors than cores.
            cores = max(os.cpu_count() or 1, (num_workers or 1) + 1)
            ray.init(address=LOCAL, num_cpus=cores, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _unreachable(address, error) from None
