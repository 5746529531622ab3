"""Print and plot the rewards of runs of `sa2va train tiny_rl`, as they sampled them on new prompts.

Flow: log.jsonl of each run -> means of the first and of the last third -> table, and a plot with --plot.
Run: python benchmarks/rewards.py runs/tiny_rl [FOLDER ...] [--plot docs/rewards.png]
"""

import argparse
import json
from pathlib import Path

import numpy as np

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
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="folder of a run")
    parser.add_argument("--plot", type=Path, help="PNG file to write")
    arguments = parser.parse_args()
    print_table(arguments.folders)
    if arguments.plot:
        plot(arguments.folders, arguments.plot)


if __name__ == "__main__":
    main()
