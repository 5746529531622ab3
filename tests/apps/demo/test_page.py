"""Check that the demo page is one file, contains the figures, and escapes text."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sa2va.apps.demo.page import Exchange, Exhibit, Page, Row, render_page
from sa2va.evaluation.benchmark import Figure
from sa2va.media.writer import VideoWriter

PICTURE = np.zeros((8, 10, 3), np.uint8)


class Structure(HTMLParser):
    """HTML parser that collects tags and checks that they close in order."""

    VOID = {"meta", "img", "br"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(page: Page) -> tuple[str, Structure]:
    html = render_page(page)
    structure = Structure()
    structure.feed(html)
    assert structure.open == []
    return html, structure


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "clip.mp4", 8) as video:
        video.write(PICTURE)
    return tmp_path / "clip.mp4"


def test_the_page_needs_no_other_file(clip: Path) -> None:
    exhibits = [
        Exhibit(section="Chat", title="one", picture=PICTURE, exchanges=(Exchange(question="what?", answer="this"),)),
        Exhibit(section="Chat", title="two", clip=clip, notes=("there 0.9",)),
        Exhibit(section="Video", title="three", clip=clip),
    ]
    html, structure = parse(Page(title="Sa2VA", introduction=("hello",), exhibits=exhibits))
    assert not re.search(r"(src|href)='(?!data:)", html) and "http" not in html
    assert (structure.seen.count("article"), structure.seen.count("video"), structure.seen.count("img")) == (3, 2, 1)
    assert structure.text.count("Chat") == 1 and "what?" in structure.text


def test_text_of_the_model_stays_text() -> None:
    evil = "<script>alert(1)</script> & 'more'"
    exhibit = Exhibit(section=evil, title=evil, picture=PICTURE, exchanges=(Exchange(question=evil, answer=evil),))
    page = Page(title="Sa2VA", introduction=(evil,), exhibits=[exhibit], footer=(evil,))
    html, structure = parse(page)
    assert "script" not in structure.seen and structure.text.count(evil) == 6
    assert "<script" not in html


@pytest.mark.parametrize(
    ("right", "shown", "expected"), [(True, "right", False), (False, "wrong", True), (None, "", True)]
)
def test_what_was_expected_is_told_where_it_differs(right: bool | None, shown: str, expected: bool) -> None:
    exchange = Exchange(question="q", answer="a", expected="blue", right=right)
    _, structure = parse(
        Page(title="t", introduction=(), exhibits=[Exhibit(section="s", title="t", exchanges=(exchange,))])
    )
    assert shown in structure.text and ("expected: blue" in structure.text) is expected


def test_figures_stand_beside_card_and_chance() -> None:
    rows = [
        Row(task="Groups", figure=Figure(name="cIoU", value=0.8123, low=0.7, high=0.9, num_items=40), card=0.79),
        Row(task="Groups", figure=Figure(name="J&F", value=None, low=None, high=None, num_items=0, chance=0.3)),
    ]
    _, structure = parse(Page(title="t", introduction=(), exhibits=(), rows=rows))
    assert structure.seen.count("tr") == 4
    for text in ("0.81", "0.70 to 0.90", "0.79", "40", "J&F", "0.30"):
        assert text in structure.text


def test_without_figures_there_is_no_table() -> None:
    _, structure = parse(Page(title="t", introduction=(), exhibits=()))
    assert "table" not in structure.seen
