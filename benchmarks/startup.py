"""Time a cold `sa2va segment` of one image relative to importing torch and the two model classes.

Flow: new processes, interleaved -> wall seconds -> ratio.
Run: python benchmarks/startup.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Table, parser, report, seconds, seconds_side_by_side

IMPORTS = "import torch; from transformers import InternVLForConditionalGeneration, Sam2VideoModel"
LIMIT = 1.6


def make_picture(folder: Path) -> Path:
    """Render one 640x480 scene."""
    from PIL import Image

    from sa2va.world.tasks.catalog import TASKS

    path = folder / "scene.png"
    frame = TASKS["refseg"](1, "val", 0).frames[0]
    Image.fromarray(frame).resize((640, 480)).save(path)
    return path


def run(*command: str) -> None:
    subprocess.run([sys.executable, *command], check=True, capture_output=True)


def main() -> int:
    options = parser("cold start of the command line").parse_args()
    with tempfile.TemporaryDirectory() as name:
        picture, out = make_picture(Path(name)), Path(name) / "out"
        actions = {
            "import torch and two classes": lambda: run("-c", IMPORTS),
            "sa2va segment": lambda: run(
                "-m", "sa2va.apps.cli", "segment", str(picture), "the red circle", "-o", str(out)
            ),
        }
        for action in actions.values():
            action()  # warm the disk cache for both
        times = seconds_side_by_side(actions, repeats=5)
        times["sa2va --help"] = seconds(lambda: run("-m", "sa2va.apps.cli", "--help"))
    table = Table("Cold start, one 640x480 image", ("process", "seconds"))
    for what, value in times.items():
        table.add(what, value)
    table.judge("segment / imports", times["sa2va segment"] / times["import torch and two classes"], LIMIT)
    return report("python benchmarks/startup.py", [table], record=options.record)


if __name__ == "__main__":
    sys.exit(main())
