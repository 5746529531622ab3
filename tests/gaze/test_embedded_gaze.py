"""The gaze weights in the package look where drawn people look, on scenes that nobody trained on."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sa2va.world")
from sa2va.checkpoints.find import find_model
from sa2va.gaze.baselines.event_decoder import StoredBaseline
from sa2va.gaze.evaluation.simulated import prepare
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics.likelihood import bits_per_fixation, uniform_log_density
from sa2va.gaze.model.rollout import CAP_AFTER, LastFixation
from sa2va.gaze.predictor import CONFIG_FILE, load_gaze
from sa2va.gaze.simulator.cases import make_case
from sa2va.gaze.training import store as stores
from sa2va.world.scenes.splits import Split

NUM_CASES = 8


@pytest.mark.skipif(not (find_model("tiny") / CONFIG_FILE).is_file(), reason="no gaze weights in the package")
def test_the_embedded_model_knows_where_people_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "SHARD", NUM_CASES)
    model = load_gaze("tiny", device="cpu", dtype="float32").model
    held = prepare(tmp_path, Split("held-out", 5), NUM_CASES, 4, model.decoder.config.grid, model)
    baseline = StoredBaseline("embedded", model.decoder, held.store)
    groups = [held.trials[start : start + 4] for start in range(0, 4 * NUM_CASES, 4)]
    logs = np.concatenate([log for group in groups for log in baseline.log_densities(group)])
    assert bits_per_fixation(logs, uniform_log_density(logs.size, *CANVAS)) > 2.8  # their last place alone tells 2.4
    paths = [path for group in groups for path in baseline.sample(group[0], 4, seed=0)]
    fixations = np.mean([sum(path.sizes) for path in paths])
    assert fixations == pytest.approx(np.mean([sum(t.scanpath.sizes) for t in held.trials]), rel=0.25)


@pytest.mark.skipif(not (find_model("tiny") / CONFIG_FILE).is_file(), reason="no gaze weights in the package")
@pytest.mark.parametrize("last_fixation", ["hard", "soft"])
def test_the_mode_looks_as_often_as_the_samples(last_fixation: LastFixation) -> None:
    gaze = load_gaze("tiny", device="cpu", dtype="float32")
    usual, drawn = [], []
    for index in range(10):
        case = make_case(5, "dev", index)
        asked = (case.frame, case.expression.text, case.timing)
        (path,) = gaze.predict(*asked, num_samples=1, mode="mode", last_fixation=last_fixation)
        usual.append(path.sizes)
        drawn += [sum(one.sizes) for one in gaze.predict(*asked, num_samples=9, last_fixation=last_fixation)]
        if index == 0:
            assert gaze.predict(*asked, num_samples=1, mode="mode", seed=7, last_fixation=last_fixation) == [path]
    assert all(sizes[-1] < CAP_AFTER for sizes in usual)
    assert np.mean([sum(sizes) for sizes in usual]) == pytest.approx(np.mean(drawn), rel=0.2)
