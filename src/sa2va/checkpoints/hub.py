"""Download a model from a hub: weights, configs and tokenizer files, never code.

Flow: "org/name" -> snapshot in the hub's cache, resumed after an interruption -> local folder -> folder.py.
"""

import errno
import os
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
DESCRIPTIONS = ("*.json", "*.jinja", "*.model", "merges.txt")  # configs and tokenizer files
WEIGHTS = ("*.safetensors",)
OFFLINE_SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")

_WAIT: ContextVar[float | None] = ContextVar("seconds that a hub may be silent", default=None)
_LOCK = threading.Lock()
_limited: Any = None  # our client factory, once it is installed


@contextmanager
def limited_waiting(seconds: float) -> Generator[None]:
    """Set a timeout for the hub requests of this thread that have none.

    The library lists a repository and its files without a timeout; downloads have one of their own.
    """
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    def limit(request: Any) -> None:
        wait, limits = _WAIT.get(), request.extensions.get("timeout") or {}
        if wait is not None:
            limits = {phase: limits.get(phase) or wait for phase in ("connect", "read", "write", "pool")}
            request.extensions["timeout"] = limits

    global _limited
    with _LOCK:
        make = _http._GLOBAL_CLIENT_FACTORY  # set by the library or a user; there is no public getter
        if make is not _limited:

            def make_limited() -> Any:
                client = make()
                hooks = client.event_hooks
                client.event_hooks = {**hooks, "request": [*hooks["request"], limit]}
                return client

            _limited = make_limited
            set_client_factory(make_limited)
    token = _WAIT.set(seconds)
    try:
        yield
    finally:
        _WAIT.reset(token)


def is_hub_name(name: str) -> bool:
    """Return whether a name has the form "org/name"; the path of a local folder may have it too."""
    return HUB_NAME.fullmatch(name) is not None


def fetch(name: str, *, revision: str | None = None, offline: bool = False, weights: bool = True) -> Path:
    """Download the files of a model, unless they are cached, and return their folder.

    Only safetensors, configs and tokenizer files at the top of the repository are downloaded, never a file that could
    hold code (.py, .bin, .pt). If the hub cannot be reached, a complete cached copy is used.

    Args:
        name: "org/name"; the hub is HF_ENDPOINT, or else huggingface.co.
        revision: branch, tag or commit; None = "main".
        offline: use only cached files.
        weights: False leaves out the safetensors.

    Raises:
        ValueError: the model or revision is unknown or gated, the hub does not answer in time and no copy is cached,
            the disk is full, or the model has no safetensors.
    """
    from httpx2 import TimeoutException
    from huggingface_hub import constants, errors, snapshot_download

    host = os.environ.get("HF_ENDPOINT", constants.ENDPOINT)
    wait = constants.HF_HUB_ETAG_TIMEOUT
    try:
        with limited_waiting(wait):
            folder = Path(
                snapshot_download(
                    name,
                    revision=revision,
                    endpoint=host,
                    etag_timeout=wait,
                    local_files_only=offline,
                    allow_patterns=[*DESCRIPTIONS, *(WEIGHTS if weights else ())],
                    ignore_patterns=["*/*"],
                )
            )
    except errors.GatedRepoError as error:
        raise ValueError(f"{name} is gated; accept its terms on {host}/{name}, then run: hf auth login") from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{name} has no revision {revision!r}; see {host}/{name}/commits/main") from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(f"no folder and no model on {host} is called {name!r}; check the name, or log in") from error
    except errors.LocalEntryNotFoundError as error:
        wanted = f"{name} at revision {revision!r}" if revision else name
        silent = isinstance(error.__cause__, TimeoutException)
        reason = f"{host} " + (f"did not answer within {wait} s" if silent else "cannot be reached")
        raise ValueError(_why_not_here(wanted, reason, offline=offline)) from error
    except TimeoutException as error:
        raise ValueError(f"{host} stopped answering while {name} was downloaded; repeat the call to resume") from error
    except (OSError, errors.HTTPError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            cache = constants.HF_HUB_CACHE
            raise ValueError(f"no space left in {cache} for {name}; make room or set HF_HOME elsewhere") from error
        reason = " ".join(str(error).split())
        raise ValueError(f"the download of {name} was interrupted ({reason}); repeat the call to resume") from error
    if not any(path.suffix in (".json", ".safetensors") for path in folder.glob("*")):
        raise ValueError(f"{name} holds no model: no config and no safetensors")
    if weights and not any(folder.glob("*.safetensors")):
        raise ValueError(f"{name} has no *.safetensors; other weight files can run code and are never read")
    return folder


def _why_not_here(wanted: str, reason: str, *, offline: bool) -> str:
    """Explain why a model is neither cached nor downloaded, and what to do."""
    from huggingface_hub import constants

    if offline:
        return f"{wanted} is not on this machine; load it once without offline"
    if constants.HF_HUB_OFFLINE:
        switch = next((each for each in OFFLINE_SWITCHES if os.environ.get(each)), OFFLINE_SWITCHES[0])
        return f"{wanted} is not on this machine, and {switch} is set; unset it"
    return (
        f"{reason}, and {wanted} is not on this machine; check the network and HF_ENDPOINT, "
        "or give the folder of a copy"
    )
