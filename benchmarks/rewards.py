"""Print and plot the rewards of runs of `sa2va train tiny_rl`, and print what evaluated models say.

Flow: log.jsonl of each run -> means of the first and of the last third -> table, and a plot with --plot;
    records.jsonl of `sa2va eval -o` before and after -> shares of answers, with the interval of their difference.
Run: python benchmarks/rewards.py runs/tiny_rl [FOLDER ...] [--plot docs/rewards.png]
    python benchmarks/rewards.py --answers BEFORE AFTER
"""

import argparse
import json
from pathlib import Path

import numpy as np

from sa2va.metrics.interval import bootstrap_interval
from sa2va.tokens import SEG_TOKEN
from sa2va.training.rewards import has_paired_tags

NAMES = ("reward", "reward_mask", "reward_presence", "reward_number", "reward_words", "informative", "kl")


def read_curve(folder: Path, name: str) -> tuple[list[int], list[float]]:
    """Return the steps and the means of one figure of a log."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    found = [(line["step"], line["losses"][name]) for line in lines if name in line.get("losses", {})]
    return [step for step, _ in found], [value for _, value in found]


def print_table(folders: list[Path]) -> None:
    """Print each figure in the first and the last third of all runs."""
    print("| figure | first third | last third |\n|---|--:|--:|")
    for name in NAMES:
        curves = [read_curve(folder, name)[1] for folder in folders]
        thirds = [(curve[: len(curve) // 3], curve[-(len(curve) // 3) :]) for curve in curves if len(curve) >= 3]
        if thirds:
            first, last = (np.mean([np.mean(third[part]) for third in thirds]) for part in (0, 1))
            print(f"| {name} | {first:.3f} | {last:.3f} |")


def read_answers(folder: Path) -> dict[str, dict[str, bool]]:
    """Return for each fact about an answer whether it holds, by benchmark and item."""
    facts: dict[str, dict[str, bool]] = {"well-formed": {}, "mask for held-out pairs": {}, "absent, said in words": {}}
    for line in (folder / "records.jsonl").read_text().splitlines():
        row = json.loads(line)
        name, record, key = row["benchmark"], row["record"], f"{row['benchmark']} {row['item']}"
        text = record["text"] if name == "world/absent" else record["said"]
        facts["well-formed"][key] = has_paired_tags(text) and text.endswith(".")
        if name == "world/heldout":
            facts["mask for held-out pairs"][key] = record["num_objects"] > 0
        if name == "world/absent" and not record["present"]:
            facts["absent, said in words"][key] = SEG_TOKEN not in text
    return facts


def print_answers(before: Path, after: Path) -> None:
    """Print the share of each fact in two evaluations of the same items, and their difference."""
    first, second = read_answers(before), read_answers(after)
    print("| share of answers | items | before | after | difference | 95 % interval |\n|---|--:|--:|--:|--:|--:|")
    for name, held in first.items():
        pairs = np.array([(held[key], second[name][key]) for key in held if key in second[name]], float)
        if not len(pairs):
            continue
        low, high = bootstrap_interval(pairs[:, 1] - pairs[:, 0])
        one, other = pairs.mean(0)
        print(f"| {name} | {len(pairs)} | {one:.3f} | {other:.3f} | {other - one:+.3f} | {low:+.3f} .. {high:+.3f} |")


def plot(folders: list[Path], path: Path) -> None:
    """Draw the mean reward over the steps, a line for each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    for folder in folders:
        axes.plot(*read_curve(folder, "reward"), marker=".", label=folder.name)
    axes.set(xlabel="step", ylabel="mean reward of sampled answers")
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Read the logs that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="folder of a run")
    parser.add_argument("--answers", nargs=2, type=Path, metavar="OUT", help="folders of sa2va eval -o")
    parser.add_argument("--plot", type=Path, help="PNG file to write")
    arguments = parser.parse_args()
    if arguments.answers:
        print_answers(*arguments.answers)
    if arguments.folders:
        print_table(arguments.folders)
    if arguments.plot:
        plot(arguments.folders, arguments.plot)


if __name__ == "__main__":
    main()
