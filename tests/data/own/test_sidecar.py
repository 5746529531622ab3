"""Check expressions from a table beside the annotations, and the draws of a dataset."""

from pathlib import Path

import pytest
from support.own_formats import write_coco
from support.stored_layouts import write_json

from sa2va.data.own.dataset import build
from sa2va.data.own.objects import OwnConfig
from sa2va.data.stored import DrawConfig

HEAD = "file,object,expression\n"


@pytest.mark.parametrize("name", ["photo_0.png", "photo_0"])
def test_rows_of_a_table_become_expressions(tmp_path: Path, name: str) -> None:
    folder = write_coco(tmp_path)
    (folder / "expressions.csv").write_text(f'{HEAD}{name},0,"the grey, old cat"\n{name},0;1,Both\n{name},1,both.\n')
    texts = {one.text: one.objects for one in build(folder, split="all").records[0].expressions}
    assert texts["the grey, old cat"] == (0,) and texts["Both"] == (0, 1) and "both." not in texts


def test_a_table_may_be_json(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    write_json(folder / "expressions.json", [{"file": "photo_1.png", "object": 10, "expression": "a hungry dog"}])
    dataset = build(folder / "labels.json", split="all", own=OwnConfig(category_names=False))
    assert [one.text for one in dataset.records[0].expressions] == ["a hungry dog"] and len(dataset) == 1
    assert dataset[0].turns[0].spans  # without category names, nothing absent is asked for


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,expression\nphoto_0,x\n", r"expressions\.csv: it has no column 'object'; expected a first line file,"),
        (f"{HEAD}photo_9.png,0,x\n", "line 2: there is no annotated file 'photo_9.png'"),
        (f"{HEAD}photo_0.png,0,x\nphoto_0.png,7,x\n", "line 3: photo_0.png has no object '7'; its objects are 0, 1, 2"),
        (f"{HEAD}photo_0.png,0,\n", "line 2: expression is empty"),
        (f"{HEAD}photo_0.png,0\n", "line 2: expression"),
        (
            f"{HEAD}photo_0.png,0,the grey, old cat\n",
            "line 2: it has more columns than the first line; put an expression",
        ),
        (f'{HEAD}photo_0.png,0,"x\n', "not a table"),
        ("", "empty"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (write_coco(tmp_path) / "expressions.csv").write_text(text)
    with pytest.raises(ValueError, match=reason) as caught:
        build(tmp_path)
    assert "\n" not in str(caught.value)


def test_two_tables_are_one_too_many(tmp_path: Path) -> None:
    for name in ("expressions.csv", "expressions.json"):
        (write_coco(tmp_path) / name).write_text("[]")
    with pytest.raises(ValueError, match="keep one of them"):
        build(tmp_path)


def test_epochs_use_every_expression_before_one_is_repeated(tmp_path: Path) -> None:
    texts = [f"cat {letter}" for letter in "abcdefgh"]
    folder = write_coco(tmp_path, text=texts)
    own = OwnConfig(absent_rate=1.0)
    dataset = build(folder, split="all", draw=DrawConfig(num_expressions=4), own=own)
    asked = [turn.question for epoch in range(4) for turn in dataset.draw(0, epoch).turns if turn.spans]
    assert len(asked) == 4 * 3 and all(any(text in question for question in asked) for text in texts)
    absent = [turn for epoch in range(4) for turn in dataset.draw(0, epoch).turns if not turn.spans]
    assert [turn.answer for turn in absent] == ["There is no traffic light."] * 4
    never = build(folder, split="all", own=OwnConfig(absent_rate=0.0))
    assert all(turn.spans for turn in never[0].turns) and len(never) == 2


def test_the_mask_of_an_absent_object_is_empty_on_request(tmp_path: Path) -> None:
    dataset = build(write_coco(tmp_path), split="all", draw=DrawConfig(absent="mask"), own=OwnConfig(complete=True))
    sample = dataset[2]  # a picture of nothing
    (turn,) = sample.turns
    assert not sample.masks[list(turn.spans[0].objects)].any()
    assert len(build(tmp_path, split="all", own=OwnConfig(complete=False))) == 2
