"""Check that a model is downloaded completely, once, pinned and without code, and that failures are one line."""

import errno
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from support.fake_hub import COMMITS, FakeHub
from support.silent_hub import SilentHub

from sa2va.apps import cli
from sa2va.checkpoints.hub import fetch, is_hub_name

TENSORS = bytes(range(256)) * 16_384  # 4 MiB
OLD = {"config.json": b'{"version": 1}', "model.safetensors": b"old"}
FILES = {
    "config.json": b'{"version": 2}',
    "model-00001-of-00002.safetensors": TENSORS,
    "model-00002-of-00002.safetensors": b"tail",
    "model.safetensors.index.json": b"{}",
    "tokenizer.model": b"pieces",
    "merges.txt": b"a b",
    "chat_template.jinja": b"{{ x }}",
    "modeling_sa2va_chat.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickle",
    "model.pt": b"pickle",
    "notes.txt": b"read me",
    "original/model.safetensors": b"a second copy",
}
WANTED = {name for name in FILES if name.rpartition(".")[2] in ("json", "safetensors", "model", "jinja")}
WANTED = (WANTED | {"merges.txt"}) - {"original/model.safetensors"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    repositories = {
        "lab/model": {"main": FILES, "v1": OLD},
        "lab/pickled": {"main": {"config.json": b"{}", "pytorch_model.bin": b"pickle"}},
        "lab/closed": {"main": FILES},
        "lab/empty": {"main": {"notes.txt": b""}},
    }
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with FakeHub(repositories, closed={"lab/closed"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["ByteDance/Sa2VA-4B", "a/b", "facebook/sam2.1-hiera-large", "a_b/c.d-e"])
def test_hub_names(name: str) -> None:
    assert is_hub_name(name)


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "./b", "../b", "/a/b", "a/", "/b", "a b/c", "a/b\n", "a\\b/c", ""])
def test_names_of_folders_are_none_of_the_hub(name: str) -> None:
    assert not is_hub_name(name)


def test_everything_needed_comes_and_no_code(hub: FakeHub) -> None:
    got = contents(fetch("lab/model"))
    assert got == {name: FILES[name] for name in WANTED}
    assert {name for name, _ in hub.fetched} == WANTED


def test_without_weights_only_the_description_comes(hub: FakeHub) -> None:
    folder = fetch("lab/model", weights=False)
    assert set(contents(folder)) == {name for name in WANTED if not name.endswith(".safetensors")}
    assert set(contents(fetch("lab/model"))) == WANTED  # the rest comes later, into the same folder


def test_the_second_time_needs_no_hub(hub: FakeHub) -> None:
    folder = fetch("lab/model")
    fetched = len(hub.fetched)
    assert fetch("lab/model") == folder
    hub.down = True
    assert fetch("lab/model", offline=True) == folder
    assert len(hub.fetched) == fetched


def test_a_broken_transfer_goes_on_where_it_broke(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)  # bytes; whole ones are kept
    name = "model-00001-of-00002.safetensors"
    hub.cut[name] = 1_000_000
    assert contents(fetch("lab/model"))[name] == TENSORS
    ranges = [asked for file, asked in hub.fetched if file == name]
    assert ranges == [None, "bytes=1000000-"]


