"""Export conversations, and compare what the core reads with the drawn samples."""

from world.export.conftest import Export
from world.export.reading import assert_same_pictures

from sa2va.data.catalog import FOLDERS, build_dataset
from sa2va.types import Turn
from sa2va.world.export.chat import INFINITY_BLOCK, WAYS, draw_chats
from sa2va.world.tasks.catalog import write_caption


def said(turns: tuple[Turn, ...] | list[Turn]) -> list[tuple[str, str]]:
    return [(turn.question, turn.answer) for turn in turns]


def test_llava_has_conversations_of_every_way_and_text_only_records(write: Export) -> None:
    root, (part,) = write("llava", items=8)
    dataset = build_dataset("llava", root / FOLDERS["llava"])
    drawn = list(draw_chats(part))
    assert len(dataset) == len(drawn) == 8
    for (_, sample, way, turns), read in zip(drawn, (dataset[index] for index in range(8)), strict=True):
        if way != "text only":
            assert_same_pictures(read, sample.frames)
            assert said(read.turns) == said(turns)
            continue
        (question, answer), *others = said(turns)
        caption, _ = write_caption(sample.meta["scene"])
        assert not read.media and said(read.turns) == [(f"{caption}\n{question}", answer), *others]
    assert {way for _, _, way, _ in drawn} == set(WAYS)
    answers = {way: {turn.answer for turn in turns} for _, _, way, turns in drawn}
    assert answers["letter"] <= set("ABCD") and answers["yes or no"] == {"yes", "no"}


def test_infinity_has_other_scenes_than_llava(write: Export) -> None:
    root, (part,) = write("infinity_mm", items=4)
    dataset = build_dataset("infinity_mm", root / FOLDERS["infinity_mm"])
    drawn = list(draw_chats(part, block=INFINITY_BLOCK))
    assert len(dataset) == len(drawn) == 4
    for index, (_, sample, _, turns) in enumerate(drawn):
        assert_same_pictures(dataset[index], sample.frames)
        assert said(dataset[index].turns) == said(turns)
    first = next(draw_chats(part))
    assert first[1].meta["scene"] != drawn[0][1].meta["scene"]


def test_video_chat_has_conversations_and_captions_of_whole_clips(write: Export) -> None:
    root, (part,) = write("videochat", items=5)
    dataset = build_dataset("videochat", root / FOLDERS["videochat"])
    drawn = list(draw_chats(part, moving=True))
    for index, (_, sample, _, turns) in enumerate(drawn):
        read = dataset[index]
        assert_same_pictures(read, sample.frames)
        assert said(read.turns) == said(turns)
    assert {way for _, _, way, _ in drawn} == {"open", "letter", "caption"}
