"""Report which models run on this machine, before weights are downloaded: `sa2va doctor ByteDance/Sa2VA-4B`.

Flow: name -> config alone (table of released models, folder, or hub) -> checkpoints/footprint.py -> memory of
    each precision and of the machine, what fits; exit code 1 if nothing does, or if the installation is broken.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sa2va.apps.installation import Part, inspect_installation
from sa2va.apps.options import CHECK_FAILED, MODEL_HELP, JsonOption
from sa2va.terminal import in_markup, shown

if TYPE_CHECKING:
    from rich.table import Table

    from sa2va.checkpoints.device import Place
    from sa2va.model.config import Sa2VAConfig


def doctor(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)] = None,
    revision: Annotated[str | None, typer.Option(metavar="NAME", help="Branch, tag or commit on the hub.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="No downloads, not even of a config.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the models that run on this machine, by precision; with MODEL, the memory of each precision.

    No weights are downloaded. The exit code is 1 if nothing fits or a library is broken.
    """
    parts = inspect_installation()
    if any(part.is_broken for part in parts if part.name in ("torch", "transformers")):
        show_installation(parts, as_json)
        raise typer.Exit(CHECK_FAILED)
    from sa2va.checkpoints.device import list_places
    from sa2va.checkpoints.released import RELEASED

    places = list_places()
    if model is None:
        reports = [examine(name, released.config, places) for name, released in RELEASED.items()]
    else:
        reports = [examine(model, read_config(model, revision, offline), places)]
    machine = {"memory": [asdict(place) for place in places], "disk_free": free_disk()}
    if as_json:
        print(json.dumps({"models": reports, "machine": machine, "installation": [asdict(part) for part in parts]}))
    else:
        show(reports, places, parts, in_detail=model is not None)
    broken = any(part.is_broken for part in parts)
    if broken or not any(choice["fits"] for report in reports for choice in report["choices"].values()):
        raise typer.Exit(CHECK_FAILED)


def read_config(model: str, revision: str | None, offline: bool) -> "Sa2VAConfig":
    """Return the config of a model, from the table of released models or from its config files."""
    from sa2va.checkpoints.find import find_model
    from sa2va.checkpoints.folder import has_weights, load_config, open_checkpoint
    from sa2va.checkpoints.hub import fetch, is_hub_name
    from sa2va.checkpoints.released import RELEASED

    if Path(model).is_dir() or not is_hub_name(model):
        folder = find_model(model, revision=revision)
        return open_checkpoint(folder).config if has_weights(folder) else load_config(folder)
    if model in RELEASED and revision is None:
        return RELEASED[model].config
    return load_config(fetch(model, revision=revision, offline=offline, weights=False))


def examine(name: str, config: "Sa2VAConfig", places: "list[Place]") -> dict[str, Any]:
    """Estimate a model's memory in each precision, and the device that it fits."""
    import torch

    from sa2va.checkpoints.device import choose_cpu_dtype
    from sa2va.checkpoints.footprint import CHOICES, find_place, measure, memory_need, to_gib
    from sa2va.checkpoints.released import RELEASED

    size = measure(config, torch.device(places[0].device))
    cpu_dtype, reason = choose_cpu_dtype(size.parameters)
    choices = {}
    for key, choice in CHOICES.items():
        need = memory_need(size, choice)
        choices[key] = {
            "gib": to_gib(need),
            "cache_mib_per_1000_tokens": round(1000 * size.cache_per_token * choice.rest / 2**20, 1),
            "fits": find_place(need, choice, places),
            "options": load_options(choice.dtype, choice.quantize),
        }
    released = RELEASED.get(name)
    return {
        "name": name,
        "family": config.family,
        "parameters": size.parameters,
        "language": released.language if released else None,
        "terms": released.terms if released else None,
        "largest_download_gib": round(size.parameters * 4 / 2**30, 1),
        "cpu_dtype": {"auto": str(cpu_dtype).removeprefix("torch."), "reason": reason},
        "choices": choices,
    }


def load_options(dtype: str, quantize: str | None) -> str:
    """Format a precision as command-line options."""
    return f"--dtype {dtype}" + (f" --quantize {quantize}" if quantize else "")


