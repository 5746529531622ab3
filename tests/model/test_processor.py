"""Check pixels and prompts: tiles, regions, labels, positions of the mask tokens."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.small_families import build_family, build_tokenizer
from support.small_model import build_model, draw_sample
from tokenizers.processors import TemplateProcessing

from sa2va.data.tracks import StoredTracks
from sa2va.inference.requests import Options, Request
from sa2va.masks import encode_rle
from sa2va.media.pictures import save_image
from sa2va.media.source import open_media
from sa2va.model.families.internvl import choose_grid, split_tiles
from sa2va.model.losses import LossConfig
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.tokens import IGNORE_INDEX
from sa2va.types import ArrayFrames, Sample, Span, Turn

Small = tuple[Sa2VA, Processor]


@pytest.mark.parametrize(
    ("size", "grid"),
    [((640, 480), (4, 3)), ((400, 400), (1, 1)), ((640, 640), (2, 2)), ((1280, 720), (4, 2)), ((500, 250), (2, 1))],
)
def test_grid_of_tiles_as_published(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert choose_grid(*size, max_tiles=12, tile_size=448) == grid


@given(st.integers(8, 200), st.integers(8, 200), st.integers(1, 6))
def test_tiles_cover_any_picture(width: int, height: int, limit: int) -> None:
    tiles = split_tiles(np.zeros((height, width, 3), np.uint8), 16, limit)
    columns, rows = choose_grid(width, height, limit, 16)
    assert tiles.shape == (columns * rows + (columns * rows > 1), 16, 16, 3)
    assert columns * rows <= limit


def test_one_mask_token_per_object_after_its_phrase(small: Small) -> None:
    _, processor = small
    turn = Turn(
        question="?",
        answer="A red circle and two stars.",
        spans=(Span(start=2, end=12, objects=(0,)), Span(start=17, end=26, objects=(1, 2))),
    )
    ids, objects = processor.encode_answer(turn)
    text = processor.decode(ids)
    assert text == "A <p>red circle</p>[SEG] and <p>two stars</p>[SEG][SEG]."
    assert objects == [0, 1, 2]


def test_labels_cover_supervised_answers_and_their_end(small: Small) -> None:
    _, processor = small
    frames, masks = draw_sample(0).frames, np.zeros((1, 1, 64, 64), bool)
    turns = (
        Turn(question="circle?", answer="It is small."),
        Turn(question="star?", answer="It is .", spans=(Span(start=6, end=6, objects=(0,)),), supervised=False),
    )
    batch = processor([Sample.of_arrays(frames=frames, turns=turns, masks=masks)])
    taught = batch.labels[0][batch.labels[0] != IGNORE_INDEX]
    assert processor.decode(taught.tolist()) == "It is small.<|im_end|>"
    assert batch.input_ids[0, batch.seg_positions[0, 1]] == processor.seg_id
    assert len(batch.seg_positions) == 1


def test_regions_repeat_the_visual_tokens_below_them(small: Small) -> None:
    _, processor = small
    region = np.zeros((64, 64), bool)
    region[:32, 32:] = True  # upper right quarter: 2 x 2 cells of the 4 x 4 grid
    ids, index = processor.encode_question(Turn(question="region1?", answer="", regions=(region,)), [16])
    assert index == [*range(16), 2, 3, 6, 7]
    assert ids.count(processor.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")) == 20


def test_regions_of_every_turn_lie_on_the_thumbnail(small: Small) -> None:
    _, built = small
    processor = Processor(dataclasses.replace(built.config, max_tiles=4), built.tokenizer)
    region = np.zeros((128, 128), bool)
    region[:64, 64:] = True  # upper right quarter
    frames = np.random.default_rng(0).integers(0, 255, (1, 128, 128, 3), dtype=np.uint8)
    first = Turn(question="region1?", answer="A star.", regions=(region,))
    later = Turn(question="region1?", answer="A star.", regions=(region[::-1, ::-1].copy(),))
    plain = Turn(question="What?", answer="A star.")
    cells, opposite = [64 + cell for cell in (2, 3, 6, 7)], [64 + cell for cell in (8, 9, 12, 13)]  # 4 tiles before it
    for turns, marked in (
        ((first, later), [*cells, *opposite]),
        ((plain, later), opposite),
        ((plain, plain, first), cells),
    ):
        batch = processor([Sample.of_arrays(frames=frames, turns=turns)])
        assert batch.visual_index.tolist() == [*range(80), *marked]
        question = batch.input_ids[0].tolist()
        assert question.count(processor.tokenizer.convert_tokens_to_ids("<img>")) == 1


def test_a_region_smaller_than_a_cell_gets_the_cell_under_it(small: Small) -> None:
    _, processor = small
    region = np.zeros((64, 64), bool)
    region[33, 17] = True
    assert processor.region_cells(region) == [9]


SPECIAL = ["[SEG]", "<p>", "</p>", "<vp>", "<IMG_CONTEXT>", "<img>", "<|im_end|>", "<|endoftext|>", "<s>"]


@settings(deadline=None)  # the first example builds the model
@example("<ref>")  # a special token of the tokenizer alone
@given(st.lists(st.sampled_from(SPECIAL) | st.text(max_size=6), max_size=6).map("".join).filter(str.strip))
def test_every_word_of_a_user_is_text(question: str) -> None:
    _, processor = build_family("internvl_qwen2")
    template = [processor.tokenizer.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<|im_end|>", "<|im_start|>")]
    ids = processor.encode_follow_up(Turn(question=question, answer=""))
    special = processor.tokenizer.get_added_vocab()
    assert [i for i in ids if i in set(special.values())] == [template[1], *template]
    text = f"<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    assert processor.decode(ids) == text
    if not any(token in question for token in special):
        assert ids == processor.tokenizer.encode(text)


def test_a_first_token_stands_before_the_first_turn_alone() -> None:
    _, built = build_family("internvl_internlm2")
    tokenizer = copy.deepcopy(built.tokenizer)
    start = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", start)]
    )
    processor = Processor(built.config, tokenizer)
    turn = Turn(question="What?", answer="A cat.")
    assert processor.encode_question(turn, [4])[0] == [start, *built.encode_question(turn, [4])[0]]
    assert processor.encode_follow_up(turn) == built.encode_follow_up(turn)
    assert processor.encode_answer(turn) == built.encode_answer(turn)
    batch = processor([Sample.of_arrays(frames=draw_sample(0).frames, turns=(turn, turn))])
    assert (batch.input_ids[0] == start).nonzero().tolist() == [[0]]


def test_a_template_whose_marks_are_text_to_the_tokenizer() -> None:
    model, _ = build_family("internvl_qwen2")
    tokenizer = build_tokenizer("<|user|>", "<|assistant|>", "<|end|>")
    processor = Processor(dataclasses.replace(model.config, template="phi3_chat"), tokenizer)
    assert processor.end_texts == ("<|end|>",)
    turn = Turn(question="What?", answer="A cat.")
    ids, _ = processor.encode_question(turn, [4])
    text = "<|user|>\n<img>" + "<IMG_CONTEXT>" * 4 + "</img>What?<|end|>\n<|assistant|>\n"
    assert ids == tokenizer.encode(text) and processor.decode(ids) == text
    said = tokenizer.encode("A cat.<|end|>")
    ended = [processor.has_ended(said[:count]) for count in range(1, len(said) + 1)]
    assert ended == [False] * (len(said) - 1) + [True]
    assert processor.decode(said) == "A cat."
    assert [processor.is_settled(text) for text in ("A cat.", "A cat.<", "A cat.<|end|", "A cat.<|<")] == [
        True, False, False, False,
    ]  # fmt: skip
    after = "\n<|user|>\nWhat?<|end|>\n<|assistant|>\n"
    assert processor.decode(processor.encode_follow_up(turn)) == f"<|end|>{after}"
    assert processor.decode(processor.encode_follow_up(turn, is_ended=True)) == after
    batch = processor([Sample.of_arrays(frames=draw_sample(0).frames, turns=(turn,))])
    taught = batch.labels[0][batch.labels[0] != IGNORE_INDEX].tolist()
    assert taught == said


def test_a_system_turn_stands_before_the_first_question_alone() -> None:
    model, plain = build_family("qwen2_5_vl")
    processor = Processor(dataclasses.replace(model.config, system="Be brief."), plain.tokenizer)
    turn = Turn(question="What?", answer="")
    said = plain.tokenizer.encode("<|im_start|>system\nBe brief.<|im_end|>\n")
    assert processor.encode_question(turn, [4])[0] == said + plain.encode_question(turn, [4])[0]
    assert processor.encode_follow_up(turn) == plain.encode_follow_up(turn)


def test_pictures_clips_and_plain_text_share_a_batch(small: Small) -> None:
    model, processor = small
    wide = np.zeros((1, 40, 90, 3), np.uint8)
    turn = draw_sample(0).turns[0]
    several = Sample(media=(ArrayFrames(wide), ArrayFrames(wide)), turns=(Turn(question="same?", answer="It is."),))
    samples = [
        draw_sample(1),
        Sample(turns=(Turn(question="red or blue?", answer="It is red."),)),
        Sample.of_arrays(frames=wide, turns=(turn,), masks=np.ones((1, 1, 40, 90), bool)),
        several,
        draw_sample(2, num_frames=5),
    ]
    chosen = [[0], [], [0], [0], [1, 4]]
    batch = processor(samples, chosen, mask_side=32)
    image_id, tokens = processor.image_id, processor.config.tokens_per_tile
    assert ((batch.input_ids == image_id).sum(1) // tokens).tolist() == [1, 0, 1, 2, 2]
    assert batch.seg_rows.tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2], [2, 3, 2]]
    assert batch.seg_targets.shape == (4, 32, 32) and len(batch.sam_pixel_values) == 4
    with pytest.raises(ValueError, match="set mask_side"):
        processor(samples, chosen)
    together = model(batch, LossConfig(num_points=50))
    alone = [model(processor([s], [k], mask_side=32)) for s, k in zip(samples, chosen, strict=True)]
    assert together["lm"].count == sum(one["lm"].count for one in alone)
    torch.testing.assert_close(together["lm"].total, sum(one["lm"].total for one in alone), rtol=1e-4, atol=1e-4)


def test_only_the_frames_that_are_wanted_are_decoded() -> None:
    sample, asked = draw_sample(3, num_frames=6), []

    class Spied(ArrayFrames):
        def frames(self, indices):
            asked.append(list(indices))
            return super().frames(indices)

    lazy = dataclasses.replace(
        sample,
        media=(Spied(sample.frames),),
        tracks=StoredTracks([[encode_rle(mask) for mask in track] for track in sample.masks], 64, 64),
    )
    processor = build_model()[1]
    batch, plain = processor([lazy], [[1, 4]]), processor([sample], [[1, 4]])
    assert asked == [[1, 4]]
    assert torch.equal(batch.seg_targets, plain.seg_targets) and torch.equal(batch.seg_seeds, plain.seg_seeds)


def test_a_file_and_an_array_make_the_same_batch(tmp_path: Path) -> None:
    sample, processor = draw_sample(3), build_model()[1]
    save_image(tmp_path / "a.png", sample.frames[0])
    batch = processor([dataclasses.replace(sample, media=(open_media(tmp_path / "a.png"),))])
    plain = processor([sample])
    assert torch.equal(batch.pixel_values, plain.pixel_values)
    assert torch.equal(batch.sam_pixel_values, plain.sam_pixel_values)


def test_a_conversation_over_budget_loses_whole_turns_from_its_end(small: Small) -> None:
    _, processor = small
    grounded, plain = draw_sample(0).turns[0], Turn(question="star?", answer="There is no star.")
    whole = dataclasses.replace(draw_sample(0), turns=(grounded, plain, plain))
    length = processor([whole]).input_ids.shape[1]
    two = processor([dataclasses.replace(whole, turns=(grounded, plain))]).input_ids
    assert torch.equal(processor([whole], max_tokens=length).input_ids, processor([whole]).input_ids)
    shorter = processor([whole], max_tokens=length - 1)
    assert torch.equal(shorter.input_ids, two)
    assert (shorter.counts["dropped_turns"], shorter.counts["cut_answers"]) == (1, 0)
    assert processor([whole, whole], max_tokens=1 + int(shorter.seg_positions[0, 1])).counts["dropped_turns"] == 4


def test_a_first_turn_over_budget_is_cut_behind_its_masks_or_refused(small: Small) -> None:
    _, processor = small
    sample = dataclasses.replace(draw_sample(0), task="made/up")
    full = processor([sample])
    seg = int(full.seg_positions[0, 1])
    cut = processor([sample], max_tokens=seg + 1)
    assert torch.equal(cut.input_ids, full.input_ids[:, : seg + 1]) and torch.equal(cut.seg_rows, full.seg_rows)
    assert (cut.counts["cut_answers"], full.counts["cut_answers"], cut.counts["tokens"]) == (1, 0, seg + 1)
    told = f"pictures and 1 mask tokens take {seg + 1} tokens, max_tokens is {seg}, so that 1 mask tokens would be lost"
    with pytest.raises(ValueError, match=f"^made/up: question, {told}; raise max_tokens"):
        processor([sample], max_tokens=seg)
    with pytest.raises(ValueError, match=f"^set, record 7: question, {told}"):
        processor([sample], names=["set, record 7"], max_tokens=seg)


def test_counts_of_a_batch_are_its_tokens_and_its_padding(small: Small) -> None:
    batch = small[1]([draw_sample(0), Sample(turns=(Turn(question="red?", answer="It is."),))])
    assert batch.counts["tokens"] == int(batch.attention_mask.sum())
    assert batch.counts["padding"] == int((batch.attention_mask == 0).sum()) > 0


def test_phrases_that_overlap_are_refused(small: Small) -> None:
    spans = (Span(start=0, end=8, objects=(0,)), Span(start=4, end=12, objects=(0,)))
    turn = Turn(question="What is it?", answer="red blue circle", spans=spans)
    sample = dataclasses.replace(draw_sample(0), turns=(turn,))
    with pytest.raises(ValueError, match="sample 0: phrase 'blue cir' overlaps"):
        small[1]([sample])


@pytest.mark.parametrize("design", ["single", "repeat", "multiple"])
def test_masks_of_a_random_choice_of_objects_are_decoded_and_all_are_asked_for(design: str) -> None:
    model, processor = build_model(seg_design=design)
    clip = draw_sample(1, num_frames=3)
    turns = tuple(clip.turns * 4)
    masks = np.zeros((4, 3, 64, 64), bool)
    for number in range(4):
        masks[number, :, : 10 * number + 10] = True
    spread = tuple(
        dataclasses.replace(turn, spans=(Span(start=12, end=12, objects=(i,)),)) for i, turn in enumerate(turns)
    )
    sample = Sample.of_arrays(clip.frames, spread, masks)
    whole = processor([sample, clip], [[0, 2]] * 2, mask_side=32)
    fewer = processor([sample, clip], [[0, 2]] * 2, mask_side=32, max_objects=2)
    assert torch.equal(fewer.seg_positions, whole.seg_positions) and torch.equal(fewer.input_ids, whole.input_ids)
    rows = whole.seg_rows.tolist()
    places = [rows.index(row) for row in fewer.seg_rows.tolist()]
    assert len({row[2] for row in fewer.seg_rows.tolist()}) == 3 and len(places) == 6 and places == sorted(places)
    assert torch.equal(fewer.seg_targets, whole.seg_targets[places])
    chosen = {tuple(processor([sample], seeds=[s], max_objects=2).seg_rows[:, 2].unique().tolist()) for s in range(20)}
    assert len(chosen) > 2
    assert torch.isfinite(model(fewer, LossConfig(num_points=50))["bce"].total)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Options(max_new_tokens=0), "max_new_tokens is 0"),
        (lambda: Options(temperature=-1), "temperature is -1"),
        (lambda: Options(mode="loud"), "mode 'loud' is unknown"),
        (lambda: Request(None, "hello"), "needs either media or images"),
        (lambda: Request(np.zeros((4, 4, 3), np.uint8), "  "), "prompt is empty"),
    ],
)
def test_bad_input_is_one_line(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
