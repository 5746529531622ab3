"""Show predicted scanpaths over synthetic scenes in the demo, for models with gaze weights.

Flow: Predictor and its gaze weights, seed -> show_gaze -> Exhibits of scanpaths, the first one as a video.
Shapes: H W picture.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sa2va.apps.demo.page import Exchange, Exhibit
from sa2va.extensions import missing_extensions
from sa2va.gaze.metrics.target import inside_box
from sa2va.gaze.model.scanpath_model import ScanpathModel
from sa2va.gaze.predictor import WEIGHTS_FILE, GazePredictor, check_base_model, load_decoder
from sa2va.gaze.render import draw_scanpath, film_scanpath, save_film
from sa2va.gaze.sheet import Sheet

if TYPE_CHECKING:
    from sa2va.inference.predictor import Predictor

SPLIT = "test"  # not among the training scenes
SCENES, PEOPLE = 3, 10
FPS = 6.0  # frames per second of the video; low, because every frame is rendered anew


def show_gaze(predictor: "Predictor", folder: Path, seed: int, scratch: Path) -> Iterator[Exhibit]:
    """Predict ten scanpaths per scene, none of them forced to end on the target.

    Nothing is shown without gaze weights, or without the extension world, which draws the scenes.
    """
    if not (folder / WEIGHTS_FILE).is_file() or "world" in missing_extensions():
        return
    from sa2va.gaze.simulator.cases import make_case

    decoder = load_decoder(folder).to(predictor.device)
    check_base_model(folder, predictor.model)
    gaze = GazePredictor(ScanpathModel(predictor.model, predictor.processor, decoder))
    for index in range(SCENES):
        case = make_case(seed, SPLIT, index)
        x0, y0, x1, y1 = case.boxes[case.target]
        paths = gaze.predict(
            case.frame, case.expression.text, timing=case.timing, num_samples=PEOPLE, seed=seed, last_fixation="soft"
        )
        hits = [bool(path.fixations) and bool(inside_box(path.points[-1:], (x0, y0, x1, y1))[0]) for path in paths]
        sheet = Sheet(
            frame=case.frame,
            scanpath=paths[0],
            others=paths[1:],
            target=(x0, y0, x1, y1),
            onsets=case.timing.onsets,
        )
        film = None
        if index == 0:
            film = scratch / "gaze.mp4"
            save_film(film, film_scanpath(replace(sheet, others=()), FPS), FPS)
        yield Exhibit(
            section="Predict human gaze, word by word",
            title=f"gaze {index + 1}",
            exchanges=(
                Exchange(
                    question=case.expression.text,
                    answer=f"{sum(hits)} of {PEOPLE} sampled scanpaths end on the target",
                    right=2 * sum(hits) > PEOPLE,
                ),
            ),
            picture=None if film else draw_scanpath(sheet),
            clip=film,
            notes=(
                "numbers and colors: fixations of one sample, by word; small dots: other samples; frame: the target",
            ),
        )
