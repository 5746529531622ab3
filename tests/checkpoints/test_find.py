"""Check the folder that a model name resolves to."""

from pathlib import Path

import pytest

from sa2va.checkpoints.find import EMBEDDED, find_model


def test_a_folder_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab" / "small").mkdir(parents=True)
    assert find_model("lab/small") == Path("lab/small")
    with pytest.raises(ValueError, match="lab/small is on this machine and has no revision 'v1'"):
        find_model("lab/small", revision="v1")


def test_an_embedded_name_comes_before_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert find_model("tiny") == EMBEDDED["tiny"]
    assert (EMBEDDED["tiny"] / "config.json").is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "the name of the model is empty"), ("huge", "no model 'huge'; use tiny, a model folder, or org/name")],
)
def test_no_such_model_is_one_line(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        find_model(name)
    assert "\n" not in str(error.value)