def free_disk() -> int:
    """Return the free space of the hub's cache folder, in bytes."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


# ---- tables and text


def show(reports: list[dict[str, Any]], places: "list[Place]", parts: list[Part], *, in_detail: bool) -> None:
    from rich.console import Console

    from sa2va.checkpoints.device import GIB

    console = Console(highlight=False)
    console.print(needs_table(reports[0]) if in_detail else overview_table(reports))
    if in_detail:
        console.print(advice(reports[0], places), markup=False)
    console.print("\n[bold]This machine[/bold]")
    for place in places:
        known = f"{place.free / GIB:.1f} of {place.total / GIB:.1f} GiB free" if place.total else "memory unknown"
        console.print(f"  {place.device}: {place.name}, {known}")
    console.print(f"  disk: {free_disk() / GIB:.1f} GiB free for downloads")
    print_parts(parts)


def needs_table(report: dict[str, Any]) -> "Table":
    """Build the memory table of one model, a row for each precision."""
    from rich.table import Table

    number = report["parameters"]
    size = f"{number / 1e9:.2f} billion" if number > 1e8 else f"{number / 1e6:.2f} million"
    words = [report["family"], report["language"], f"{size} parameters"]
    title = in_markup(f"{report['name']}: {', '.join(word for word in words if word)}")
    if report["terms"]:
        title += f"\nterms: {in_markup(report['terms'])}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("GiB")
    for name in ("vision", "language", "SAM 2", "KV cache", "working", "total"):
        table.add_column(name, justify="right")
    table.add_column("fits")
    digits = 2 if number > 1e8 else 3
    for key, choice in report["choices"].items():
        table.add_row(key, *(f"{value:.{digits}f}" for value in choice["gib"].values()), choice["fits"] or "-")
    return table


def overview_table(reports: list[dict[str, Any]]) -> "Table":
    """Build the table of released models: total memory and fitting device of each precision."""
    from rich.table import Table

    table = Table(title="GiB in memory, and where that fits", title_justify="left", box=None, pad_edge=False)
    table.add_column("model", no_wrap=True)
    for key in reports[0]["choices"]:
        table.add_column(key, justify="right")
    marks: dict[str, str] = {}  # license terms -> footnote mark; most models share the first
    for report in reports:
        mark = marks.setdefault(report["terms"], "*" * len(marks))
        cells = [f"{c['gib']['total']:.1f} {c['fits'] or '-'}" for c in report["choices"].values()]
        table.add_row(in_markup(report["name"]) + mark, *cells)
    table.caption = "\n".join(f"{mark or 'terms:'} {terms}" for terms, mark in marks.items())
    table.caption_justify = "left"
    return table


def advice(report: dict[str, Any], places: "list[Place]") -> str:
    """Suggest a command for one model, with notes on its memory."""
    largest = f"largest possible download: {report['largest_download_gib']} GiB"
    cache = ", ".join(
        f"{c['cache_mib_per_1000_tokens']} MiB in {key}" for key, c in list(report["choices"].items())[:2]
    )
    working = "working: one picture at full resolution, or the key frames of a clip"
    notes = f"KV cache: {cache} per 1,000 further tokens; {working}; {largest}"
    fitting = [choice for choice in report["choices"].values() if choice["fits"]]
    if not fitting:
        return f"{notes}\nNothing fits. Take a smaller model: sa2va doctor lists them."
    # float32 is not suggested where 16 bits are twice as fast: on a GPU, and on a CPU that multiplies bfloat16.
    full, cpu = load_options("float32", None), report["cpu_dtype"]
    slow = [] if cpu["auto"] == "bfloat16" else ["cpu"]
    best = next((c for c in fitting if c["fits"] not in slow and c["options"] != full), fitting[0])
    if best["fits"] == "cpu":
        notes += f"\n--dtype auto on this CPU: {cpu['auto']}; {cpu['reason']}"
    is_default = best["fits"].startswith("cuda") or best["fits"] == places[0].device
    device = "" if is_default else f" --device {best['fits']}"
    return f"{notes}\nTry: sa2va chat photo.jpg --model {shown(report['name'])} {best['options']}{device}"


def show_installation(parts: list[Part], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"models": [], "machine": {}, "installation": [asdict(part) for part in parts]}))
    else:
        print_parts(parts)


def print_parts(parts: list[Part]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    good = ", ".join(f"{part.name} {part.version}" for part in parts if part.problem is None)
    console.print(f"\n[bold]Installed[/bold]\n  {good}")
    for part in parts:
        if part.problem is not None:
            color = "red" if part.is_broken else "dim"
            console.print(f"  [{color}]{part.name}[/{color}] {in_markup(part.problem)}")
