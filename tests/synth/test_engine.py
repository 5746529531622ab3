"""Check the data engine on small clips: layout, levels, reasons of rejection, and runs that are killed."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.own_process import contents
from support.own_process import run as run_process
from support.stored_clips import track, write_mevis, write_refsav
from support.synth_run import FAR, PixelCaptioner, run, start

from sa2va.apps import cli
from sa2va.data.catalog import FOLDERS, build_dataset
from sa2va.data.stored import DrawConfig
from sa2va.files.scratch import UNLOCKED
from sa2va.synth.captioner import OBJECT, SCENE, VIDEO, Part, Parts, Verdict
from sa2va.synth.engine import Outcome
from sa2va.synth.layout import start_run
from sa2va.synth.report import finish
from sa2va.synth.sources import find_clips
from sa2va.synth.views import NUM_FRAMES, read_views

CODE = """
import random, threading, time
from support.bulk_files import die_at, run_until_done
from support.stored_clips import write_refsav
from support.synth_run import *

source = write_refsav(place / "source")

def kill_later(number):
    seconds = random.Random(number).uniform(0, 0.3)
    kill = lambda: (time.sleep(seconds), os.kill(os.getpid(), 9))
    threading.Thread(target=kill if number < 8 else int, daemon=True).start()

run(source, place / "warm")
ways = {
    "whole": (lambda number: None, {}),
    "at each change": (lambda number: die_at(2 * number + 1, place / "at each change"), {}),
    "at random": (kill_later, {"captioner": PixelCaptioner(seconds=0.06)}),
}
for name, (prepare, how) in ways.items():
    print(run_until_done(prepare, lambda: run(source, place / name, **how)))
