"""Find the folder of a model by its name: embedded, on this machine, or downloaded from a hub.

Flow: name -> find_model -> hub.py for a name that is no folder -> folder -> folder.py.
"""

from pathlib import Path

from sa2va.checkpoints.hub import fetch, is_hub_name

EMBEDDED = {"tiny": Path(__file__).parents[1] / "weights" / "tiny"}


def find_model(name: str | Path, *, revision: str | None = None, offline: bool = False) -> Path:
    """Return the folder of a model; download it if it is not on this machine.

    Args:
        name: name of an embedded model, path of a folder, or "org/name" on a hub.
        revision: branch, tag or commit of the hub's model.
        offline: no downloads.

    Raises:
        ValueError: there is no such model, or it cannot be fetched.
    """
    name = str(name)
    if not name:
        raise ValueError(f"the name of the model is empty; use {', '.join(EMBEDDED)}, a model folder, or org/name")
    folder = EMBEDDED.get(name, Path(name))
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"{name} is on this machine and has no revision {revision!r}; leave revision out")
        return folder
    if is_hub_name(name):
        return fetch(name, revision=revision, offline=offline)
    raise ValueError(f"no model {name!r}; use {', '.join(EMBEDDED)}, a model folder, or org/name on the hub")
