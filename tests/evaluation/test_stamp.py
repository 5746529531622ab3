"""Check that what decides an answer changes the stamp of a run, and nothing else does."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.small_model import build_model

from sa2va.apps.options import Compile, ModelChoice
from sa2va.checkpoints.folder import save_checkpoint
from sa2va.evaluation.stamp import PACKAGE, Run, describe_run, hash_code
from sa2va.inference.compiling import CompileMode
from sa2va.inference.loading import load


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    model, processor = build_model()
    save_checkpoint(model, processor.tokenizer, tmp_path / "model", torch.float32)
    return tmp_path / "model"


def describe(folder: Path, **how: str) -> Run:
    return describe_run(load(folder, **how), folder)


def test_weights_config_and_tokenizer_decide_and_a_card_does_not(model_folder: Path) -> None:
    predictor = load(model_folder)

    def model_hash() -> str:
        return describe_run(predictor, model_folder).model_hash

    before = model_hash()
    for name in ("README.md", "report.json", "gaze.json", "gaze.safetensors"):
        (model_folder / name).write_text("{}")
    assert model_hash() == before
    seen = {before}
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (model_folder / name).write_text((model_folder / name).read_text() + " ")
        seen.add(model_hash())
    data = bytearray((model_folder / "model.safetensors").read_bytes())
    data[-1] ^= 1  # the last bit of one weight
    (model_folder / "model.safetensors").write_bytes(data)
    seen.add(model_hash())
    assert len(seen) == 5


def test_a_model_is_known_by_content_wherever_it_is(model_folder: Path, tmp_path: Path) -> None:
    here = describe(model_folder)
    model_folder.rename(tmp_path / "moved")
    there = describe(tmp_path / "moved")
    assert (here.model, there.model) == (str(model_folder), str(tmp_path / "moved"))
    assert here.model_hash == there.model_hash


def test_the_precision_in_use_is_named(model_folder: Path) -> None:
    runs = [describe(model_folder, dtype=dtype) for dtype in ("auto", "float32", "bfloat16")]
    assert [(run.dtype, run.device) for run in runs] == [("float32", "cpu"), ("float32", "cpu"), ("bfloat16", "cpu")]
    assert runs[0] == runs[1] != runs[2]


def test_compiling_is_named(model_folder: Path) -> None:
    predictor = load(model_folder)
    modes: tuple[CompileMode, ...] = ("auto", True, False)
    runs = [describe_run(predictor, model_folder, compile=one) for one in modes]
    assert [run.to_dict()["compile"] for run in runs] == ["auto", True, False]
    assert ["compile=" in run.in_words() for run in runs] == [False, True, True]
    assert ModelChoice(compile=Compile.ON).sources()["compile"] is True


# ---- code

CODE = '''"""Say what it does."""

import os


class Thing:
    """A thing."""

    size = 1

    def grow(self):
        """Grow it."""
        return self.size + 1
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for room in ("model", "apps", "evaluation", "metrics", "other", "training"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "thing.py").write_text(CODE)
    (tmp_path / "masks.py").write_text(CODE)
    return tmp_path


def rewrite(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    "change",
    [
        rewrite("Say what it does.", "Say it better."),
        rewrite('    """A thing."""\n\n', ""),
        rewrite("Grow it.", "Let it grow.\n\n        Returns:\n            Its size.\n        "),
        rewrite("import os\n", "import os  # for later\n# more\n\n"),
        rewrite("self.size + 1", "(self.size +\n            1)"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(package: Path, change: Callable[[Path], None]) -> None:
    before = hash_code(package)
    change(package / "model" / "thing.py")
    change(package / "masks.py")
    assert hash_code(package) == before


@pytest.mark.parametrize(
    "change",
    [
        rewrite("self.size + 1", "self.size + 2"),
        rewrite("size = 1", "size = 1.0"),
        rewrite("size = 1", '"""A string that is no docstring of the class."""; size = "a"'),
        rewrite("def grow(self)", "def grow(self, by=1)"),
        lambda path: path.rename(path.with_name("other.py")),
        lambda path: path.with_name("new.py").write_text(""),
    ],
)
@pytest.mark.parametrize("name", ["model/thing.py", "masks.py"])
def test_every_line_of_code_counts(package: Path, name: str, change: Callable[[Path], None]) -> None:
    before = hash_code(package)
    change(package / name)
    assert hash_code(package) != before


@pytest.mark.parametrize("room", ["apps", "evaluation", "metrics", "other", "training"])
def test_rooms_that_no_answer_depends_on_do_not_count(
    package: Path, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sa2va.evaluation.stamp.load_extensions", lambda: {"other": SimpleNamespace(DATASETS={})})
    before = hash_code(package)
    rewrite("self.size + 1", "self.size + 2")(package / room / "thing.py")
    assert hash_code(package) == before


def test_every_room_of_ours_that_answers_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        place = tmp_path / path.relative_to(PACKAGE)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("SIZE = 1\n")
    seen = {hash_code(tmp_path)}
    parts = ("masks", "tokens", "media/video", "data/base", "model/sam/sam2", "checkpoints/rope", "inference/engine")
    for name in parts:
        rewrite("1", "2")(tmp_path / f"{name}.py")
        seen.add(hash_code(tmp_path))
    monkeypatch.setattr("sa2va.evaluation.stamp.ANSWER_VERSION", 3)
    seen.add(hash_code(tmp_path))
    assert len(seen) == len(parts) + 2
    assert hash_code() == hash_code(PACKAGE) != hash_code(tmp_path)
