"""Executes notebooks in place, each in a fresh kernel: python assets/make/notebooks.py [NAME ...]

The metadata says of which code the outputs are: "fmgan" holds a digest of the notebook's code cells and of
the definitions in the package that they reach, without docstrings and comments. A test fails where it is
another. The metadata of a cell that draws, "alt", holds the alternative text of each of its pictures, in
their order; that of a cell with attachments, "pictures", says of each which cell's first picture it is, or
which file of assets/.
"""

import base64
import io
import os
import pathlib
import time

import script
from PIL import Image, ImageChops
from reach import digest

ROOT = pathlib.Path(__file__).parents[2]


def smaller(png):
    """A PNG in base64, in 64 grays or in 256 colors of its own: the eye sees none missing."""
    picture, kept = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), io.BytesIO()
    gray = picture.convert("L")
    same = ImageChops.difference(picture, gray.convert("RGB")).getbbox() is None
    few = gray.point([round(round(level / 255 * 63) / 63 * 255) for level in range(256)])
    (few if same else picture.quantize(256)).save(kept, "PNG", optimize=True)
    return base64.b64encode(kept.getvalue()).decode()


def passing(output):
    """Whether an output is for a running session alone: a warning, or a widget."""
    return output.get("name") == "stderr" or any("jupyter.widget" in kind for kind in output.get("data", {}))


def drawn(cell):
    """The pictures among the outputs of a code cell, PNG in base64."""
    found = [output["data"]["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    return ["".join(png) for png in found]


def attach(notebook):
    """Makes the attachments those pictures that this execution has drawn, or that lie in assets/."""
    cells = {cell.id: cell for cell in notebook.cells}
    for cell in notebook.cells:
        for name, origin in cell.metadata.get("pictures", {}).items():
            if origin.startswith("assets/"):
                content = base64.b64encode((ROOT / origin).read_bytes()).decode()
                cell.attachments = cell.get("attachments", {}) | {name: {"image/png": content}}
            elif pictures := drawn(cells[origin]):  # UMAP is not installed everywhere
                cell.attachments = cell.get("attachments", {}) | {name: {"image/png": pictures[0]}}


def execute(path):
    """Executes a notebook in place and returns the seconds; the file stays as it was where a cell fails."""
    import nbformat
    from nbclient import NotebookClient

    start = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["fmgan"] = digest(notebook)
    where = {"metadata": {"path": path.parent}}
    NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=where).execute()
    notebook.metadata.pop("widgets", None)  # their state, which nothing shows outside a running session
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the moment of each cell, which is nobody's business
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not passing(output)]
            pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
            texts = cell.metadata.get("alt", [])  # one too few is for a test to say: all has been executed
            for output, text in zip(pictures, texts + [""] * len(pictures), strict=False):
                output["data"]["image/png"] = smaller(output["data"]["image/png"])
                output["metadata"]["image/png"] = {"alt": text}
    attach(notebook)
    notebook.metadata["language_info"] = {"name": "python"}  # its version is in the first output
    nbformat.write(notebook, path)
    return time.perf_counter() - start


def main():
    parser = script.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of names, like 01 (default: all)")
    names = tuple(parser.parse_args().names)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if not names or path.name.startswith(names):
            print(f"{path.stem:<28}{execute(path):6.0f} s", flush=True)


if __name__ == "__main__":
    script.run(main)
