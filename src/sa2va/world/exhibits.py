"""Build the demo sections on unseen synthetic scenes: answers of a model, with their scores.

Flow: world/extension.py lists one function per section -> Exhibits -> apps/commands/demo.py.
Shapes: N objects, T frames, H W picture.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2va.apps.demo.exhibits import (
    CRF,
    Picture,
    describe_objects,
    enlarge,
    labels_of,
    paint,
    show_caption,
    stack_masks,
)
from sa2va.apps.demo.page import Exchange, Exhibit
from sa2va.media.source import Media, open_media
from sa2va.media.writer import VideoWriter
from sa2va.metrics.iou import iou
from sa2va.metrics.text import exact_match, plain_text
from sa2va.types import Sample
from sa2va.world.tasks.catalog import TASKS

if TYPE_CHECKING:
    from sa2va.inference.predictor import Predictor

SPLIT = "test"  # not used in training
RIGHT_IOU = 0.5  # least IoU of a correct mask
KINDS = ("attribute", "relation", "ordinal", "superlative", "negation", "place", "group", "absent")
CLIP_FPS = 8.0


def write_clip(path: Path, frames: Iterable[Picture]) -> Path:
    with VideoWriter(path, CLIP_FPS, crf=CRF) as video:
        for frame in frames:
            video.write(frame)
    return path


def converse(predictor: "Predictor", sample: Sample) -> tuple[Exchange, ...]:
    """Ask all questions of a sample in one conversation, which encodes the media once."""
    talk = predictor.open(sample.frames)
    exchanges = []
    for turn in sample.turns:
        said = plain_text(talk.ask(turn.question).text)
        right = exact_match(said, turn.answer)
        exchanges.append(Exchange(question=turn.question, answer=said, expected=turn.answer, right=right))
    return tuple(exchanges)


def show_conversations(predictor: "Predictor", folder: Path, seed: int, scratch: Path) -> Iterator[Exhibit]:
    """Show conversations of several questions about one picture."""
    for index in range(2):
        sample = TASKS["conversation"](seed, SPLIT, index)
        yield Exhibit(
            section="Chat",
            title=f"conversation {index + 1}",
            exchanges=converse(predictor, sample),
            picture=enlarge(sample.frames[0]),
        )


def show_segmentation(predictor: "Predictor", folder: Path, seed: int, scratch: Path) -> Iterator[Exhibit]:
    """Show referring segmentation with one expression of each kind, groups and absent objects included."""
    for index, kind in enumerate(KINDS):
        sample = TASKS["refseg"](seed, SPLIT, index, num_turns=1, kind=kind, empty_share=0.0)
        question = sample.turns[0].question
        prediction = predictor.predict(sample.frames[0], question)
        reached = judge(prediction.masks.any(0), sample)
        is_there = sample.meta["present"][0]
        answer = Exchange(
            question=question,
            answer=plain_text(prediction.text),
            expected=None if is_there else "no mask: the object is absent",
            right=reached >= RIGHT_IOU if is_there else not prediction.objects,
        )
        truth = [f"IoU with the ground truth {reached:.2f}"] if is_there else []
        yield Exhibit(
            section="Segment objects by an expression",
            title=kind,
            exchanges=(answer,),
            picture=paint(sample.frames[0], prediction.masks[:, 0], labels_of(prediction)),
            notes=(*describe_objects(prediction), *truth),
        )


def judge(union: ArrayLike, sample: Sample) -> float:
    """Return the IoU of the union of predicted masks, (T, H, W), with the union of the first turn's objects."""
    return iou(np.asarray(union, bool), sample.masks[sample.meta["targets"][0]].any(0))


def show_captions(predictor: "Predictor", folder: Path, seed: int, scratch: Path) -> Iterator[Exhibit]:
    """Show captions of pictures, plain and with a mask for each phrase."""
    for index in range(2):
        sample = TASKS["gcg"](seed, SPLIT, index)
        title = f"caption {index + 1}"
        yield show_caption(predictor, sample.frames[0], title, sample.turns[0].answer)


def show_regions(predictor: "Predictor", folder: Path, seed: int, scratch: Path) -> Iterator[Exhibit]:
    """Show descriptions of marked regions."""
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


def show_clips(predictor: "Predictor", folder: Path, seed: int, scratch: Path) -> Iterator[Exhibit]:
    """Show tracking with expressions that only motion resolves, and a conversation about a clip."""
    section = "Track an object through a video"
    for index in range(3):
        sample = TASKS["video_refseg"](seed, SPLIT, index, num_turns=1, kind="motion", empty_share=0.0)
        question = sample.turns[0].question
        painted, masks = follow(predictor, open_media(sample.frames, fps=CLIP_FPS), question)
        reached = judge(masks, sample)
        answer = f"tracked through {int(masks.any((1, 2)).sum())} of {len(masks)} frames"
        yield Exhibit(
            section=section,
            title=f"clip {index + 1}",
            exchanges=(Exchange(question=question, answer=answer, right=reached >= RIGHT_IOU),),
            clip=write_clip(scratch / f"track_{index + 1}.mp4", painted),
            notes=(f"IoU with the ground truth over all frames {reached:.2f}",),
        )
    sample = TASKS["video_conversation"](seed, SPLIT, 0)
    clip = write_clip(scratch / "conversation.mp4", map(enlarge, sample.frames))
    yield Exhibit(section=section, title="conversation", exchanges=converse(predictor, sample), clip=clip)


def follow(predictor: "Predictor", media: Media, question: str) -> tuple[list[Picture], NDArray[np.bool_]]:
    """Track the object of a question through a short clip.

    Returns:
        The T painted frames, and the union of all masks, (T, H, W).
    """
    painted, unions = [], []
    for frame, result in zip(media, predictor.track(media, question), strict=True):
        masks = stack_masks(result, media)
        painted.append(paint(frame, masks, [str(found.id) for found in result.objects]))
        unions.append(masks.any(0))
    return painted, np.stack(unions)
