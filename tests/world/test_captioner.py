"""Check the captioner of drawn clips with the embedded model, and the measure of what it wrote."""

import json
from pathlib import Path

import pytest

from sa2va.apps import cli
from sa2va.data.catalog import build_dataset
from sa2va.synth.captioner import LEVELS
from sa2va.world.captioner import read_name
from sa2va.world.export.refsav import caption_objects, write_long_caption
from sa2va.world.expression_check import check_expressions, draw_scenes, exchange, read_long, read_short
from sa2va.world.language.descriptions import describe
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.tasks.catalog import TASKS


@pytest.mark.parametrize("index", range(20))
def test_a_name_is_the_description_without_its_article(index: int) -> None:
    for thing in make_scene(3, "train", index).objects:
        name = read_name(f"It is {describe(thing)}.")
        assert describe(thing).split(" ", 1)[1] == name


@pytest.mark.parametrize("text", ["", "no", "It is a dog.", "a small red circle and a large blue star"])
def test_other_answers_have_no_name(text: str) -> None:
    assert read_name(text) == ""


@pytest.mark.parametrize("index", range(8))
def test_the_expressions_of_the_world_denote_their_objects(index: int) -> None:
    """The measure accepts what the world itself says about an object alone, and nothing of its neighbor."""
    sample = TASKS["video_refseg"](11, "train", index, num_turns=8, empty_share=0.0)
    scene = sample.meta["scene"]
    for place, texts in caption_objects(sample).items():
        for text in texts:
            assert read_short({"expression": text}, scene) == {place}
    assert read_short({"expression": "the dog"}, scene) == frozenset()


@pytest.mark.parametrize("index", range(8))
def test_every_sentence_of_a_caption_must_hold(index: int) -> None:
    sample = TASKS["video_refseg"](11, "train", index, num_turns=8, empty_share=0.0)
    scene = sample.meta["scene"]
    for place, thing in enumerate(scene.objects):
        sentences = write_long_caption(scene, place).split(". ")
        own = ". ".join(one for one in sentences if not one.startswith("The object nearest"))
        found = read_long({"caption": own}, scene)
        resizes = thing.motion.kind in ("grows", "shrinks")  # its size cannot be said
        assert place in found or resizes
        assert read_long({"caption": f"{own} It sings."}, scene) == frozenset()


def test_captions_are_exchanged_within_a_clip() -> None:
    rows = [
        {"clip": clip, "object": n, "caption": f"{clip}{n}"} for clip, num in (("a", 3), ("b", 1)) for n in range(num)
    ]
    assert [(row["object"], row["caption"]) for row in exchange(rows)] == [(0, "a1"), (1, "a2"), (2, "a0")]


@pytest.mark.slow
def test_the_engine_runs_on_an_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Export, caption, check and measure three clips, with the embedded model as captioner and checker."""
    data, out = tmp_path / "data", tmp_path / "out"
    assert cli.main(["world", "export", str(data), "--as", "refsav", "--items", "3", "--seed", "5", "-q"]) == 0
    assert cli.main(["synth", str(data), "-o", str(out), "-q"]) == 0
    shares = {one.name: one for one in check_expressions(out, data)}
    written = {level: shares[f"{level}, written"].num for level in LEVELS}
    rows = [json.loads(line) for line in (out / "expressions.jsonl").read_text().splitlines()]
    assert written == {level: sum(row["level"] == level for row in rows) for level in LEVELS}
    assert 0 < shares["object, accepted"].num <= written["object"] and shares["object, accepted"].value > 0.3
    assert len(build_dataset("refsav", out / "video_datas")) > 0
    capsys.readouterr()
    assert cli.main(["world", "check-expressions", str(out), "--data", str(data)]) == 0
    assert "caption, merged from what was accepted" in capsys.readouterr().out
    with pytest.raises(ValueError, match="has no clip sav_000009; give the export"):
        draw_scenes(data, {"sav_000009"})


ROW = {
    "clip": "sav_000000",
    "object": 0,
    "level": "object",
    "text": "",
    "expression": "",
    "accepted": True,
    "caption": "",
}


@pytest.mark.parametrize(
    ("lines", "record", "message"),
    [
        (None, None, "expected the folder of a finished sa2va synth"),
        ("{", None, "is damaged"),
        ("1", None, "expected the fields accepted, caption"),
        ("", None, "has no expressions to measure"),
        (json.dumps(ROW), None, "give the folder of sa2va world export --as refsav"),
        (json.dumps(ROW), {"valid": {}}, "export with --split train"),
        (json.dumps(ROW), {"train": {"x": 1}}, "export again"),
        (json.dumps(ROW), {"train": 3}, "export again"),
    ],
)
def test_bad_folders_are_one_line(
    lines: str | None, record: object, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if lines is not None:
        (tmp_path / "expressions.jsonl").write_text(lines)
    if record is not None:
        (tmp_path / "drawn").mkdir()
        (tmp_path / "drawn" / "refsav.json").write_text(json.dumps(record))
    assert cli.main(["world", "check-expressions", str(tmp_path), "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_share_of_nothing_is_null_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "expressions.jsonl").write_text(json.dumps(ROW))
    (tmp_path / "drawn").mkdir()
    scenes = {"split": "train", "seed": 5, "num_items": 1}
    (tmp_path / "drawn" / "refsav.json").write_text(json.dumps({"train": scenes}))
    assert cli.main(["world", "check-expressions", str(tmp_path), "--data", str(tmp_path), "--json"]) == 0
    shares = {one["name"]: one for one in json.loads(capsys.readouterr().out, parse_constant=pytest.fail)}
    assert shares["object, written"]["value"] == 0 and shares["object, rejected"]["value"] is None
