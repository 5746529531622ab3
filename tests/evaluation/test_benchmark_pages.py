"""Check that the index of benchmarks names every benchmark, and that its links lead to pages."""

import re
from pathlib import Path

import pytest

from sa2va.evaluation.catalog import PUBLIC

PAGES = Path(__file__).parents[2] / "docs/benchmarks"


@pytest.mark.parametrize("name", PUBLIC)
def test_the_index_names_every_benchmark(name: str) -> None:
    assert f"`{name}/" in (PAGES / "README.md").read_text()


def test_links_between_pages_lead_to_pages() -> None:
    for page in PAGES.glob("*.md"):
        for link in re.findall(r"\]\(([\w./-]+\.md)\)", page.read_text()):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"
