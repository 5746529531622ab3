"""Fine-tune on own data: `sa2va finetune --data PATH -o OUT`.

Flow: own data, base model -> held-out figures of the base -> training/finetune.py -> an adapter in OUT -> held-out
    figures again, contact sheet, report.json. The same command resumes; each part that is done already is kept.
"""

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sa2va.apps.options import MODEL_HELP, JsonOption, QuietOption, parse_path
from sa2va.apps.report import remark, say
from sa2va.files.atomic import write_text
from sa2va.files.json_file import read_json

if TYPE_CHECKING:
    from sa2va.data.own.dataset import OwnDataset
    from sa2va.evaluation.benchmark import Record
    from sa2va.inference.predictor import Predictor
    from sa2va.training.finetune import FinetuneRun

MARK, BEFORE, AFTER, REPORT, SHEET = "finetune.json", "before.json", "after.json", "report.json", "contact_sheet.png"
WEIGHTS = "adapter_model.safetensors"
NUM_CATEGORIES = 8  # most frequent categories that are printed


def finetune(
    data: Annotated[
        Path,
        typer.Option("--data", metavar="PATH", parser=parse_path, help="Own pictures or clips with masks."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", parser=parse_path, help="Folder of the adapter.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Settings of the recipe to override.")
    ] = None,
    base: Annotated[str, typer.Option(metavar="NAME", help=f"Base model: {MODEL_HELP}")] = "tiny",
    recipe: Annotated[
        str, typer.Option(help="light: some pictures of something new. deep: hundreds of a new kind of pictures.")
    ] = "light",
    items: Annotated[int, typer.Option(min=1, help="Held-out records to measure before and after.")] = 200,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fine-tune a model on your own pictures or clips; the result is an adapter for --adapter.

    Reads COCO JSON, YOLO segmentation, LabelMe, CVAT, index masks and clips with masks. Your files are not changed.
    The same command again resumes where it stopped.
    """
    from sa2va.training.config import refuse_two_outputs
    from sa2va.training.finetune import configure
    from sa2va.training.run import train_run

    refuse_two_outputs(settings or [], str(output))
    run = configure(recipe, str(data), base, settings or [])
    claim_output(output, run)
    train, held_out = run.own_data.open_plain("train"), run.own_data.open_plain("val")
    for line in [*describe_data(run, train, held_out), describe_training(run)]:
        remark(line, quiet)
    measured = Measured(run, train, held_out, items, quiet)
    before = measured.answer(output / BEFORE, run.adapter or None)
    train_run(run, output, quiet)
    after = measured.answer(output / AFTER, str(output))
    measured.draw_sheet(output, after)
    report = measured.report(before, after) | {"adapter_bytes": (output / WEIGHTS).stat().st_size}
    write_text(output / REPORT, json.dumps(report, indent=1, allow_nan=False) + "\n")
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        say(summarize(report, run, output))


def claim_output(output: Path, run: "FinetuneRun") -> None:
    """Mark the folder as that of a run on this data and base.

    Raises:
        ValueError: the folder holds other files, or a run on other data or another base.
    """
    mine = {"data": str(Path(run.data).resolve()), "base": run.start, "recipe": run.name}
    mark = output / MARK
    if mark.is_file():
        found = read_json(mark)
        for name, value in mine.items():
            if found.get(name) != value:
                raise ValueError(
                    f"{output} holds a run with {name} {found.get(name)}, not {value}; choose another folder"
                )
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        held = f"other files, such as {min(output.iterdir()).name}" if output.is_dir() else "a file"
        raise ValueError(f"{output}: expected a new or empty folder; it is {held}; choose another")
    write_text(mark, json.dumps(mine, indent=1) + "\n")


def describe_data(run: "FinetuneRun", train: "OwnDataset", held_out: "OwnDataset") -> list[str]:
    """Describe what was found: format, pictures, objects, categories, expressions and split."""
    from sa2va.data.own.catalog import detect

    items = [item for part in (train, held_out) for item in part.annotations.items]
    counts = Counter(one.category or "unnamed" for item in items for one in item.objects)
    clips = sum((item.media.num_frames or 1) > 1 for item in items)
    kinds = [f"{number:,} {name}" for number, name in ((len(items) - clips, "pictures"), (clips, "clips")) if number]
    common = ", ".join(f"{name} {number:,}" for name, number in counts.most_common(NUM_CATEGORIES))
    more = f" and {len(counts) - NUM_CATEGORIES} more" if len(counts) > NUM_CATEGORIES else ""
    split = (
        "its own split" if held_out.annotations.is_split else f"own.held_out={run.own.held_out:g}, seed {run.own.seed}"
    )
    name = detect(Path(run.data)) if run.own.format == "auto" else run.own.format
    lines = [
        f"found: {name}, {' and '.join(kinds)}, {counts.total():,} objects; categories: {common}{more}",
        f"training on {describe_part(train)}; held out: {describe_part(held_out)} ({split})",
    ]
    return [*lines, *(f"note: {value:,} {key}" for key, value in count_notes(train, held_out).items())]


def count_notes(train: "OwnDataset", held_out: "OwnDataset") -> Counter[str]:
    """Add up the notes of both parts; each has those of all data if the format has no split of its own."""
    parts = (train, held_out) if held_out.annotations.is_split else (train,)
    return sum((Counter(part.annotations.notes) for part in parts), Counter[str]())


def describe_part(dataset: "OwnDataset") -> str:
    number = sum(len(record.expressions) for record in dataset.records)
    return f"{number:,} expressions in {len(dataset):,} pictures or clips"


def describe_training(run: "FinetuneRun") -> str:
    """Describe the parts that are trained, the size of the adapter and the memory."""
    from sa2va.training.finetune import measure_cost

    cost = measure_cost(run)
    ways = ", ".join(f"{name} {way}" for name, way in run.last.parts.ways.items() if way != "frozen")
    return (
        f"training {cost.trained:,} of {cost.total:,} parameters ({ways}; rank {run.last.lora_rank}): an adapter of "
        f"{cost.adapter_bytes / 1e6:.1f} MB; {cost.memory_bytes / 2**30:.2g} GiB of memory, and activations"
    )


class Measured:
    """Held-out data of a run, to be answered by the base model and by the adapted one."""

    def __init__(
        self, run: "FinetuneRun", train: "OwnDataset", held_out: "OwnDataset", items: int, quiet: bool
    ) -> None:
        from sa2va.evaluation.benchmarks.own import choose_center
        from sa2va.evaluation.benchmarks.own import held_out as build
        from sa2va.evaluation.blind import BlindMasks

        self._run, self._quiet = run, quiet
        blind = BlindMasks(choose_center(train), run.seed)
        self.benchmark = build(held_out, blind=blind, num_records=items)
        asked = [(held_out.describe(one), one.expressions) for one in held_out.records]
        self._asked = sha256(repr((blind, run.own_data.draw, asked)).encode()).hexdigest()

    def load(self, adapter: str | None) -> "Predictor":
        from sa2va.inference.loading import load

        run = self._run
        return load(run.start, adapter=adapter, device=run.device, quantize=run.quantize or None)

    def answer(self, path: Path, adapter: str | None) -> "list[Record]":
        """Return the records of a model, from the file if the same weights have answered the same questions already."""
        from sa2va.evaluation.runner import run

        measured = self.describe(adapter)
        if path.is_file():
            found = read_json(path)
            if found.get("measured") == measured:
                return found["records"]
        records = run(self.benchmark, self.load(adapter), progress=not self._quiet)
        write_text(path, json.dumps({"measured": measured, "records": records}) + "\n")
        return records

    def describe(self, adapter: str | None) -> dict[str, Any]:
        """Describe what the answers of a model depend on."""
        from sa2va.checkpoints.find import find_model

        weights = adapter and sha256((find_model(adapter) / WEIGHTS).read_bytes()).hexdigest()
        of_model = {"base": self._run.start, "quantize": self._run.quantize, "adapter": weights}
        return of_model | {"questions": self._asked, "num_items": len(self.benchmark)}

    def draw_sheet(self, output: Path, records: "list[Record]") -> None:
        """Draw the best and the worst answers."""
        from sa2va.evaluation.before_after import draw_best_and_worst
        from sa2va.media.pictures import save_image

        save_image(output / SHEET, draw_best_and_worst(self.load(str(output)), self.benchmark, records))

    def report(self, before: "list[Record]", after: "list[Record]") -> dict[str, Any]:
        from sa2va.evaluation.before_after import compare

        run = self._run
        origin = {"data": run.data, "base": run.start, "adapter": run.adapter or None}
        return origin | compare(self.benchmark, before, after)


def summarize(report: dict[str, Any], run: "FinetuneRun", output: Path) -> str:
    """Write the figures before and after, the baselines, and how the adapter is used."""
    lines = [f"held out: {report['num_expressions']} expressions in {report['num_records']} pictures or clips"]
    after = {figure["name"]: figure for figure in report["after"]}
    for old in report["before"]:
        new = after[old["name"]]
        if old["name"] in report["change"]:
            change = report["change"][old["name"]]["difference"]  # None for one picture alone
            text = f", {change['value']:+.3f} ({change['low']:+.3f} to {change['high']:+.3f})" if change else ""
            lines.append(f"{old['name']}: {interval(old)} before, {interval(new)} after{text}")
        elif new["value"] == old["value"]:  # of masks made without looking
            lines.append(f"{new['name']}: {new['value']:.3f}")
        else:
            lines.append(f"{new['name']}: {interval(old)} before, {interval(new)} after")
    lines += [
        f"best and worst answers: {output / SHEET} (green: true, orange: predicted)",
        f"adapter of {report['adapter_bytes'] / 1e6:.1f} MB: sa2va.load({run.start!r}, adapter={str(output)!r}), "
        f"or --model {run.start} --adapter {output}",
    ]
    return "\n".join(lines)


def interval(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "-"
    ends = "" if figure["low"] is None else f" ({figure['low']:.3f} to {figure['high']:.3f})"
    return f"{figure['value']:.3f}{ends}"  # the figure of one picture has no interval
