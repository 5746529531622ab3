"""Check what the processor makes of the texts and regions of picture datasets; it is the one that prediction uses."""

import json
from pathlib import Path

import pytest
from support.small_model import build_model
from support.stored_layouts import write_json
from support.stored_pictures import write_gcg, write_llava, write_osprey

from sa2va.data.catalog import build_dataset
from sa2va.model.processor import Processor
from sa2va.tokens import ADDED_TOKENS

LITERAL = "Is [SEG] or <p>a</p> or <vp></vp> or <IMG_CONTEXT> a tag, x < y?"


@pytest.fixture(scope="module")
def processor() -> Processor:
    return build_model()[1]


def test_special_tokens_in_the_texts_of_a_source_are_text(tmp_path: Path, processor: Processor) -> None:
    file = write_llava(tmp_path) / "LLaVA-Instruct-150K/llava_v1_5_mix665k.json"
    records = json.loads(file.read_text())
    for record in records:
        for turn in record["conversations"]:
            turn["value"] = LITERAL
    write_json(file, records)
    dataset = build_dataset("llava", tmp_path)
    batch = processor([dataset[index] for index in range(3)])
    special = processor.tokenizer.convert_tokens_to_ids(list(ADDED_TOKENS))
    assert not any((batch.input_ids == index).any() for index in special)
    assert len(batch.seg_positions) == 0
    assert LITERAL in processor.decode(batch.input_ids[0].tolist())


def test_image_tokens_and_visual_tokens_agree_also_beside_a_text_only_sample(
    tmp_path: Path, processor: Processor
) -> None:
    chats = build_dataset("llava", write_llava(tmp_path / "a"))
    marked = build_dataset("osprey", write_osprey(tmp_path / "b"))
    batch = processor([chats[2], marked[0], chats[0], marked[1]])
    counts = (batch.input_ids == processor.image_id).sum(1).tolist()
    assert counts[0] == 0 and counts[2] > 0 and sum(counts) == len(batch.visual_index)
    assert counts[1] > counts[2]  # the tokens of the regions follow those of the picture
    only_text = processor([chats[2]])
    assert len(only_text.pixel_values) == 0 and len(only_text.visual_index) == 0 and len(only_text.seg_positions) == 0


def test_a_grounded_caption_is_marked_phrase_by_phrase_and_reads_the_same_without_marks(
    tmp_path: Path, processor: Processor
) -> None:
    sample = build_dataset("gcg_grandf", write_gcg(tmp_path))[0]
    ids, objects = processor.encode_answer(sample.turns[0])
    text = processor.decode(ids)
    assert text == "<p>A man in</p>[SEG] <p>a red shirt</p>[SEG] holds a ball."
    assert objects == [0, 1]
    for token in ADDED_TOKENS:
        text = text.replace(token, "")
    assert text == sample.turns[0].answer
