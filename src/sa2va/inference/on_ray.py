"""Do numbered pieces of work with a pool of actors on Ray, on one machine or a cluster.

Flow: numbers -> Ray Data -> map_batches over actors, each with a model of its own -> what each piece returned, in any
    order. An actor writes its results itself and skips those that are there: Ray Data starts a dead actor again and
    repeats its piece as often as it takes.
Source: Ray Data (https://docs.ray.io/en/latest/data/data.html).
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sa2va.extras import needs

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOCAL = "local"
CONNECT_SECONDS = 5.0
TASKS_PER_WORKER = 16  # a task is some pieces; more of them are shared out more evenly, and cost Ray more

Work = Callable[[int], dict[str, int]]  # number of a piece -> counts


class Actor:
    """Actor that does pieces of work; a callable of `map_batches`."""

    def __init__(self, build: Callable[[], Work]) -> None:
        self.work = build()

    def __call__(self, batch: "dict[str, NDArray[Any]]") -> dict[str, list[int]]:
        done = [self.work(int(number)) for number in batch["number"]]
        return {name: [one[name] for one in done] for name in done[0]}


def map_on_ray(
    build: Callable[[], Work],
    numbers: Sequence[int],
    address: str,
    *,
    num_workers: int | None = None,
    num_gpus: float | None = None,
) -> Iterator[dict[str, int]]:
    """Do pieces of work with a pool of actors.

    Args:
        build: makes the work of an actor, once; what it reads must be reachable from every machine of the cluster.
        numbers: of the pieces.
        address: of the cluster, as for `ray.init`; "local" starts Ray on this machine.
        num_workers: number of actors; None = as many as the GPUs carry, 1 without GPUs.
        num_gpus: of one actor, such as 0.5; None = 1 if the cluster has GPUs.

    Raises:
        ValueError: Ray is not installed or not reachable, or a piece failed.
    """
    if not numbers:
        return
    with needs("bulk"):
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
        rows = [{"number": number} for number in numbers]
        found = ray.data.from_items(rows, override_num_blocks=min(len(rows), size * TASKS_PER_WORKER)).map_batches(
            Actor,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            fn_constructor_args=(build,),
            num_gpus=per_worker,
        )
        for row in found.iter_rows():
            yield {name: int(value) for name, value in row.items()}
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