"""


@pytest.mark.parametrize("write", [write_refsav, write_mevis])
def test_the_training_reads_what_was_written(write, tmp_path: Path) -> None:
    """Videos and masks of the source come back, of the kept object alone, whatever the layout of the source."""
    source = write(tmp_path / "source")
    run(source, tmp_path / "out")
    dataset = build_dataset("refsav", tmp_path / "out" / FOLDERS["refsav"])
    assert len(dataset) == 3
    sample = dataset[0]
    assert (sample.masks == track(0)[None]).all() and sample.num_frames == 6
    (turn,) = sample.turns
    assert "A box of 72 px. It is on the left." in turn.question
    expected = find_clips(source)[0].open()[0].frames([0, 3, 5]).astype(int)
    assert abs(sample.media[0].frames([0, 3, 5]) - expected).mean() < 12  # compressed again, if it was pictures
    short = build_dataset("refsav", tmp_path / "out" / FOLDERS["refsav"], draw=DrawConfig(captions="short"))[0]
    assert sorted(short.meta["expressions"]) == ["0 short 0", "0 short 1"]


def test_the_videos_of_the_source_are_linked_and_stay(tmp_path: Path) -> None:
    source = write_refsav(tmp_path / "source")
    before = contents(source)
    run(source, tmp_path / "out")
    assert contents(source) == before
    linked = tmp_path / "out/video_datas/sam_v_full/sav_000/sav_000001.mp4"
    assert linked.stat().st_ino == (source / "sam_v_full/sav_000/sav_000001.mp4").stat().st_ino


def test_reasons_are_counted_and_listed(tmp_path: Path) -> None:
    found = run(write_refsav(tmp_path / "source"), tmp_path / "out")
    report = json.loads(found["report.json"])
    assert (report["clips"], report["objects"], report["objects with a caption"]) == (3, 6, 3)
    assert report["levels"] == {
        OBJECT: {"written": 6, "accepted": 3, "rejected": {"too large": 3}},
        SCENE: {"written": 3, "accepted": 3, "rejected": {}},
        VIDEO: {"written": 3, "accepted": 0, "rejected": {FAR: 3}},
    }
    rows = [json.loads(line) for line in found["expressions.jsonl"].splitlines()]
    assert [row["problem"] for row in rows[:4]] == ["", "", FAR, "too large: seen twice"]
    assert rows[2]["iou"] == 0.1023 and rows[3]["iou"] is None and rows[3]["caption"] == ""


def test_an_unreadable_clip_is_reported_and_costs_nothing_else(tmp_path: Path) -> None:
    source = write_refsav(tmp_path / "source")
    (source / "sam_v_full/sav_000/sav_000001.mp4").write_bytes(b"no video")
    report = json.loads(run(source, tmp_path / "out")["report.json"])
    (error,) = report["clips that cannot be read"].values()
    assert "sav_000001.mp4" in error and report["objects with a caption"] == 2
    assert len(build_dataset("refsav", tmp_path / "out" / FOLDERS["refsav"])) == 2


def test_killed_runs_end_with_the_same_bytes(tmp_path: Path) -> None:
    """Processes die at the first, the third, ... change of the folder, or after a random time."""
    done = run_process(CODE, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    none, at_changes, at_random = map(int, done.stdout.split())
    assert none == 0 and at_changes >= 8 and at_random >= 1
    expected = contents(tmp_path / "whole")
    for way in ("at each change", "at random"):
        # Killed before it could be locked, a scratch folder stays.
        found = {name: content for name, content in contents(tmp_path / way).items() if UNLOCKED not in name}
        assert found == expected


def test_a_finished_step_is_not_asked_again(tmp_path: Path) -> None:
    source = write_refsav(tmp_path / "source")
    expected = run(source, tmp_path / "out")
    engine = start(source, tmp_path / "out", captioner=Silent())
    for block in range(engine.job.num_blocks):
        engine.run(block)
    assert finish(engine) is not None and contents(tmp_path / "out") == expected


class Silent(PixelCaptioner):
    """A captioner that must not be asked."""

    def caption(self, level, views, earlier):
        raise AssertionError(f"asked about {level}")


def test_shards_end_with_the_captions_of_one_process(tmp_path: Path) -> None:
    source = write_refsav(tmp_path / "source")
    expected = run(source, tmp_path / "one")
    second, first = start(source, tmp_path / "two"), start(source, tmp_path / "two")
    second.run(1)
    assert finish(second) is None
    first.run(0)
    assert finish(first) is not None
    found = contents(tmp_path / "two")
    assert {name: found[name] for name in found if name != "journal.jsonl"} == {
        name: expected[name] for name in expected if name != "journal.jsonl"
    }


def test_other_settings_and_other_folders_are_refused(tmp_path: Path) -> None:
    start_run(tmp_path / "out", {"captioner": "a"})
    with pytest.raises(ValueError, match="holds a run with captioner 'a', not 'b'; choose another folder"):
        start_run(tmp_path / "out", {"captioner": "b"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").touch()
    with pytest.raises(ValueError, match="holds other files, such as photo.png"):
        start_run(tmp_path / "mine", {})
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="it is a file"):
        start_run(tmp_path / "file", {})


def test_views_show_an_object_and_nothing_else(tmp_path: Path) -> None:
    first, second = read_views(find_clips(write_refsav(tmp_path))[0])
    assert first.frames.shape[0] == min(6, NUM_FRAMES) and (first.masks == track(0)).all()
    assert (first.object, second.object) == (0, 1) and second.mask.sum() == track(1).sum((1, 2)).max()
    assert (first.alone()[~first.mask] == 200).all() and (first.alone()[first.mask] == first.frame[first.mask]).all()
    height, width = first.crop().shape[:2]
    assert (height, width) == (9 + 2 * 2, 8 + 2 * 2)  # box of 8 x 9 px with a quarter of 9 around it
    erased = first.erased()
    assert (erased.masks == first.masks).all() and (erased.frames.std((1, 2)) <= first.frames.std((1, 2)) + 1).all()
    outlined = first.outlined()
    assert (outlined != first.frame).any() and len(first.outlined_frames()) == 6


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "expected a folder of clips with masks; there is none"),
        (lambda folder: folder.mkdir(), "no clips with masks; expected VIDEO.mp4 with VIDEO_manual.json"),
        (
            lambda folder: (write_refsav(folder), (folder / "sam_v_full/sav_000/sav_000000.mp4").unlink()),
            "there is no sav_000000.mp4 beside it",
        ),
    ],
)
def test_bad_sources_are_one_line(prepare, message: str, tmp_path: Path) -> None:
    prepare(tmp_path / "source")
    with pytest.raises(ValueError, match=message):
        find_clips(tmp_path / "source")


def test_manual_masklets_are_preferred(tmp_path: Path) -> None:
    place = write_refsav(tmp_path) / "sam_v_full/sav_000"
    (place / "sav_000000_auto.json").write_text("{}")
    (place / "sav_000001_manual.json").rename(place / "sav_000001_auto.json")
    names = [clip.masklets.name for clip in find_clips(tmp_path) if clip.masklets is not None]
    assert names == ["sav_000000_manual.json", "sav_000001_auto.json", "sav_000002_manual.json"]


def test_a_caption_has_the_object_and_what_was_accepted() -> None:
    parts = {name: Part(text=f"{name}.", expression=f"the {name}") for name in (OBJECT, SCENE, VIDEO)}
    verdicts = {OBJECT: Verdict(problem="not found"), SCENE: Verdict(), VIDEO: Verdict(problem="other")}
    one = Outcome("clip", 0, parts, verdicts)
    assert list(one.kept) == [OBJECT, SCENE] and one.expressions == ["the scene"]
    nothing = Outcome("clip", 0, parts, verdicts | {SCENE: Verdict(problem="other")})
    assert not nothing.kept and not nothing.expressions


def test_two_clips_of_one_name_are_refused(tmp_path: Path) -> None:
    source = write_refsav(tmp_path / "source")
    place = source / "sam_v_full" / "other"
    place.mkdir()
    for ending in (".mp4", "_manual.json"):
        shutil.copy(source / f"sam_v_full/sav_000/sav_000001{ending}", place)
    with pytest.raises(ValueError, match=r"two clips are named sav_000001, .*other.*sav_000"):
        find_clips(source)


def test_a_folder_of_results_among_the_clips_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_refsav(tmp_path / "source")
    assert cli.main(["synth", str(source), "-o", str(source / "out")]) == 2
    assert "choose another folder" in capsys.readouterr().err and not (source / "out").exists()


def test_a_clip_that_can_be_read_again_after_a_kill_is_captioned(tmp_path: Path) -> None:
    """The first call cannot read a clip and ends before the merge; its empty records are not taken for answers."""
    source = write_refsav(tmp_path / "source")
    expected = run(source, tmp_path / "whole")["expressions.jsonl"]
    file = source / "sam_v_full/sav_000/sav_000001_manual.json"
    content = file.read_text()
    file.write_text("{")

    class Dies(PixelCaptioner):
        def merge(self, parts: Sequence[Parts]) -> list[str]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out", captioner=Dies())
    file.write_text(content)
    assert run(source, tmp_path / "out")["expressions.jsonl"] == expected
