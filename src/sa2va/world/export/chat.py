"""Write drawn conversations in the layouts of LLaVA and Infinity-MM (pictures) and Chat-UniVi (videos).

Flow: samples of conversation, caption and video_conversation, questions of choices.py ->
    llava_data/{LLaVA-Instruct-150K, llava_images}, Infinity-MM, video_datas/chat_univi/{video_chat.json,
    Activity_Videos}.
Source: the layouts that data/llava.py, data/infinity_mm.py and data/videochat.py read. As LLaVA's, the conversations
    hold what chat benchmarks ask: options with letters, and yes or no in one word. Some records of LLaVA are text only:
    the caption of a picture takes its place.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from sa2va.data.conversations import IMAGE_MARKER, VIDEO_MARKER
from sa2va.media.writer import VideoWriter
from sa2va.types import Sample, Turn
from sa2va.world.export.choices import (
    IN_ONE_WORD,
    LETTERS,
    MME_CATEGORIES,
    ask_choices,
    ask_pair,
    generator_of,
    pick_options,
    write_mmbench_prompt,
    write_seed_prompt,
    write_video_mme_prompt,
)
from sa2va.world.export.files import write_jpeg, write_json
from sa2va.world.export.layout import Layout, Part
from sa2va.world.scenes.scene import Scene
from sa2va.world.scenes.splits import TRAIN, withheld_pairs
from sa2va.world.tasks.catalog import write_caption

LLAVA_ANNOTATIONS = "llava_data/LLaVA-Instruct-150K"
LLAVA_PICTURES = "llava_data/llava_images"
VIDEO_CHAT = "video_datas/chat_univi"
INFINITY = "Infinity-MM"
INFINITY_BLOCK = 1  # its scenes are not those of LLaVA
Way = Literal["open", "letter", "yes or no", "text only", "caption"]
# How the conversations about pictures and clips are held, in turn.
WAYS: tuple[Way, ...] = ("open", "letter", "yes or no", "caption", "letter", "text only", "yes or no", "letter")
CLIP_WAYS: tuple[Way, ...] = ("open", "letter", "open", "caption", "letter", "open", "letter", "open")
NUM_LETTERED = {False: 4, True: 2}  # questions with options of a picture, of a clip
NUM_PAIRS = 2  # pairs of a question with the answer yes and one with the answer no, of a picture
TOLD = ("count", "color", "shape", "texture", "size", "existence", "more or fewer")  # kinds that a caption answers
FPS = 4


def draw_chats(part: Part, *, moving: bool = False, block: int = 0) -> Iterator[tuple[int, Sample, Way, list[Turn]]]:
    """Draw conversations about pictures or clips, with their number and how they are held; see WAYS.

    A scene that does not allow the way in turn is asked open questions.
    """
    prefix, ways = ("video_", CLIP_WAYS) if moving else ("", WAYS)
    talks, captions = (part.draw(f"{prefix}{task}", block=block) for task in ("conversation", "caption"))
    for (number, talk), (_, caption) in zip(talks, captions, strict=True):
        way = ways[number % len(ways)]
        sample = caption if way == "caption" else talk
        turns = list(sample.turns)
        if way == "letter":
            turns = ask_by_letter(part, number, sample.meta["scene"], moving=moving)
        elif way == "yes or no":
            turns = ask_yes_or_no(part, number, sample.meta["scene"])
        elif way == "text only":
            turns = find_told(sample)
        yield (number, sample, way, turns) if turns else (number, sample, "open", list(sample.turns))


def ask_by_letter(part: Part, number: int, scene: Scene, *, moving: bool) -> list[Turn]:
    """Ask questions with options in the wording of SEED-Bench and MMBench, or of Video-MME."""
    rng, turns = generator_of(part, number), []
    prompts = (write_video_mme_prompt,) if moving else (write_seed_prompt, write_mmbench_prompt)
    for rank, question in enumerate(ask_choices(scene, rng, NUM_LETTERED[moving], moving=moving)):
        options, right = pick_options(question, rng)
        turns.append(Turn(question=prompts[rank % len(prompts)](question.text, options), answer=LETTERS[right]))
    return turns


def ask_yes_or_no(part: Part, number: int, scene: Scene) -> list[Turn]:
    """Ask pairs of questions of some categories of MME, each in random order and in its wording."""
    rng, turns = generator_of(part, number), []
    for category in rng.permutation(list(MME_CATEGORIES))[:NUM_PAIRS]:
        _, pair = ask_pair(scene, rng, str(category), withheld_pairs(part.scenes.split))
        asked = list(zip(pair, ("yes", "no"), strict=True))
        turns += [
            Turn(question=IN_ONE_WORD.format(text), answer=answer)
            for text, answer in (asked[i] for i in rng.permutation(2))
        ]
    return turns


def write_turns(turns: Sequence[Turn], preface: str) -> list[dict[str, str]]:
    """Write the turns of a conversation; the first question follows a preface: a marker of media, or a text."""
    spoken = []
    for rank, turn in enumerate(turns):
        question = turn.question if rank else f"{preface}\n{turn.question}"
        spoken += [{"from": "human", "value": question}, {"from": "gpt", "value": turn.answer}]
    return spoken


def find_told(sample: Sample) -> list[Turn]:
    """List the turns that the caption of a picture answers as well as the picture; captions have none."""
    return [turn for kind, turn in zip(sample.meta["kinds"], sample.turns, strict=True) if kind in TOLD]


def write_llava(root: Path, parts: Sequence[Part]) -> None:
    """Write LLaVA's instruction data below a data root."""
    records: list[dict[str, Any]] = []
    for number, sample, way, turns in (one for part in parts for one in draw_chats(part)):
        if way == "text only":
            caption, _ = write_caption(sample.meta["scene"])
            records.append({"id": f"text_{number:06d}", "conversations": write_turns(turns, caption)})
            continue
        name = f"coco/train2017/{number:012d}.jpg"
        write_jpeg(root / LLAVA_PICTURES / name, sample.frames[0])
        records.append({"id": f"{number:012d}", "image": name, "conversations": write_turns(turns, IMAGE_MARKER)})
    write_json(root / LLAVA_ANNOTATIONS / "llava_v1_5_mix665k.json", records)


