"""Build the samples of the drawn world, one pure function of (seed, split, index) per task, listed in TASKS.

Flow: (seed, split, index) -> items.draw_item -> captions and conversations here, masks in referring.py -> Sample.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sa2va.data import prompts
from sa2va.types import Sample, Span, Turn
from sa2va.world.language.descriptions import describe
from sa2va.world.language.grammar import to_motion_words, with_article
from sa2va.world.language.noun_spans import find_noun_spans
from sa2va.world.language.questions import ask
from sa2va.world.scenes.scene import Scene, WorldObject
from sa2va.world.scenes.splits import withheld_pairs
from sa2va.world.tasks.grounded_turn import GroundedTurn
from sa2va.world.tasks.items import draw_item, is_clip, is_heldout, render_item
from sa2va.world.tasks.referring import refseg, region, video_refseg

_BACKGROUNDS = {"noise": "noisy", "waves": "wavy"}


def write_caption(scene: Scene, *, moving: bool = False, only: Sequence[int] | None = None) -> tuple[str, list[Span]]:
    """Write the canonical caption of a scene: the background, then the objects from left to right.

    Args:
        scene: The scene.
        moving: Describe motions as well.
        only: Indices of the objects to describe; None = all.

    Returns:
        The sentence, and one span per noun phrase whose `objects` holds the index into `scene.objects`.
    """
    named = range(len(scene.objects)) if only is None else only
    order = sorted(named, key=lambda i: (scene.objects[i].x, scene.objects[i].y))
    text = f"{with_article(_BACKGROUNDS.get(scene.background, scene.background))} background with ".capitalize()
    spans = []
    for rank, index in enumerate(order):
        obj = scene.objects[index]
        text += "" if rank == 0 else " and " if rank == len(order) - 1 else ", "
        phrase = describe(obj)
        spans.append(Span(start=len(text), end=len(text) + len(phrase), objects=(index,)))
        text += phrase + (say_motion(obj) if moving else "")
    return text + ".", spans


def say_motion(obj: WorldObject) -> str:
    """Return the words after an object's phrase in the caption of a clip: " that moves left"; "" if it stays still."""
    return "" if obj.motion.kind == "stays still" else " " + " ".join(to_motion_words(obj.motion.kind))


def _caption(task: str, seed: int, split: str, index: int, questions: tuple[str, ...]) -> Sample:
    scene, rng = draw_item(task, seed, split, index)
    text, spans = write_caption(scene, moving=is_clip(task))
    grounded = task == "gcg"
    picture = render_item(scene, task)
    turn = Turn(question=prompts.pick(rng, questions), answer=text, spans=tuple(spans) if grounded else ())
    meta = {
        "index": index,
        "scene": scene,
        "answers": [text],
        "kinds": [task],
        "targets": [[span.objects[0] for span in spans]],
        "heldout": [is_heldout(scene, range(len(scene.objects)))],
    }
    masks = {"masks": picture.masks} if grounded else {}
    return Sample.of_arrays(frames=picture.frames, turns=(turn,), task=f"world/{task}", meta=meta, **masks)


def caption(seed: int, split: str, index: int) -> Sample:
    """Build an image captioning sample; the caption names the background and all objects from left to right."""
    return _caption("caption", seed, split, index, prompts.CAPTION)


def video_caption(seed: int, split: str, index: int) -> Sample:
    """Build a video captioning sample; the caption also names the motion of each object."""
    return _caption("video_caption", seed, split, index, prompts.VIDEO_CAPTION)


def gcg(seed: int, split: str, index: int) -> Sample:
    """Build a grounded captioning sample (GCG): a caption with a mask for every noun phrase."""
    return _caption("gcg", seed, split, index, prompts.GROUNDED_CAPTION)


def _conversation(task: str, seed: int, split: str, index: int, num_turns: int | None) -> Sample:
    scene, rng = draw_item(task, seed, split, index)
    number = int(rng.integers(3, 7)) if num_turns is None else num_turns
    asked = ask(scene, rng, number, moving=is_clip(task), withheld=withheld_pairs(split))
    turns = tuple(GroundedTurn(question=q.text, answer=q.answer, nouns=find_noun_spans(scene, q.text)) for q in asked)
    meta: dict[str, Any] = {
        "index": index,
        "scene": scene,
        "answers": [question.answer for question in asked],
        "kinds": [question.kind for question in asked],
        "heldout": [question.heldout for question in asked],
    }
    picture = render_item(scene, task)
    return Sample.of_arrays(frames=picture.frames, turns=turns, masks=picture.masks, task=f"world/{task}", meta=meta)


def conversation(seed: int, split: str, index: int, *, num_turns: int | None = None) -> Sample:
    """Build a conversation of `num_turns` questions about an image; None = 3 to 6."""
    return _conversation("conversation", seed, split, index, num_turns)


def video_conversation(seed: int, split: str, index: int, *, num_turns: int | None = None) -> Sample:
    """Build a conversation of `num_turns` questions about a clip; None = 3 to 6."""
    return _conversation("video_conversation", seed, split, index, num_turns)


TASKS: dict[str, Callable[..., Sample]] = {
    "caption": caption,
    "conversation": conversation,
    "refseg": refseg,
    "gcg": gcg,
    "region": region,
    "video_caption": video_caption,
    "video_conversation": video_conversation,
    "video_refseg": video_refseg,
}