def test_a_revision_is_pinned(hub: FakeHub) -> None:
    assert contents(fetch("lab/model", revision="v1")) == OLD
    assert contents(fetch("lab/model", revision=COMMITS["v1"])) == OLD
    assert contents(fetch("lab/model"))["config.json"] == FILES["config.json"]
    assert contents(fetch("lab/model", revision="v1", offline=True)) == OLD


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lab/nothing", {}, "no folder and no model on http://127.*is called 'lab/nothing'"),
        ("lab/closed", {}, "lab/closed is gated; accept its terms"),
        ("lab/model", {"revision": "v9"}, "lab/model has no revision 'v9'"),
        ("lab/model", {"offline": True}, "lab/model is not on this machine; load it once without offline"),
        ("lab/model", {"offline": True, "revision": "v1"}, "lab/model at revision 'v1' is not on this machine"),
        ("lab/pickled", {}, r"lab/pickled has no \*.safetensors"),
        ("lab/empty", {}, "lab/empty holds no model"),
    ],
)
def test_failures_name_the_fix(hub: FakeHub, name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        fetch(name, **options)
    assert "\n" not in str(error.value)


def test_an_incomplete_copy_is_not_used_offline(hub: FakeHub) -> None:
    fetch("lab/model", weights=False)
    with pytest.raises(ValueError, match="lab/model is not on this machine"):
        fetch("lab/model", offline=True)


def test_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="http://127.0.0.1:9 cannot be reached, and lab/model is not on this machine"):
        fetch("lab/model")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left in .*cache for lab/model; make room"),
        (OSError("file should be of size 5\nbut has size 3"), "interrupted .file should be of size 5 but has size 3"),
    ],
)
def test_disk_and_transfer(hub: FakeHub, error: OSError, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(ValueError, match=message) as caught:
        fetch("lab/model")
    assert "\n" not in str(caught.value)


# ---- a hub that is silent


@pytest.fixture
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short limits, as HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT set them, and an empty cache."""
    for name, value in (("HF_HUB_ETAG_TIMEOUT", 1), ("HF_HUB_DOWNLOAD_TIMEOUT", 1), ("HF_HUB_OFFLINE", False)):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
@pytest.mark.parametrize(
    "words",
    [
        ["segment", "PICTURE", "the red circle", "--model", "lab/model"],
        ["segment", "PICTURE", "the red circle", "--sam", "lab/model"],
        ["segment", "PICTURE", "the red circle", "--adapter", "lab/model"],
        ["doctor", "lab/model"],
    ],
    ids=["model", "sam", "adapter", "doctor"],
)
def test_a_hub_that_never_answers_is_one_line_in_time(
    words: list[str],
    start: bytes,
    impatient: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    began = time.monotonic()
    with SilentHub(start) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        assert cli.main([str(tmp_path / "x.png") if word == "PICTURE" else word for word in words]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{hub.endpoint} did not answer within 1 s, and lab/model is not on this machine; check the network" in said
    assert time.monotonic() - began < 30


def test_a_hub_that_falls_silent_within_a_file_is_one_line(
    hub: FakeHub, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the tries of the library
    hub.stalls["model-00001-of-00002.safetensors"] = 100_000
    with pytest.raises(ValueError, match="stopped answering while lab/model was downloaded; repeat the call") as error:
        fetch("lab/model")
    assert "\n" not in str(error.value)
    hub.stalls.clear()
    assert contents(fetch("lab/model"))["model-00001-of-00002.safetensors"] == TENSORS


def test_a_hub_without_a_list_of_files_is_left_after_a_few_tries(
    hub: FakeHub, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.mute = True
    with pytest.raises(ValueError, match="did not answer within 1 s, and lab/model is not on this machine"):
        fetch("lab/model")


def test_an_earlier_copy_is_used_where_the_hub_is_silent(
    hub: FakeHub, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch("lab/model")
    with SilentHub() as silent:
        monkeypatch.setenv("HF_ENDPOINT", silent.endpoint)
        assert fetch("lab/model") == folder


@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_switch_that_forbids_the_network_is_named(
    hub: FakeHub, switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(switch, "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=f"lab/model is not on this machine, and {switch} is set; unset it"):
        fetch("lab/model")


def test_other_requests_of_the_process_keep_their_own_limits(hub: FakeHub) -> None:
    from huggingface_hub.utils import get_session

    fetch("lab/model")
    seen = []
    client = get_session()
    client.event_hooks = {**client.event_hooks, "request": [*client.event_hooks["request"], seen.append]}
    client.get(hub.endpoint, timeout=None)
    assert set(seen[0].extensions["timeout"].values()) == {None}
