"""Check captioner and checker of a chat endpoint against a server on this machine that looks at the pictures."""

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.judge_server import Reply, Server, completion
from support.stored_clips import write_refsav

from sa2va.apps import cli
from sa2va.data.catalog import build_dataset
from sa2va.endpoint import Endpoint, Unreachable, is_url, write_message
from sa2va.synth.captioner import CLIP, OBJECT, VIDEO, Part
from sa2va.synth.local import DISAGREE
from sa2va.synth.remote import EndpointCaptioner, EndpointChecker, read_line, read_yes
from sa2va.synth.views import View

BOX = np.zeros((20, 30), bool)
BOX[5:11, 8:16] = True


def view(level: int) -> View:
    """Return an object with a gray level on white."""
    frame = np.where(BOX[..., None], np.uint8(level), np.uint8(255)).repeat(3, -1)
    frames, masks = np.stack([frame] * 3), np.stack([BOX] * 3)
    return View(clip="a", object=0, frames=frames, masks=masks, frame=frame, mask=BOX)


def read_pictures(body: dict[str, Any]) -> tuple[list[np.ndarray], str]:
    """Return the pictures and the text of a question, as a server gets them."""
    content = body["messages"][0]["content"]
    if isinstance(content, str):
        return [], content
    *shown, last = content
    sources = [one["image_url"]["url"].removeprefix("data:image/png;base64,") for one in shown]
    return [np.array(Image.open(io.BytesIO(base64.b64decode(text)))) for text in sources], last["text"]


def look(body: dict[str, Any]) -> Reply:
    """Answer by what the pictures show: a box of level 10 is black, another gray."""
    pictures, text = read_pictures(body)
    if "contradict" in text:
        return completion("No.")
    if text.startswith("Join"):
        return completion(" ".join(line.removeprefix("- ") for line in text.splitlines()[1:]))
    color = "black" if any((picture == 10).all(-1).any() for picture in pictures) else "gray"
    if text.startswith("Does"):
        return completion("Yes" if color in text and "moves" not in text else "no, it does not")
    if len(pictures) > 1:
        return completion(f"It moves in {len(pictures)} frames.")
    return completion(f'"a {color} box"\n' if "noun phrase" in text else f"The {color} box is on the left.")


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*replies: Any) -> Server:
        servers.append(Server(*replies))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def endpoint(server: Server) -> Endpoint:
    return Endpoint(server.url, "m", noun="captioner", key="secret", pause=0.0)


def test_three_levels_see_a_crop_an_outline_and_frames(serve: Callable[..., Server]) -> None:
    server = serve(look)
    captioner, views = EndpointCaptioner(endpoint(server)), [view(10), view(90)]
    objects = captioner.caption(OBJECT, views, [{}, {}])
    assert [part and (part.text, part.problem) for part in objects] == [("a black box.", ""), ("a gray box.", "")]
    sizes = sorted(read_pictures(one)[0][0].shape for one in server.requests if read_pictures(one)[0])
    assert sizes == [(10, 12, 3)] * 2 + [(20, 30, 3)] * 2
    earlier = [{OBJECT: part} for part in objects if part]
    assert [part and part.text for part in captioner.caption("scene", views, earlier)] == [
        "The black box is on the left.", "The gray box is on the left."
    ]  # fmt: skip
    moves = captioner.caption(VIDEO, views, earlier)
    assert [part and (part.text, part.look) for part in moves] == [("It moves in 3 frames.", CLIP)] * 2
    merged = captioner.merge([{OBJECT: objects[0], VIDEO: moves[0]}] if objects[0] and moves[0] else [])
    assert merged == ["a black box. It moves in 3 frames."]
    assert all(one["Authorization"] == "Bearer secret" for one in server.headers)


def test_two_looks_that_contradict_are_a_problem(serve: Callable[..., Server]) -> None:
    server = serve(lambda body: completion("yes") if "contradict" in str(body) else look(body))
    (part,) = EndpointCaptioner(endpoint(server)).caption(OBJECT, [view(10)], [{}])
    assert part is not None and part.problem == f"{DISAGREE}: 'a black box'"


def test_a_checker_asks_yes_or_no(serve: Callable[..., Server]) -> None:
    server = serve(look)
    parts = [Part(text="", expression=text) for text in ("the black box", "the gray box")]
    verdicts = EndpointChecker(endpoint(server)).check([view(10)] * 2, parts)
    assert [one.problem for one in verdicts] == ["", "the checker says that it does not fit"]
    (silent,) = EndpointChecker(endpoint(serve(completion("perhaps")))).check([view(10)], parts[:1])
    assert silent.problem == "the model gives no answer"


@pytest.mark.parametrize(
    ("reply", "line", "yes"),
    [
        ("  'a red\ncar.'  ", "a red car", None),
        ("Yes, it is.", "Yes, it is", "yes"),
        ("NO", "NO", "no"),
        ("...", None, None),
    ],
)
def test_replies_are_read(reply: str, line: str | None, yes: str | None) -> None:
    assert read_line(reply) == line and read_yes(reply) == yes


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(serve: Callable[..., Server]) -> None:
    server = serve((429, {}), (503, b"busy"), completion("a thing"))
    reply = endpoint(server).ask([write_message("What?")], read_line, "phrase")
    assert (reply.value, len(server.requests)) == ("a thing", 3)
    with pytest.raises(Unreachable, match="refuses with 401"):
        endpoint(serve((401, {}))).ask([write_message("What?")], read_line, "phrase")