def write_infinity(root: Path, parts: Sequence[Part]) -> None:
    """Write Infinity-MM below a data root: a JSON file a conversation, beside its picture."""
    for number, sample, _, turns in (one for part in parts for one in draw_chats(part, block=INFINITY_BLOCK)):
        folder, name = root / INFINITY / "drawn" / f"{number // 1000:05d}", f"{number:09d}"
        write_jpeg(folder / f"{name}.jpg", sample.frames[0])
        record = {"id": name, "image": f"{name}.jpg", "conversations": write_turns(turns, IMAGE_MARKER)}
        write_json(folder / f"{name}.json", record)


def write_video_chat(root: Path, parts: Sequence[Part]) -> None:
    """Write Chat-UniVi's conversations about videos below a data root."""
    records: list[dict[str, Any]] = []
    for number, sample, _, turns in (one for part in parts for one in draw_chats(part, moving=True)):
        name = f"v_{number:011d}.mp4"
        with VideoWriter(root / VIDEO_CHAT / "Activity_Videos" / name, FPS) as writer:
            for frame in sample.frames:
                writer.write(frame)
        records.append({"id": number, "video": name, "conversations": write_turns(turns, VIDEO_MARKER)})
    write_json(root / VIDEO_CHAT / "video_chat.json", records)


LLAVA = Layout(write_llava, (LLAVA_ANNOTATIONS, LLAVA_PICTURES), ("llava",), splits=(TRAIN,))
VIDEOCHAT = Layout(write_video_chat, (VIDEO_CHAT,), ("videochat",), splits=(TRAIN,))
INFINITY_MM = Layout(write_infinity, (INFINITY,), ("infinity_mm",), splits=(TRAIN,))
