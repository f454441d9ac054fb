"""Writes pyproject.toml's address into every badge and bootstrap cell: python assets/make/stamp.py"""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]


def repository():
    """The address in pyproject.toml, like https://github.com/account/name."""
    line = r'^Repository = "(https://github\.com/[\w.-]+/[\w.-]+)"$'
    return re.search(line, (ROOT / "pyproject.toml").read_text(), re.M)[1]


def stamp(text, address):
    """The text of a notebook or page with this address in its badges and bootstrap cell."""
    badge = r"(colab\.research\.google\.com/github/)[\w.-]+/[\w.-]+(/blob/)"
    text = re.sub(badge, rf"\g<1>{address.removeprefix('https://github.com/')}\g<2>", text)
    account, name = address.removeprefix("https://github.com/").split("/")
    text = re.sub(r"https://[\w-]+\.github\.io/[\w.-]+/", f"https://{account}.github.io/{name}/", text)
    return re.sub(r'(REPOSITORY = \\?")[^"\\]+(\\?")', rf"\g<1>{address}\g<2>", text)


def pages():
    """The files that carry the address."""
    patterns = ("*.md", "notebooks/*.md", "notebooks/*.ipynb")
    return [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]


if __name__ == "__main__":
    for path in pages():
        text = path.read_text()
        if (stamped := stamp(text, repository())) != text:
            path.write_text(stamped)
            print(f"Stamped {path.relative_to(ROOT)}")
