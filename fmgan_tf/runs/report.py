"""One page about what a generator has learned: `python -m fmgan_tf analyze`."""

import base64
import io
import itertools
import pathlib
import sys
import time

import jinja2
import matplotlib.pyplot as plt
import numpy as np

from fmgan_tf import InputError, analysis, data, generation, plots, write_whole
from fmgan_tf.runs import evaluation
from fmgan_tf.runs.folder import writable, write_csv

EMBEDDED = 2000  # images of either set in an embedding; t-SNE takes longer than linear in their number


def progress(what):
    """Tells the user what takes so long."""
    print(f"{what}...", file=sys.stderr, flush=True)


def analyze(source, dataset, output, samples=10_000, seed=0, extractors=None):
    """Writes report.html and its tables (classes, clusters, attributes, embedding.csv) to the folder `output`
    about a sources.Source, see evaluation.evaluate. Returns the tables, a dict of lists of dicts.

    Raises:
        InputError: bad source, or too few images.
        OSError: output cannot be written.
    """
    start, output = time.perf_counter(), writable(output)
    sets = evaluation.compare(source, dataset, samples, seed, extractors=extractors)
    names, generated, real = dataset.class_names, sets.generated, sets.real
    progress("classes and attributes")
    rows = analysis.per_class(real.features, real.labels, generated.features, generated.labels)
    biases = analysis.biases(real.images, real.labels, generated.images, generated.labels)
    train = sets.dataset.train_images
    memorized = evaluation.memorization_scores(train, real.images, generated.images)
    progress("clusters")
    label_names = {None: "all"} | dict(enumerate(names))
    tables = {
        "classes": [{"class": names[label], **row} for label, row in rows.items()],
        "clusters": analysis.cluster_table(real, generated, seed),
        "attributes": [row | {"label": label_names[row["label"]]} for row in biases],
    }
    embeddings, tables["embedding"] = _embeddings(sets, seed)
    index, distances = analysis.nearest(generated.images[:1000], train)
    page = {"source": source.name, "sets": sets, "dataset": dataset, "seed": seed, "tables": tables}
    page |= {"memorized": memorized, "attributes": analysis.ATTRIBUTES, "embeddings": embeddings}
    page |= {"sheets": {"Generated": _sheet(generated, names), "Real": _sheet(real, names)}}
    page |= {"class_scores": plots.show_class_scores(rows, names), "confusion": None, "latent": None}
    both = analysis.attributes(real.images), analysis.attributes(generated.images)
    page |= {
        "histograms": plots.show_attributes(*both),
        "extremes": plots.show_extremes(generated.images, both[1]),
    }
    page["neighbors"] = plots.show_neighbors(generated.images[:1000], train[index], distances)
    if sets.asked:
        page["confusion"] = plots.show_confusion(generated.labels, generated.recognized, names, source.name)
    if source.images is None:
        progress("latent space")
        page["latent"] = _latent(source.generator, seed, sets.extractors)
    page["seconds"] = time.perf_counter() - start
    loader = jinja2.FileSystemLoader(pathlib.Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"picture": _picture, "cell": _cell}
    output.mkdir(parents=True, exist_ok=True)
    write_whole(output / "report.html", environment.get_template("report.html").render(page))
    for name, table in tables.items():
        write_csv(output / f"{name}.csv", list(table[0]), [row.values() for row in table])
    return tables


def _sheet(images, names, columns=16):
    known = np.unique(images.labels)
    chosen = [np.resize(np.flatnonzero(images.labels == label), columns) for label in known]
    return plots.show_images(
        images.images[np.concatenate(chosen)], columns, row_labels=[names[label] for label in known]
    )


def _embeddings(sets, seed):
    """(figures or sentences by title, rows of embedding.csv)."""
    halves = [[field[:EMBEDDED] for field in each] for each in (sets.real, sets.generated)]
    images, labels, seen, _ = map(np.concatenate, zip(*halves, strict=True))
    is_real = np.arange(len(images)) < len(halves[0][0])
    columns, found = {"real": is_real.astype(int), "label": labels}, {}
    kind = "label-free" if sets.extractors.classifier is None else "classifier"
    spaces = {"pixels": data.to_unit_range(images).reshape(len(images), -1), f"{kind} features": seen}
    for space, method in itertools.product(spaces, analysis.EMBEDDINGS):
        title = f"{method} of {space}"
        progress(title)
        try:
            places = analysis.embed(spaces[space], method, seed)
        except InputError as error:  # UMAP, where it is not installed
            found[title] = str(error)
            continue
        columns |= {f"{method} {space} {axis}": places[:, number] for number, axis in enumerate("xy")}
        thumbnails = images if method == "t-SNE" else None
        names = sets.dataset.class_names
        found[title] = plots.show_embedding(places, labels, is_real, names, title, thumbnails)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return found, rows


def _latent(generator, seed, extractors, columns=12):
    """The figures of the latent space."""
    walks, classes = analysis.interpolations(generator, seed, extractors=extractors), generator.classes
    lengths = {kind: walk["length"].mean() for kind, walk in walks.items()}
    found = {"walks": plots.show_interpolations(walks), "lengths": lengths, "by_noise": None}
    noise = generation.sample_noise(seed, columns, generator.latent_dim)
    if classes:
        labels = np.repeat(range(classes), columns)
        images = generation.sample_images(generator, np.tile(noise, (classes, 1)), labels)
        found["by_noise"] = plots.show_images(images, columns, row_labels=generator.class_names)
    try:
        directions, shares = analysis.directions(generator, seed)
    except InputError as error:
        return found | {"directions": None, "problem": str(error)}
    steps = np.linspace(-3, 3, 9)[:, None]
    sweep = np.concatenate([noise[:1] + steps * direction for direction in directions]).astype("float32")
    images = generation.sample_images(generator, sweep, np.zeros(len(sweep), int) if classes else None)
    names = [f"direction {number + 1}" for number in range(len(directions))]
    return found | {"directions": plots.show_images(images, len(steps), row_labels=names), "shares": shares}


def _cell(value):
    """A value of a table, as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.3g}" if abs(value) < 0.01 else f"{value:.3f}"
    return str(value)


def _picture(figure):
    """A figure as the address of an image inside the page; it is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, format="png")
    plt.close(figure)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
