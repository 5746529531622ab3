"""Export conversations, and compare what the core reads with the drawn samples."""

from world.export.conftest import Export
from world.export.reading import assert_same_pictures

from sa2va.data.catalog import FOLDERS, build_dataset
from sa2va.types import Turn
from sa2va.world.export.chat import draw_chats, find_told
from sa2va.world.tasks.catalog import write_caption


def said(turns: tuple[Turn, ...] | list[Turn]) -> list[tuple[str, str]]:
    return [(turn.question, turn.answer) for turn in turns]


def test_llava_has_conversations_captions_and_text_only_records(write: Export) -> None:
    root, (part,) = write("llava", items=8)
    dataset = build_dataset("llava", root / FOLDERS["llava"])
    drawn = list(draw_chats(part))
    assert len(dataset) == len(drawn) == 8
    tasks, num_texts = set(), 0
    for (_, sample), read in zip(drawn, (dataset[index] for index in range(8)), strict=True):
        tasks.add(sample.task)
        if read.media:
            assert_same_pictures(read, sample.frames)
            assert said(read.turns) == said(sample.turns)
            continue
        num_texts += 1
        (question, answer), *others = said(find_told(sample))
        caption, _ = write_caption(sample.meta["scene"])
        assert said(read.turns) == [(f"{caption}\n{question}", answer), *others]
    assert tasks == {"world/conversation", "world/caption"} and num_texts >= 1


def test_video_chat_has_conversations_and_captions_of_whole_clips(write: Export) -> None:
    root, (part,) = write("videochat")
    dataset = build_dataset("videochat", root / FOLDERS["videochat"])
    for index, (_, sample) in enumerate(draw_chats(part, "video_")):
        read = dataset[index]
        assert_same_pictures(read, sample.frames)
        assert said(read.turns) == said(sample.turns)
