"""What the pages link to is there, and their tables are those of the records."""

import pathlib
import re

import pytest
import records

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    ROOT / name
    for name in (
        "README.md",
        "fmgan_tf/README.md",
        "assets/README.md",
        "notebooks/README.md",
        "tests/README.md",
    )
]
each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


@each_page
def test_every_link_works_in_a_checkout(path):
    text = path.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    for link in links:
        assert (path.parent / link).exists(), link
    for name in re.findall(r"`((?:assets|tests|make|notebooks)/[\w./-]+\.\w+)`", text):
        assert (ROOT / name).exists() or (path.parent / name).exists(), name


@each_page
def test_tables_are_those_of_the_records(path):
    text = path.read_text()
    assert records.fill(text) == text, "run python assets/make/records.py tables"


def test_the_front_page_is_short_and_shows_real_images_first():
    text = PAGES[0].read_text()
    assert len([word for word in text.split() if re.search(r"\w", word)]) <= 600
    table = text[text.index("<!-- front -->") : text.index("<!-- end -->", text.index("<!-- front -->"))]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert rows[0].startswith("| real images") and len(rows) >= 4
    assert "FID-FMNIST" in table and "label-free" in table and "recall" in table
