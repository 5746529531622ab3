"""Check that the demo lets people look where a model has gaze weights."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sa2va.world")
from gaze.support.gaze_model import build_gaze

from sa2va.gaze import exhibits as gaze
from sa2va.gaze.predictor import save_gaze
from sa2va.media.source import open_media


def test_people_look_at_drawn_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_gaze()
    assert list(gaze.show_gaze(None, tmp_path, 1, tmp_path)) == []  # no weights
    save_gaze(model.decoder, tmp_path)
    monkeypatch.setattr(gaze, "SCENES", 2)
    monkeypatch.setattr(gaze, "FPS", 1.0)
    predictor: Any = SimpleNamespace(model=model.sa2va, processor=model.grounder.processor, device="cpu")
    film, picture = gaze.show_gaze(predictor, tmp_path, 1, tmp_path)
    assert film.clip is not None and open_media(film.clip).num_frames > 3 and film.picture is None
    assert picture.picture is not None and picture.picture.shape[1] == 960 and picture.clip is None
    assert "of 10 sampled scanpaths" in picture.exchanges[0].answer
