"""Let the tests of this folder import recorded_gaze.py and listeners.py."""

import sys
from pathlib import Path

for folder in (Path(__file__).parents[1], Path(__file__).parents[1] / "rivals"):
    sys.path.insert(0, str(folder))
