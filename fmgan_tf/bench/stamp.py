"""Writes pyproject.toml's address into every badge and bootstrap cell: python -m fmgan_tf.bench.stamp"""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]


def repository():
    """The address in pyproject.toml, like https://github.com/account/name."""
    line = r'^Repository = "(https://github\.com/[\w.-]+/[\w.-]+)"$'
    return re.search(line, (ROOT / "pyproject.toml").read_text(), re.M)[1]


def stamp(text, address):
    """The text of a notebook or page with this address in its badges and bootstrap cell."""
    slug = address.removeprefix("https://github.com/")
    badge = r"(colab\.research\.google\.com/github/)[\w.-]+/[\w.-]+(/blob/)"
    text = re.sub(badge, rf"\g<1>{slug}\g<2>", text)
    return re.sub(r'(REPOSITORY = \\?")[^"\\]+(\\?")', rf"\g<1>{address}\g<2>", text)


def pages():
    """The files that carry the address."""
    return [ROOT / "README.md", *sorted((ROOT / "notebooks").glob("*.ipynb"))]


if __name__ == "__main__":
    for path in pages():
        text = path.read_text()
        stamped = stamp(text, repository())
        if stamped != text:
            path.write_text(stamped)
            print(f"Stamped {path.relative_to(ROOT)}")
