"""Runs the worked example of notebooks/project.md and writes what it prints and draws beside it:
python assets/make/project.py

The mark before the output holds a digest of the code, of what it reaches in the package, and of the shipped
cgan. A test fails where it is another.
"""

import contextlib
import hashlib
import io
import pathlib
import re

import matplotlib
import script
from reach import digest

from fmgan_tf import generation, plots

PAGE = pathlib.Path(__file__).parents[2] / "notebooks" / "project.md"
FIGURE = generation.ASSETS / "project.png"
OUTPUT = r"<!-- worked example ?(\w*) -->\n(?:.|\n)*?<!-- end -->"


def code_of(text):
    """The code of the worked example on the page."""
    return re.search(r"```python\n((?:.|\n)*?)```", text)[1]


def mark(text):
    """The digest of what the output of the page depends on, hexadecimal."""
    sums = (generation.ASSETS / "SHA256SUMS").read_text()
    model = re.search(r"^(\w+)  cgan/", sums, re.M)[1]
    code = digest({"cells": [{"cell_type": "code", "source": code_of(text)}]})
    return hashlib.sha256((model + code).encode()).hexdigest()[:16]


def main():
    matplotlib.use("Agg")
    text, printed, made = PAGE.read_text(), io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        exec(code_of(text), made)
    plots.save_figure(FIGURE, made["figure"])
    output = f"<!-- worked example {mark(text)} -->\n```text\n{printed.getvalue()}```\n<!-- end -->"
    PAGE.write_text(re.sub(OUTPUT, lambda match: output, text))


if __name__ == "__main__":
    script.run(main)
