"""A generator in the forms that other programs load, beside a model card: `python -m fmgan_tf export`."""

import importlib.util
import json
import pathlib

import jinja2

from fmgan_tf import InputError, datasets, recipes, write_whole
from fmgan_tf.runs import evaluation

FORMATS = {  # what keras.Model.export calls it, what the file is called, and packages that it takes
    "saved_model": ("tf_saved_model", "saved_model", ()),
    "tflite": ("litert", "generator.tflite", ()),
    "onnx": ("onnx", "generator.onnx", ("onnx", "tf2onnx")),
}


def export(source, output, form):
    """Writes the generator of a sources.Source and its card into the folder `output`, and returns the path
    of the first. InputError for somebody else's generator, and where a package is missing."""
    if source.recipe is None:
        raise InputError(f"{source.name} is no model of this package, expected a run folder or a shipped one")
    kind, name, needed = FORMATS[form]
    if missing := [package for package in needed if importlib.util.find_spec(package) is None]:
        raise InputError(f"--format {form} needs {' and '.join(missing)}: pip install {' '.join(needed)}")
    output.mkdir(parents=True, exist_ok=True)
    source.generator.model.export(str(output / name), format=kind, verbose=False)
    write_whole(output / "README.md", card(source.path, name))
    return output / name


def card(folder, file="generator.keras"):
    """The model card, Markdown, of the generator in a run folder or of a shipped one, called `file`."""
    record = json.loads((folder / "run.json").read_text())
    report = folder / "evaluation.json"
    report = json.loads(report.read_text()) if report.exists() else {"scores": {}}
    text = pathlib.Path(__file__).with_name("card.md").read_text()
    template = jinja2.Template(text, trim_blocks=True, lstrip_blocks=True)
    recipe = recipes.from_record(record["recipe"])
    count = record["parameters"]  # of both networks; records in assets/ name them
    record["parameters"] = count["generator"] if isinstance(count, dict) else count[0]
    facts = {"record": record, "recipe": recipe, "report": report, "classes": datasets.CLASS_NAMES}
    facts["names"] = evaluation.NAMES | {"precision": "precision", "recall": "recall"}
    return template.render(file=file, **facts) + "\n"