def test_large_pictures_are_shrunk_and_small_ones_kept() -> None:
    large, small = np.zeros((500, 2048, 3), np.uint8), np.zeros((20, 30, 3), np.uint8)
    shown, _ = read_pictures({"messages": [write_message("What?", [large, small])]})
    assert [one.shape for one in shown] == [(250, 1024, 3), (20, 30, 3)]


@pytest.mark.parametrize(
    ("text", "found"), [("http://127.0.0.1:8000/v1", True), ("https://a.b", True), ("tiny", False), ("org/name", False)]
)
def test_addresses_differ_from_names(text: str, found: bool) -> None:
    assert is_url(text) is found


def test_the_command_captions_through_a_server_and_resumes(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(look)
    monkeypatch.setenv("SA2VA_CAPTIONER_KEY", "from environment")
    source, out = write_refsav(tmp_path / "source"), tmp_path / "out"
    command = [
        "synth",
        str(source),
        "-o",
        str(out),
        "--captioner",
        server.url,
        "--captioner-model",
        "m",
        "--limit",
        "2",
    ]
    assert cli.main([*command, "--block", "1", "--shard", "1/2", "-q"]) == 0
    assert "not finished" in capsys.readouterr().out
    assert cli.main([*command, "--block", "1", "--json", "-q"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert state["finished"] and state["report"]["clips"] == 2 and state["report"]["objects with a caption"] == 4
    assert state["report"]["levels"]["video"]["accepted"] == 0
    number = len(server.requests)
    assert cli.main([*command, "--block", "1", "-q"]) == 0 and len(server.requests) == number
    assert {one["Authorization"] for one in server.headers} == {"Bearer from environment"}
    assert "from environment" not in (out / "synth.json").read_text()
    assert len(build_dataset("refsav", out / "video_datas")) == 2
    assert cli.main([*command, "--block", "2", "-q"]) == 2
    assert "holds a run with block 1, not 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--captioner", "http://127.0.0.1:9/v1"], "add --captioner-model NAME"),
        (["--captioner", "http://127.0.0.1:9/v1", "--captioner-model", "m"], "cannot be reached"),
        (["--checker", "absent"], "no model 'absent'"),
        (["--wording", "klingon"], "captioner 'klingon' is unknown"),
    ],
)
def test_a_bad_model_is_one_line(
    given: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sa2va.endpoint.time.sleep", lambda seconds: None)
    source = write_refsav(tmp_path / "source")
    assert cli.main(["synth", str(source), "-o", str(tmp_path / "out"), "-q", *given]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("reply", [(503, b"busy"), (429, {}), (200, b"<html>"), (200, b"[" * 100_000)])
def test_a_server_that_stays_busy_or_broken_ends_the_run_and_loses_nothing(
    reply: Reply,
    serve: Callable[..., Server],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sa2va.endpoint.time.sleep", lambda seconds: None)
    source, out, state = write_refsav(tmp_path / "source"), tmp_path / "out", {"bad": True}
    server = serve(lambda body: reply if state["bad"] else look(body))
    command = ["synth", str(source), "-o", str(out), "--captioner", server.url, "--captioner-model", "m", "-q"]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert "the same command again goes on" in error and error.count("\n") == 1
    state["bad"] = False
    assert cli.main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"]["objects with a caption"] == 6


def test_a_key_goes_to_its_own_server_alone(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner, checker = serve(look), serve(look)
    monkeypatch.setenv("SA2VA_CAPTIONER_KEY", "first")
    source = str(write_refsav(tmp_path / "source"))
    command = ["synth", source, "--captioner", captioner.url, "--captioner-model", "m", "-q", "--limit", "1"]
    command += ["--checker", checker.url, "--checker-model", "m"]
    assert cli.main([*command, "-o", str(tmp_path / "one")]) == 0
    assert {one.get("Authorization") for one in captioner.headers} == {"Bearer first"}
    assert checker.headers and {one.get("Authorization") for one in checker.headers} == {None}
    monkeypatch.setenv("SA2VA_CHECKER_KEY", "second")
    assert cli.main([*command, "-o", str(tmp_path / "two")]) == 0
    assert {one.get("Authorization") for one in checker.headers} == {None, "Bearer second"}


@pytest.mark.parametrize("address", ["http://me:word@127.0.0.1:9/v1", "http://127.0.0.1:9/v1?key=word"])
def test_an_address_with_a_secret_is_refused_and_not_shown(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_refsav(tmp_path / "source"), tmp_path / "out"
    command = ["synth", str(source), "-o", str(out), "--captioner", address, "--captioner-model", "m"]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert "give the base alone" in error and "word" not in error and error.count("\n") == 1
    assert not out.exists()


def test_half_a_surrogate_pair_becomes_a_question_mark(serve: Callable[..., Server]) -> None:
    reply = endpoint(serve(completion("a \ud800 box"))).ask([write_message("What?")], read_line, "phrase")
    assert reply.value == "a ? box"


def test_pictures_are_drawn_when_they_are_asked_about(serve: Callable[..., Server]) -> None:
    drawn: list[int] = []

    class Drawn(View):
        def outlined_frames(self) -> list[np.ndarray]:
            drawn.append(len(server.requests))
            return super().outlined_frames()

    server = serve(look)
    views = [Drawn(**vars(view(10))) for _ in range(40)]
    EndpointCaptioner(endpoint(server)).caption(VIDEO, views, [{OBJECT: Part(text="a box.")}] * 40)
    assert len(drawn) == 40 and max(drawn) > 20
