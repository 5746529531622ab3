"""Check that files of gaze appear complete or not at all, and are named where they cannot be written."""

import json
import signal
from pathlib import Path

from support.own_process import DIE, contents, run


def test_gaze_weights_and_their_card_are_of_one_training_after_a_kill(tmp_path: Path) -> None:
    """The kill comes at the card, which is written after the weights."""
    build = "import torch\nfrom sa2va.gaze.model.decoder import DecoderConfig, EventDecoder\n" + (
        "from sa2va.gaze import predictor\n"
        "decoder = EventDecoder(DecoderConfig(width=16, num_layers=1, place_width=8, cell=32))\n"
    )
    assert run(build + "predictor.save_gaze(decoder, place, {'seed': 1})", tmp_path / "gaze").returncode == 0
    before = contents(tmp_path / "gaze")
    assert set(before) == {"gaze.json", "gaze.safetensors"} and json.loads(before["gaze.json"])["card"] == {"seed": 1}
    deadly = f"class Note(dict):\n    def items(self): {DIE}\n"
    code = build + deadly + "predictor.save_gaze(decoder, place, {'seed': 2, 'note': Note(a=1)})"
    assert run(code, tmp_path / "gaze").returncode == -signal.SIGKILL
    assert contents(tmp_path / "gaze") == before


def test_a_film_that_a_full_disk_refuses_is_named_in_one_line(tmp_path: Path) -> None:
    code = (
        "import numpy as np\nfrom sa2va.gaze.render import save_film\n"
        "frames = [np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8) for _ in range(5)]\n"
        "try:\n    save_film(place / 'a.gif', frames, 10)\nexcept ValueError as error:\n    print(error)"
    )
    done = run(code, tmp_path, full_disk=True)
    assert done.stdout.startswith(f"{tmp_path / 'a.gif'}: cannot be written (") and done.stdout.count("\n") == 1, done
    assert done.stderr == "" and contents(tmp_path) == {}
