"""Check that the log has one line per record, drops lines after the resumed step, and respects `quiet`."""

import io
import json

from support.toy_stage import toy_config

from sa2va.training.logger import RunLogger


def record(step: int, stage: str = "toy") -> dict:
    losses = {"total": 0.5, "mask": 0.25}
    return {"stage": stage, "step": step, "losses": losses, "lr": 0.1, "grad_norm": 1.0, "samples_per_s": 12.34}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def steps(folder) -> list[tuple[str, int]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [(json.loads(line)["stage"], json.loads(line)["step"]) for line in lines]


def test_a_resumed_stage_drops_its_later_lines_and_a_cut_one(tmp_path):
    with RunLogger(tmp_path, quiet=True, tensorboard=False) as logger:
        for step in (1, 2, 3):
            logger.log(record(step))
        logger.log(record(9, "before"))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"stage": "toy", "st')
    with RunLogger(tmp_path, quiet=True, tensorboard=False) as logger:
        logger.start_stage(toy_config(), 2)
        logger.log(record(3))
    assert steps(tmp_path) == [("toy", 1), ("toy", 2), ("before", 9), ("toy", 3)]


def test_a_file_gets_a_line_now_and_then(tmp_path):
    said = io.StringIO()
    with RunLogger(tmp_path, tensorboard=False, stream=said, line_every_s=1000) as logger:
        logger.start_stage(toy_config(steps=3), 0)
        for step in (1, 2, 3):
            logger.advance(step)
            logger.log(record(step))
    lines = said.getvalue().splitlines()
    assert lines[0] == "toy: 0 of 3 steps done, 16 samples a step"
    assert lines[1:] == ["toy 3/3 total 0.5 mask 0.25 | 12.3 samples/s, 00:00 left"]
    assert len(steps(tmp_path)) == 3


def test_a_terminal_gets_one_bar(tmp_path):
    said = Terminal()
    with RunLogger(tmp_path, tensorboard=False, stream=said) as logger:
        logger.start_stage(toy_config(steps=2), 0)
        for step in (1, 2):
            logger.log(record(step))
            logger.advance(step)
        logger.note("hello")
        logger.end_stage()
    assert "2/2" in said.getvalue() and "mask 0.25 | 12.3 samples/s" in said.getvalue()
    assert "hello\n" in said.getvalue()


def test_quiet_says_nothing(tmp_path):
    said = io.StringIO()
    with RunLogger(tmp_path, quiet=True, tensorboard=False, stream=said) as logger:
        logger.start_stage(toy_config(), 0)
        logger.log(record(1))
        logger.validation("toy", 1, {"iou": 0.5})
        logger.note("hello")
    assert said.getvalue() == ""
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["validation"] == {"iou": 0.5}


def test_a_table_is_shown_in_columns_and_logged_as_rows(tmp_path):
    said = io.StringIO()
    rows = [
        {"dataset": "refcoco", "records": 16994, "wanted": 0.25},
        {"dataset": "mevis", "records": 1662, "wanted": 0.0333},
    ]
    with RunLogger(tmp_path, tensorboard=False, stream=said) as logger:
        logger.table("toy", 3, rows)
    assert said.getvalue().splitlines() == [
        "dataset  records  wanted",
        "refcoco   16,994  25.00%",
        "mevis      1,662   3.33%",
    ]
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"stage": "toy", "step": 3, "table": rows}
