"""What few images do to cgan, and shifts against it: python assets/make/few.py OUTPUT.json

100, 400 and 1,600 of the images that notebook 09 draws, with shifts of up to two pixels and without, three
seeds each of the choice of images, the weights and the noise, by the code of the notebook's cells. Every run
is written as soon as it ends; the runs that OUTPUT has already are left out. It takes about ten minutes.
"""

import ast
import dataclasses
import json
import pathlib
import tempfile
import time

import nbformat
import numpy as np
import script
from PIL import Image, ImageDraw

from fmgan_tf import InputError, data, features, gan, generation, metrics, own_data, recipes
from fmgan_tf.runs.folder import versions

NOTEBOOK = pathlib.Path(__file__).parents[2] / "notebooks" / "09_your_own_images.ipynb"
IMAGES, SHIFTS, SEEDS, STEPS = (100, 400, 1600), (2, 0), (0, 1, 2), 600
USED = (dataclasses, Image, ImageDraw, data, gan, generation, metrics, recipes)


def cells():
    """What the notebook's cells define, dict of functions by name."""
    found = {cell.id: cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
    space = {module.__name__.split(".")[-1]: module for module in USED} | {"np": np}
    for name in ("draw", "train", "measure"):
        tree = ast.parse(found[name])
        tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) or name == "draw"]
        exec(compile(tree, name, "exec"), space)
    return space


def run(notebook, dataset, extractors, images, shift, seed, steps=STEPS):
    """One training on so many of the images: its scores."""
    chosen = np.random.default_rng(seed).permutation(len(dataset.train_images))[:images]
    few = dataset._replace(
        train_images=dataset.train_images[chosen], train_labels=dataset.train_labels[chosen]
    )
    start = time.perf_counter()
    model = notebook["train"](few, seed, steps, shift=shift)
    seconds = round(time.perf_counter() - start)
    made = notebook["make"](model, dataset.test_labels, seed + 1000)
    scores = notebook["score"](extractors, few, made, dataset.test_labels)
    scores = {name: round(float(value), 4) for name, value in scores.items()}
    return {"images": images, "shift": shift, "seed": seed} | scores | {"seconds": seconds}


def main():
    parser = script.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=pathlib.Path)
    output = parser.parse_args().output
    if not output.parent.is_dir():
        raise InputError(f"{output.parent} is no folder")
    record = json.loads(output.read_text()) if output.exists() else {"runs": []}
    record |= {"versions": versions(), "steps": STEPS, "extractors": features.OWN_STEPS}
    notebook = cells()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch, "shapes")
        notebook["fill"](folder, 500, 0)
        dataset = own_data.load(str(folder))
        extractors = features.train_extractors(dataset, pathlib.Path(scratch))
        for plan in [(images, shift, seed) for seed in SEEDS for images in IMAGES for shift in SHIFTS]:
            if any((each["images"], each["shift"], each["seed"]) == plan for each in record["runs"]):
                continue
            record["runs"].append(run(notebook, dataset, extractors, *plan))
            output.write_text(json.dumps(record, indent=1) + "\n")
            print(record["runs"][-1], flush=True)


if __name__ == "__main__":
    script.run(main)
