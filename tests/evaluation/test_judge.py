"""Check the judge against a server on this machine: verdicts, retries, failures, stored verdicts."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.judge_server import Reply, Server, completion

from sa2va.evaluation import judge as judges
from sa2va.evaluation.judge import Case, Judge, Unjudged, current_judge, judging, read_rating

CASE = Case("What color is the star?", "red", "It is red.")


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*replies: Reply) -> Server:
        servers.append(Server(*replies))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("3", 3), ("0", 0), (" 2\n", 2), ("Rating: 1", 1), ("**3**", 3), ("I rate it 2.", 2),
        ("4", None), ("-1", None), ("2.5", None), ("2/3", None), ("3 out of 3", None), ("good", None), ("", None),
        ("13", None), ("2 or 3", None),
    ],
)  # fmt: skip
def test_a_rating_is_the_only_number(reply: str, score: int | None) -> None:
    assert read_rating(reply) == score


def test_a_verdict_is_asked_once_and_stored_with_its_judge(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(completion("2"))
    first = Judge(server.url + "/", "gpt", key="secret", folder=tmp_path)
    assert first.rate(CASE) == {"judge": "gpt", "score": 2, "reply": "2"}
    first.close()
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions" and request["model"] == "gpt" and request["temperature"] == 0
    said = request["messages"][1]["content"]
    assert all(part in said for part in CASE) and request["messages"][0]["content"] == judges.INSTRUCTIONS
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert "secret" not in (tmp_path / "judge.jsonl").read_text()
    again = Judge(folder=tmp_path)  # no server, no name
    assert again.rate(CASE)["score"] == 2 and len(server.requests) == 1
    with pytest.raises(Unjudged, match="--judge URL --judge-model NAME"):
        again.rate(CASE._replace(answer="blue"))
    Judge(server.url, "gpt", folder=tmp_path, instructions="Other.").rate(CASE)
    Judge(server.url, "other", folder=tmp_path).rate(CASE)
    assert len(server.requests) == 3
    with pytest.raises(Unjudged, match="verdicts of gpt, other are stored; choose one with --judge-model"):
        Judge(folder=tmp_path).rate(CASE)
    assert Judge(None, "gpt", folder=tmp_path).rate(CASE)["score"] == 2


def test_passing_failures_are_tried_again(serve: Callable[..., Server]) -> None:
    server = serve((500, {}), (429, {}), (200, b"no json"), completion("3"))
    assert Judge(server.url, "gpt", pause=0).rate(CASE)["score"] == 3 and len(server.requests) == 4


def test_a_failure_is_kept_named_and_tried_again_next_time(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(*[completion("perhaps")] * 4, completion("1"))
    failed = Judge(server.url, "gpt", folder=tmp_path, pause=0).rate(CASE)
    assert failed["score"] is None and failed["error"] == "no rating in 'perhaps'" and len(server.requests) == 4
    assert Judge(folder=tmp_path).rate(CASE) == failed
    assert Judge(server.url, "gpt", folder=tmp_path, pause=0).rate(CASE)["score"] == 1


@pytest.mark.parametrize(("status", "word"), [(401, "401"), (404, "404"), (302, "302")])
def test_a_server_that_refuses_is_asked_once(serve: Callable[..., Server], status: int, word: str) -> None:
    server = serve((status, {}))
    with pytest.raises(Unjudged, match=f"^judge {server.url}: refuses with {word}"):
        Judge(server.url, "gpt", pause=0).rate(CASE)
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(Unjudged, match="^judge http://127.0.0.1:9/v1: cannot be reached"):
        Judge("http://127.0.0.1:9/v1", "gpt", pause=0).rate(CASE)


def test_many_are_rated_at_once_in_order(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(completion("1"))
    cases = [CASE._replace(answer=str(number)) for number in range(20)]
    rated = Judge(server.url, "gpt", folder=tmp_path)
    assert [one["score"] for one in rated.rate_all(cases)] == [1] * 20
    rated.close()
    assert len((tmp_path / "judge.jsonl").read_text().splitlines()) == 20
    assert [one["score"] for one in Judge(folder=tmp_path).rate_all(cases)] == [1] * 20 and len(server.requests) == 20


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"url": "localhost:8000", "model": "m"}, "expected the base of a server"),
        ({"url": "file:///etc/passwd", "model": "m"}, "expected the base of a server"),
        ({"url": "http://127.0.0.1:1/v1"}, "add --judge-model NAME"),
        ({"key": "a\nb"}, "printable ASCII"),
    ],
)
def test_a_bad_judge_is_one_line(given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Judge(**given)
    assert "\n" not in str(caught.value)


def test_the_judge_of_a_block() -> None:
    one = Judge()
    with judging(one):
        assert current_judge() is one
    assert current_judge() is not one
