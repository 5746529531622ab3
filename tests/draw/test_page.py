"""Check pages: one self-contained file with escaped texts."""

import re

import numpy as np

from sa2va.draw.page import document, paragraphs, picture_to_uri


def test_a_page_is_whole_and_asks_for_nothing() -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    page = document("a < b", f"<img alt='' src='{picture_to_uri(picture)}'>", ".more { color: red; }")
    assert "<title>a &lt; b</title>" in page
    assert ".more { color: red; }</style>" in page
    assert all(source.startswith("data:image/webp;base64,") for source in re.findall(r"src='([^']*)'", page))
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page


def test_paragraphs_are_escaped() -> None:
    assert paragraphs(["<b>", "x"], "lead") == "<p class='lead'>&lt;b&gt;</p><p class='lead'>x</p>"
