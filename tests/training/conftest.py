"""Let the tests of this folder, and the worker processes they start, import the toy stage."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
