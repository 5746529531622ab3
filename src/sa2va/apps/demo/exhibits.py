"""Run a model on a user's media and render its answers; extensions render theirs with the same functions.

Flow: Predictor, Media -> show_own -> Exhibits -> page.py and the terminal.
Shapes: N objects, T frames, H W picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va.apps.demo.page import Exchange, Exhibit
from sa2va.data import prompts
from sa2va.draw.overlay import overlay
from sa2va.masks import resize_mask
from sa2va.media.source import Media
from sa2va.media.writer import VideoWriter
from sa2va.metrics.text import exact_match, plain_text

if TYPE_CHECKING:
    from sa2va.inference.predictor import Predictor
    from sa2va.inference.results import FrameResult, Prediction

SCALE = 2  # enlargement of small pictures
SMALL = 320  # px; a picture with a longer side is shown as it is
CRF = 24  # H.264 quality; clips are embedded in the page, so they must be small
OWN_QUESTIONS = ("How many objects are there?",)
OWN_TARGET = "Please segment the largest object."
Picture = NDArray[np.uint8]  # (H, W, 3)


def enlarge(frame: Picture) -> Picture:
    """Enlarge a small picture for readable labels: (H, W, 3) -> (SCALE*H, SCALE*W, 3); keep a large one."""
    if max(frame.shape[:2]) > SMALL:
        return frame
    return np.asarray(cv2.resize(frame, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC), np.uint8)


def paint(frame: Picture, masks: NDArray[np.bool_], labels: Sequence[str]) -> Picture:
    """Draw masks (N, H, W) over an enlarged frame."""
    large = enlarge(frame)
    return overlay(large, resize_mask(masks, *large.shape[:2]), list(labels))


def labels_of(prediction: "Prediction") -> list[str]:
    return [found.phrase or str(found.id) for found in prediction.objects]


def describe_objects(prediction: "Prediction") -> list[str]:
    return [
        f"{found.phrase or f'mask {found.id}'}: presence {found.presence:.2f}, expected IoU {found.scores.mean():.2f}"
        for found in prediction.objects
    ]


def show_caption(predictor: "Predictor", frame: Picture, title: str, expected: str | None = None) -> Exhibit:
    """Caption a picture as plain text, then with a mask for each phrase."""
    plain = predictor.predict(frame, prompts.CAPTION[0])
    grounded = predictor.predict(frame, prompts.GROUNDED_CAPTION[0])
    said = plain_text(plain.text)
    right = None if expected is None else exact_match(said, expected)
    return Exhibit(
        section="Describe, and ground each phrase",
        title=title,
        exchanges=(
            Exchange(question=prompts.CAPTION[0], answer=said, expected=expected, right=right),
            Exchange(question=prompts.GROUNDED_CAPTION[0], answer=plain_text(grounded.text)),
        ),
        picture=paint(frame, grounded.masks[:, 0], labels_of(grounded)),
        notes=tuple(describe_objects(grounded)),
    )


def stack_masks(result: "FrameResult", media: Media) -> NDArray[np.bool_]:
    """Collect the masks of one frame, (N, H, W); N may be 0."""
    masks = [found.mask for found in result.objects]
    return np.stack(masks) if masks else np.zeros((0, media.height, media.width), bool)


def show_own(predictor: "Predictor", media: Media, scratch: Path) -> Iterator[Exhibit]:
    """Run every task on a user's own picture or clip, without ground truth."""
    section, title = "Your own", Path(media.name).name
    talk = predictor.open(media)
    question = prompts.CAPTION[0] if media.is_image else prompts.VIDEO_CAPTION[0]
    exchanges = [Exchange(question=text, answer=plain_text(talk.ask(text).text)) for text in (question, *OWN_QUESTIONS)]
    if media.is_image:
        frame = media.frame(0)
        exhibit = show_caption(predictor, frame, title)
        found = predictor.predict(frame, OWN_TARGET)
        yield replace(exhibit, section=section, exchanges=tuple(exchanges) + exhibit.exchanges[1:])
        yield Exhibit(
            section=section,
            title=title,
            exchanges=(Exchange(question=OWN_TARGET, answer=plain_text(found.text)),),
            picture=paint(frame, found.masks[:, 0], labels_of(found)),
            notes=tuple(describe_objects(found)),
        )
        return
    results = predictor.track(media, OWN_TARGET)
    path = scratch / "own.mp4"
    with VideoWriter(path, media.fps, crf=CRF) as video:  # frame by frame: a user's clip may be long
        for frame, result in zip(media, results, strict=True):
            labels = [str(found.id) for found in result.objects]
            video.write(overlay(frame, stack_masks(result, media), labels), result.time)
    exchanges.append(Exchange(question=OWN_TARGET, answer="see the clip"))
    yield Exhibit(section=section, title=title, exchanges=tuple(exchanges), clip=path)
