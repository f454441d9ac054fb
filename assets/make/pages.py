"""The tables of the pages that are made from records and notebooks: python assets/make/records.py tables"""

import json
import pathlib
import re

import numpy as np

from fmgan_tf import generation

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / folder / "README.md" for folder in ("", "fmgan_tf", "assets", "notebooks", "tests")]
COURSE = {  # notebook: title, what the reader can do after it, what happens in it
    "00": (
        "Your first GAN",
        "say what each network wants, and write the step of a GAN",
        "a gradient in five lines; a GAN on points, then the same step on clothes",
    ),
    "01": (
        "Data and preprocessing",
        "load, scale and feed images; tell a wrong scaling by what it does",
        "the images, why squared error blurs, the range of tanh, six mistakes that raise no error",
    ),
    "02": (
        "DCGAN",
        "build both networks and say what each layer does",
        "transposed convolutions, checkerboards, both networks block by block, what a unit sees",
    ),
    "03": (
        "Adversarial training",
        "make a GAN collapse and cure it, and read its curves",
        "collapse and its cure, what is minimized, why it circles, a penalty, a table of failures",
    ),
    "04": (
        "Conditional GANs",
        "ask for a class, and choose how the label enters",
        "embeddings, projection and two other ways compared, label agreement, walks between classes",
    ),
    "04b": (
        "dense-cgan (optional)",
        "balance two learning rates, and stop a training by a score",
        "a GAN of dense layers on two classes: a grid of rates, early stopping, the best weights back",
    ),
    "05": (
        "The Fréchet distance",
        "compute a distance correctly, and say which scores are comparable",
        "floor, bias and error; precision, recall and a second opinion; how an FID of 4.98e+44 came about",
    ),
    "06": (
        "Analysis",
        "find out what a generator has learned, and what it has not",
        "embeddings, clusters, classes, biases, inversion, directions; one page of findings",
    ),
    "07": (
        "Faster and better",
        "compare systems fairly, and find what limits a step",
        "from a well-known tutorial to cgan, change by change; a verdict; what limits a step",
    ),
    "08": (
        "Other games",
        "compare losses, and a game with a flow",
        "what seven losses ask for; flow matching; who wins what after 3, 10 and 30 minutes",
    ),
    "09": (
        "Your own images",
        "train on a folder of your own, and measure it by features of its own",
        "from pictures to a dataset, what will hurt, training, scores with a floor, few images",
    ),
}


def scores(group, name):
    """The scores of a run in assets/, or None."""
    path = generation.ASSETS / group / name / "evaluation.json"
    return json.loads(path.read_text())["scores"] if path.exists() else None


def front():
    """The honest table of the front page, and what it says of cgan."""
    groups = ("three-minutes", "three-minutes-again/seed-1", "three-minutes-again/seed-2")
    keys = {"fid_fmnist": ".2f", "label_free_distance": ".1f", "recall": ".2f"}
    lines = ["| | FID-FMNIST | label-free distance | recall |", "|" + " --- |" * 4]
    means = {}
    for name in ("real images", "cgan", "dcgan", "deconv-gan-tuned"):
        key = "floor" if name == "real images" else "value"
        runs = [scores(group, "cgan" if key == "floor" else name) for group in groups]
        values = {score: [run[score][key] for run in runs if run and score in run] for score in keys}
        means[name] = {score: float(np.mean(found)) for score, found in values.items()}
        cells = [f"{means[name][score]:{form}}" for score, form in keys.items()]
        if key == "value":
            for index, (score, form) in enumerate(keys.items()):
                cells[index] += f" ({min(values[score]):{form}} to {max(values[score]):{form}})"
        lines.append(f"| {name if key == 'floor' else f'`{name}`'} | {' | '.join(cells)} |")
    first, second = (means["deconv-gan-tuned"][key] / means["cgan"][key] for key in list(keys)[:2])
    says = (
        "The features of the first distance were trained with labels, as `cgan` is: by it `cgan` is "
        f"{first:.0f} times ahead of `deconv-gan-tuned`. Those of the second have seen no label: by it "
        f"the lead is {second:.2f} times, and `dcgan` falls behind."
    )
    return "\n".join([*lines, "", says, ""])


def reading_minutes(path):
    """Minutes to read a notebook: 150 words and 25 lines of code a minute, half a minute a figure."""
    minutes = 0.0
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            minutes += len(re.sub(r"<details>.*?</details>", "", source, flags=re.S).split()) / 150
        else:
            minutes += len(source.splitlines()) / 25
            minutes += sum("image/png" in output.get("data", {}) for output in cell["outputs"]) / 2
    return round(minutes)


def course(detail=False):
    """The course as a table: for the front page, or with what happens in it, minutes and memory."""
    project = (ROOT / "pyproject.toml").read_text()
    slug = re.search(r'Repository = "https://github.com/([\w./-]+)"', project)[1]
    measured = json.loads((generation.ASSETS / "notebooks.json").read_text())["notebooks"]
    head = ["notebook", "what you will be able to do", "minutes to read", "in Colab"]
    if detail:
        head = ["notebook", "what happens in it", "minutes to read", "minutes to run", "GB of memory"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    shown = {number: texts for number, texts in COURSE.items() if detail or "optional" not in texts[0]}
    for number, (title, able, happens) in shown.items():
        (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
        run = measured.get(path.stem, {"seconds": 0, "gigabytes": 0})
        link = f"[{number} {title}]({path.name if detail else f'notebooks/{path.name}'})"
        colab = f"[open](https://colab.research.google.com/github/{slug}/blob/main/notebooks/{path.name})"
        more = [f"{max(1, round(run['seconds'] / 60))}", f"{run['gigabytes']:.1f}"] if detail else [colab]
        cells = [link, happens if detail else able, f"{reading_minutes(path)}", *more]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
