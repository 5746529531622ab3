"""Measure time and peak memory of `sa2va gaze eval` on as many scanpaths as RefCOCO-Gaze's test split.

Flow: simulated trials -> files in the layout of RefCOCO-Gaze, ten people and ten samples per case -> the command in
    processes of its own -> seconds and peak memory.
Run: python benchmarks/gaze_eval.py [--cases 203]
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from measure import Table, parser, report

SECONDS, MEGABYTES = 180, 2048
PEOPLE = SAMPLES = 10
POLL_INTERVAL = 0.05  # s


def write_files(folder: Path, num_cases: int) -> None:
    """Write simulated trials of twenty observers per case, ten of them as predictions."""
    from sa2va.gaze.simulator.dataset import read_simulated
    from sa2va.gaze.trial import group_cases, on_canvas

    people: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    seen = read_simulated(seed=0, num_cases=num_cases, people_per_case=PEOPLE + SAMPLES)
    for number, row in enumerate(group_cases(on_canvas(trial) for trial in seen).values()):
        clock = row[0].timing
        assert clock is not None
        times = {"word_onset": list(clock.onsets), "word_end": list(clock.ends), "sentence_duration": clock.duration}
        words.append({"ref_id": number, **times})
        people += [as_record(number, trial) for trial in row[:PEOPLE]]
        for sample, trial in enumerate(row[PEOPLE:]):
            packs = trial.scanpath.pack_points
            places = {"X": [pack[:, 0].tolist() for pack in packs], "Y": [pack[:, 1].tolist() for pack in packs]}
            predictions.append({"REF_ID": number, "REPEAT_ID": sample, **places})
    for name, records in {"people_512": people, "words": words, "predictions": predictions}.items():
        (folder / f"{name}.json").write_text(json.dumps(records))


def as_record(number: int, trial: Any) -> dict[str, Any]:
    """Convert a trial to a record of RefCOCO-Gaze."""
    path, (x0, y0, x1, y1) = trial.scanpath, trial.target
    indices = [-99 if pack == 0 else 99 if pack > len(path.words) else pack - 1 for pack in pack_numbers(path.sizes)]
    return {
        "REF_ID": number, "SUBJECT_ID": trial.subject, "IMAGEFILE": f"{number}.jpg", "IMG_URL": f"{number}",
        "REF_SENTENCE": trial.expression, "REF_WORDS": list(path.words), "BBOX": [x0, y0, x1 - x0, y1 - y0],
        "SOUND_ON": 0, "TARGET_SPOKEN_PERIOD": list(trial.noun), "BUTTON_PRESS_TIME": trial.ended,
        "NATIVE_SPEAKER": True, "FIX_X": path.points[:, 0].tolist(), "FIX_Y": path.points[:, 1].tolist(),
        "FIX_START": path.starts.tolist(), "FIX_DURATION": path.durations.tolist(), "FIX_WORDINDEX": indices,
    }  # fmt: skip


def pack_numbers(sizes: list[int]) -> list[int]:
    return [pack for pack, size in enumerate(sizes) for _ in range(size)]


def evaluate(options: list[str]) -> tuple[int, float]:
    """Run the command; return the number of rows of its table and the peak memory of its process tree, MB."""
    with tempfile.TemporaryFile("w+") as table:
        command = [str(Path(sys.executable).with_name("sa2va")), "gaze", "eval", *options, "--json", "--quiet"]
        running, peak = psutil.Popen(command, stdout=table), 0.0
        while running.poll() is None:
            peak = max(peak, sum(map(resident_mb, [running, *running.children(recursive=True)])))
            time.sleep(POLL_INTERVAL)
        if running.returncode:
            raise subprocess.CalledProcessError(running.returncode, command)
        table.seek(0)
        return len(json.load(table)["rows"]), peak


def resident_mb(process: psutil.Process) -> float:
    """Return resident memory, MB; 0 for an ended process. Shared pages count in each process."""
    try:
        return process.memory_info().rss / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def main() -> int:
    made = parser("time and memory of gaze evaluation")
    made.add_argument("--cases", type=int, default=203)
    options = made.parse_args()
    table = Table(
        f"{options.cases} expressions x {PEOPLE} people x {SAMPLES} samples",
        ("table", "rows", "seconds", "peak of all processes, MB"),
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_files(folder, options.cases)
        files = ["--data", str(folder / "people_512.json"), "--words", str(folder / "words.json")]
        files += ["--predictions", str(folder / "predictions.json")]
        for name, extra in {
            "without the target": [],
            "with all references": ["--oracle-target", "--no-learned"],
        }.items():
            start = time.perf_counter()
            rows, peak = evaluate([*files, *extra])
            spent = time.perf_counter() - start
            table.add(name, rows, spent, f"{peak:.0f}")
            table.judge(f"{name}: seconds", spent, SECONDS)
            table.judge(f"{name}: MB", peak, MEGABYTES)
    return report("python benchmarks/gaze_eval.py", [table], record=options.record)


if __name__ == "__main__":
    sys.exit(main())
