"""Check that exports are whole, deterministic, and replace nothing."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from sa2va.apps import cli
from sa2va.world.export.catalog import LAYOUTS
from sa2va.world.export.layout import MAX_ITEMS, Layout, Part, choose_scenes, export, find_filled, record_of
from sa2va.world.scenes.splits import DEV, REPORT
from sa2va.world.tasks import items


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_seed_gives_the_same_bytes_below_the_places_of_the_layout(name: str, tmp_path: Path) -> None:
    written = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        list(export({name: LAYOUTS[name]}, folder, choose_scenes(["train", "dev"], None, 1)))
        written.append(contents(folder))
    assert written[0] == written[1]
    files = {Path(file) for file in written[0]} - {Path(".sa2va.json"), Path(record_of(name))}
    places = [Path(place) for place in LAYOUTS[name].places]
    assert all(any(file.is_relative_to(place) for place in places) for file in files)
    assert all(any(file.is_relative_to(place) for file in files) for place in places)
    others = [Path(place) for other in LAYOUTS.keys() - {name} for place in LAYOUTS[other].places]
    assert not any(file.is_relative_to(place) for file in files for place in others)


def draw_nothing(root: Path, parts: Sequence[Part]) -> None:
    """Write no file."""


def test_scenes_have_the_seeds_of_their_splits() -> None:
    train, dev = choose_scenes(["train", "dev"], None, 2)
    assert (train.seed, dev.split, dev.seed) == (0, DEV.name, DEV.seed) and train.is_training and not dev.is_training
    assert [scenes.seed for scenes in choose_scenes(["train", "dev"], 5, 2)] == [5, 5]
    assert choose_scenes(["report"], None, 2)[0].seed == REPORT.seed


def test_parts_have_the_names_of_the_layout_and_numbers_of_their_own() -> None:
    layout = Layout(draw_nothing, (), (), ("train", "val", "testA"))
    parts = layout.parts(choose_scenes(["train", "dev"], None, 2))
    assert [part.name for part in parts] == ["train", "val", "testA"]
    numbers = [number for part in parts for number, _ in part.draw("refseg")]
    assert numbers == [place * MAX_ITEMS + one for place in range(3) for one in range(2)]
    assert [part.name for part in layout.parts(choose_scenes(["report"], None, 2))] == ["val", "testA"]


def test_parts_and_blocks_of_one_task_show_other_scenes_and_unusable_samples_are_skipped() -> None:
    parts = Layout(draw_nothing, (), (), ("train", "val", "test")).parts(choose_scenes(["train", "dev"], 7, 2))
    pictures = {
        sample.frames.tobytes() for part in parts for block in (0, 1) for _, sample in part.draw("refseg", block=block)
    }
    assert len(pictures) == 3 * 2 * 2
    (part,) = Layout(draw_nothing, (), ()).parts(choose_scenes(["train"], None, 2))
    kept = [sample.meta["index"] for _, sample in part.draw("refseg", keep=lambda one: one.meta["index"] % 3 == 2)]
    assert kept == [2, 5]


@pytest.mark.parametrize(
    "splits, seed, items, reason",
    [
        ((), None, 1, "expected train, and at most one of dev and report"),
        (("dev", "report"), None, 1, "at most one of dev and report"),
        (("train", "train"), None, 1, "at most one of dev and report"),
        (("val",), None, 1, "split 'val' is unknown"),
        (("report",), 3, 1, "split report has one seed"),
        (("train",), -1, 1, "seed -1: expected"),
        (("train",), None, MAX_ITEMS + 1, "expected 1 to 100000 items"),
    ],
)
def test_impossible_scenes_are_refused(splits: tuple[str, ...], seed: int | None, items: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        choose_scenes(splits, seed, items)


def test_nothing_is_replaced_and_layouts_share_a_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["world", "export", "--items", "1", str(tmp_path)]
    assert cli.main([*words, "--as", "refcoco"]) == 0
    assert str(tmp_path / "ref_seg/refcoco") in capsys.readouterr().out
    before = contents(tmp_path)
    assert cli.main([*words, "--as", "refcoco+", "--as", "refcoco", "--seed", "3"]) == 2
    assert "refcoco': is there already; remove it or choose another folder" in capsys.readouterr().err
    assert contents(tmp_path) == before
    assert cli.main([*words, "--as", "refcoco+"]) == 0
    after = contents(tmp_path)
    assert {name: after[name] for name in before.keys() - {".sa2va.json"}}.items() <= before.items()
    (tmp_path / "ref_seg/refcocog").write_text("mine")
    assert cli.main([*words, "--as", "refcocog"]) == 2
    assert (tmp_path / "ref_seg/refcocog").read_text() == "mine"


def test_all_leaves_out_what_has_no_split_for_the_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["world", "export", str(tmp_path), "--items", "1", "--split", "dev"]
    assert cli.main([*words, "--as", "llava"]) == 2
    assert "layout llava has only train; use --split train" in capsys.readouterr().err
    assert cli.main([*words[:-2], "--as", "region_caption"]) == 2
    assert "layout region_caption has only val; use --split dev" in capsys.readouterr().err
    assert cli.main([*words, "--as", "all"]) == 0
    written = {Path(line.split()[1]) for line in capsys.readouterr().out.splitlines()}
    assert tmp_path / "ref_seg/grefcoco" in written and tmp_path / "llava_data" not in written
    assert tmp_path / "region_caption" in written and all(path.is_dir() for path in written)


def test_all_leaves_out_what_needs_a_module_that_is_not_installed() -> None:
    scenes = choose_scenes(["dev"], None, 1)
    layouts = {needs: Layout(draw_nothing, (), (), needs=needs) for needs in ("", "json", "no_such_module")}
    assert list(find_filled(layouts, scenes)) == ["", "json"]


def read_help(capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["world", "export", "--help"]) == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_help_names_every_evaluation_split(capsys: pytest.CaptureFixture[str]) -> None:
    text = read_help(capsys)
    names = {split for layout in LAYOUTS.values() for split in layout.splits}
    assert all(name in text for name in names)


def test_the_documentation_lists_the_splits_of_every_layout() -> None:
    text = (Path(__file__).parents[3] / "docs/benchmarks/drawn.md").read_text()
    rows = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| `")]
    listed = {name.strip("` "): row[2].strip().split(", ") for row in rows for name in row[0].split(",")}
    assert listed == {name: list(layout.splits) for name, layout in LAYOUTS.items()}


def test_no_two_splits_share_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items, "CLIP_FRAMES", 1)
    list(export(LAYOUTS, tmp_path, choose_scenes(["train", "dev"], 7, 2)))
    pictures = [path.read_bytes() for path in tmp_path.rglob("*.jpg")]
    assert len(pictures) == len(set(pictures)) > 80


def test_a_layout_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def write(root: Path, parts: object) -> None:
        (root / "half").mkdir()
        (root / "half/file").write_text("half")
        raise ValueError("the second half")

    with pytest.raises(ValueError, match="the second half"):
        list(export({"broken": Layout(write, ("half",), ())}, tmp_path / "data", choose_scenes(["train"], None, 1)))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "words, reason",
    [
        (["--as", "refcocoa"], "layout 'refcocoa' is unknown; did you mean refcoco"),
        (["--as", "refcoco", "--split", "dev", "--split", "report"], "at most one of dev and report"),
        ([], "Missing option '--as'"),
    ],
)
def test_a_wrong_command_line_is_one_line(
    words: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["world", "export", str(tmp_path), *words]) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1 and not any(tmp_path.iterdir())
