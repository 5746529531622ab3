"""Ask a model about drawn scenes it has never seen, or about a user's own media, and keep what it says and draws.

Flow: Predictor, seed -> SECTIONS, one function a section -> list[Exhibit] -> page.py and the terminal.
Shapes: N objects, T frames, H W picture; everything is shown SCALE times as large as it was drawn.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.apps.demo.page import Exchange, Exhibit
from sa2va.data import prompts
from sa2va.draw.overlay import overlay
from sa2va.masks import resize_mask
from sa2va.media.source import Media, VideoWriter, open_media
from sa2va.metrics.iou import iou
from sa2va.metrics.text import exact_match, plain_text
from sa2va.types import Sample
from sa2va.world.tasks.catalog import TASKS

if TYPE_CHECKING:
    from sa2va.inference.predictor import Predictor
    from sa2va.inference.results import FrameResult, Prediction

SPLIT = "test"  # never drawn in training
SCALE = 2
SMALL = 320  # px; a picture with a longer side is shown as it is
RIGHT_IOU = 0.5  # from here on a mask counts as right
KINDS = ("attribute", "relation", "ordinal", "superlative", "negation", "place", "group", "absent")
CLIP_FPS = 8.0
CRF = 24  # the page carries its clips, so they are kept small
OWN_QUESTIONS = ("How many objects are there?",)
OWN_TARGET = "Please segment the largest object."
Picture = NDArray[np.uint8]  # (H, W, 3)


def enlarge(frame: Picture) -> Picture:
    """Show a small drawing large enough for labels: (H, W, 3) -> (SCALE*H, SCALE*W, 3); a photo stays as it is."""
    if max(frame.shape[:2]) > SMALL:
        return frame
    return np.asarray(cv2.resize(frame, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC), np.uint8)


def paint(frame: Picture, masks: NDArray[np.bool_], labels: Sequence[str]) -> Picture:
    """Draw masks (N, H, W) over an enlarged frame."""
    large = enlarge(frame)
    return overlay(large, resize_mask(masks, *large.shape[:2]), list(labels))


def write_clip(path: Path, frames: Iterable[Picture]) -> Path:
    with VideoWriter(path, CLIP_FPS, crf=CRF) as video:
        for frame in frames:
            video.write(frame)
    return path


def converse(predictor: "Predictor", sample: Sample) -> tuple[Exchange, ...]:
    """Ask all questions of a sample in one conversation, in which it is looked at once."""
    talk = predictor.open(sample.frames)
    exchanges = []
    for turn in sample.turns:
        said = plain_text(talk.ask(turn.question).text)
        right = exact_match(said, turn.answer)
        exchanges.append(Exchange(question=turn.question, answer=said, expected=turn.answer, right=right))
    return tuple(exchanges)


def labels_of(prediction: "Prediction") -> list[str]:
    return [found.phrase or str(found.id) for found in prediction.objects]


def describe_objects(prediction: "Prediction") -> list[str]:
    return [
        f"{found.phrase or f'mask {found.id}'}: presence {found.presence:.2f}, expected IoU {found.scores.mean():.2f}"
        for found in prediction.objects
    ]


def show_conversations(predictor: "Predictor", seed: int, scratch: Path) -> Iterator[Exhibit]:
    """Several questions about one picture."""
    for index in range(2):
        sample = TASKS["conversation"](seed, SPLIT, index)
        yield Exhibit(
            section="Chat",
            title=f"conversation {index + 1}",
            exchanges=converse(predictor, sample),
            picture=enlarge(sample.frames[0]),
        )


def show_segmentation(predictor: "Predictor", seed: int, scratch: Path) -> Iterator[Exhibit]:
    """One expression of each kind, one that means several objects and one that means none included."""
    for index, kind in enumerate(KINDS):
        sample = TASKS["refseg"](seed, SPLIT, index, num_turns=1, kind=kind, empty_share=0.0)
        question = sample.turns[0].question
        prediction = predictor.predict(sample.frames[0], question)
        reached = judge(prediction.masks.any(0), sample)
        is_there = sample.meta["present"][0]
        answer = Exchange(
            question=question,
            answer=plain_text(prediction.text),
            expected=None if is_there else "no mask: it is not there",
            right=reached >= RIGHT_IOU if is_there else not prediction.objects,
        )
        truth = [f"IoU with the truth {reached:.2f}"] if is_there else []
        yield Exhibit(
            section="Segment what an expression means",
            title=kind,
            exchanges=(answer,),
            picture=paint(sample.frames[0], prediction.masks[:, 0], labels_of(prediction)),
            notes=(*describe_objects(prediction), *truth),
        )


def judge(union: ArrayLike, sample: Sample) -> float:
    """Return the IoU of all masks laid together, (T, H, W), with all that the first turn means."""
    return iou(np.asarray(union, bool), sample.masks[sample.meta["targets"][0]].any(0))


def show_captions(predictor: "Predictor", seed: int, scratch: Path) -> Iterator[Exhibit]:
    """A picture described, and described with a mask for each phrase."""
    for index in range(2):
        sample = TASKS["gcg"](seed, SPLIT, index)
        title = f"caption {index + 1}"
        yield show_caption(predictor, sample.frames[0], title, sample.turns[0].answer)


def show_caption(predictor: "Predictor", frame: Picture, title: str, expected: str | None = None) -> Exhibit:
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


def show_regions(predictor: "Predictor", seed: int, scratch: Path) -> Iterator[Exhibit]:
    """Marked regions, described."""
    for index, form in enumerate(("mask", "box", "point")):
        sample = TASKS["region"](seed, SPLIT, index, num_regions=1, form=form)
        turn = sample.turns[0]
        regions = list(turn.regions)
        said = plain_text(predictor.predict(sample.frames[0], turn.question, regions=regions).text)
        right = exact_match(said, turn.answer)
        yield Exhibit(
            section="Describe a marked region",
            title=f"marked by a {form}",
            exchanges=(Exchange(question=turn.question, answer=said, expected=turn.answer, right=right),),
            picture=paint(sample.frames[0], np.stack(regions), ["region1"]),
        )


def show_clips(predictor: "Predictor", seed: int, scratch: Path) -> Iterator[Exhibit]:
    """Clips in which motion alone tells which object is meant, and a conversation about a clip."""
    section = "Follow it through a video"
    for index in range(3):
        sample = TASKS["video_refseg"](seed, SPLIT, index, num_turns=1, kind="motion", empty_share=0.0)
        question = sample.turns[0].question
        painted, masks = follow(predictor, open_media(sample.frames, fps=CLIP_FPS), question)
        reached = judge(masks, sample)
        answer = f"followed through {int(masks.any((1, 2)).sum())} of {len(masks)} frames"
        yield Exhibit(
            section=section,
            title=f"clip {index + 1}",
            exchanges=(Exchange(question=question, answer=answer, right=reached >= RIGHT_IOU),),
            clip=write_clip(scratch / f"track_{index + 1}.mp4", painted),
            notes=(f"IoU with the truth over all frames {reached:.2f}",),
        )
    sample = TASKS["video_conversation"](seed, SPLIT, 0)
    clip = write_clip(scratch / "conversation.mp4", map(enlarge, sample.frames))
    yield Exhibit(section=section, title="conversation", exchanges=converse(predictor, sample), clip=clip)


def follow(predictor: "Predictor", media: Media, question: str) -> tuple[list[Picture], NDArray[np.bool_]]:
    """Track what a question asks for through a short clip.

    Returns:
        The T painted frames, and the union of all masks, (T, H, W).
    """
    painted, unions = [], []
    for frame, result in zip(media, predictor.track(media, question), strict=True):
        masks = stack_masks(result, media)
        painted.append(paint(frame, masks, [str(found.id) for found in result.objects]))
        unions.append(masks.any(0))
    return painted, np.stack(unions)


def stack_masks(result: "FrameResult", media: Media) -> NDArray[np.bool_]:
    """Collect the masks of one frame, (N, H, W); N may be 0."""
    masks = [found.mask for found in result.objects]
    return np.stack(masks) if masks else np.zeros((0, media.height, media.width), bool)


SECTIONS: tuple[Callable[["Predictor", int, Path], Iterator[Exhibit]], ...] = (
    show_conversations,
    show_segmentation,
    show_captions,
    show_regions,
    show_clips,
)


def show_own(predictor: "Predictor", media: Media, scratch: Path) -> Iterator[Exhibit]:
    """Run every task on a user's own picture or clip, whose truth nobody knows."""
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
