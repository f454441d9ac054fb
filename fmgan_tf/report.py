"""One page about what a generator has learned: figures, tables and findings, made by `python -m fmgan_tf analyze`."""

import base64
import csv
import html
import io
import pathlib
import sys
import time
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from fmgan_tf import InputError, analysis, data, evaluation, features, generation, metrics, plots, training

# Paul Tol's "muted" colours, and grey: ten that colour-blind readers can tell apart. Names stand beside them all the same.
COLORS = "#332288 #88CCEE #44AA99 #117733 #999933 #DDCC77 #CC6677 #882255 #AA4499 #7F7F7F".split()
EMBEDDED = 2000  # images of either side in an embedding; t-SNE takes longer than linear in their number
CLUSTERED = (
    10_000  # images of either side that are searched for clusters, in as many disjoint samples as CLUSTER_PARTS says
)
CLUSTER_PARTS = 5
COPIES = (
    0.03  # share of images nearer to a training image than one in a hundred test images is: three times what is usual
)
LARGE_EFFECT = 0.2  # smaller differences of attributes are not called a finding, however significant


class Sides(NamedTuple):
    """Real and generated images of one analysis, with what the shipped classifier says of them.

    real_images, images: uint8 (N, 28, 28, 1). real_labels: int (N,). labels: int (N,), asked for, or recognised where the
    source takes none. asked: whether they were asked for. real_features, features: float32 (N, 128). recognised: int (N,).
    """

    real_images: np.ndarray
    real_labels: np.ndarray
    real_features: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    recognised: np.ndarray
    asked: bool
    train_images: np.ndarray

    @property
    def classes(self):
        """The classes that are compared, int (C,)."""
        return np.unique(self.real_labels)


def compare(source, dataset, samples=10_000, seed=0):
    """Draws images from a source and sets real test images of the same classes beside them.

    Args:
        source: see evaluation.images_of.
        dataset: data.FashionMNIST.
        samples: int.
        seed: int.

    Returns:
        Sides.

    Raises:
        InputError: bad source, or fewer than 200 images.
    """
    images, labels = evaluation.images_of(source, samples, seed)
    if len(images) < 200:
        raise InputError(f"{source} gives {len(images)} images, expected at least 200 to say anything about")
    images = data.resize(images, 28)
    real = evaluation.real_images(source, dataset, labels)
    chosen = np.random.default_rng(seed).permutation(len(real.test_images))[:samples]
    real_images, real_labels = real.test_images[chosen], real.test_labels[chosen]
    real_features, _ = features.classifier_features(real_images, label="features of test images")
    found, recognised = features.classifier_features(images, label="features of generated images")
    return Sides(
        real_images,
        real_labels,
        real_features,
        images,
        recognised if labels is None else labels,
        found,
        recognised,
        labels is not None,
        real.train_images,
    )


# Figures. Each returns a matplotlib Figure.


def show_embedding(places, labels, is_real, title, images=None):
    """Two panels of the same points: real and generated images, coloured by class, with the names at the classes' middles.

    Args:
        places: float (N, 2).
        labels: int (N,).
        is_real: bool (N,).
        title: str.
        images: uint8 (N, 28, 28, 1); with them, small pictures stand on the right panel for some of the points.

    Returns:
        matplotlib Figure.
    """
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), sharex=True, sharey=True)
    for axis, chosen, name in ((axes[0], is_real, "real test images"), (axes[1], ~is_real, "generated images")):
        axis.scatter(*places[~chosen].T, s=2, color="#DDDDDD", rasterized=True)
        for label in np.unique(labels):
            here = places[chosen & (labels == label)]
            axis.scatter(*here.T, s=3, color=COLORS[label], rasterized=True)
            if len(here):
                axis.annotate(
                    data.CLASS_NAMES[label],
                    np.median(here, axis=0),
                    ha="center",
                    va="center",
                    fontsize=9,
                    zorder=5,
                    bbox={
                        "boxstyle": "round,pad=0.15",
                        "facecolor": "white",
                        "edgecolor": COLORS[label],
                        "alpha": 0.85,
                    },
                )
        axis.set(title=f"{name} (grey: the others)", xlabel=f"{title}, first axis", xticks=[], yticks=[])
    axes[0].set_ylabel(f"{title}, second axis")
    if images is not None:
        place_thumbnails(axes[1], places[~is_real], images[~is_real])
    figure.tight_layout()
    return figure


def place_thumbnails(axis, places, images, most=70):
    """Small pictures on a scatter, one in every cell of a coarse grid that holds a point."""
    span = np.ptp(places, axis=0)
    cells = np.floor((places - places.min(0)) / (span + 1e-9) * 14).astype(int)
    _, chosen = np.unique(cells, axis=0, return_index=True)
    size = span / 18
    for index in chosen[:: max(1, len(chosen) // most)]:
        x, y = places[index]
        extent = (x - size[0] / 2, x + size[0] / 2, y - size[1] / 2, y + size[1] / 2)
        axis.imshow(255 - images[index, :, :, 0], cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto", zorder=3)
    axis.autoscale()


def show_confusion(asked, recognised, classes):
    """The classes asked for against those recognised, as shares of each row."""
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (asked, recognised), 1)
    figure = plots.show_confusion(counts, list(data.CLASS_NAMES))
    axis = figure.axes[0]
    axis.set(ylabel="asked for", title=f"Generated images: {(asked == recognised).mean():.1%} recognised as asked")
    axis.set_ylim(max(classes) + 0.5, min(classes) - 0.5)
    return figure


def show_class_figures(rows):
    """Bars of diversity, precision and recall for every class."""
    names = [data.CLASS_NAMES[label] for label in rows]
    figure, axes = plt.subplots(3, 1, figsize=(7.5, 6), sharex=True)
    for axis, key, ideal in zip(axes, ("diversity", "precision", "recall"), (1.0, None, None), strict=True):
        axis.bar(range(len(names)), [row[key] for row in rows.values()], color=[COLORS[label] for label in rows])
        if ideal:
            axis.axhline(ideal, color=plots.GREY, linestyle=":")
            axis.annotate("as real", (1.005, ideal), xycoords=("axes fraction", "data"), va="center", color=plots.GREY)
        axis.set_ylabel(key)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xticks(range(len(names)), names, rotation=30, ha="right")
    figure.tight_layout()
    return figure


def show_attributes(real_images, images):
    """Histograms of the attributes, real and generated."""
    real, generated = analysis.attributes(real_images), analysis.attributes(images)
    figure, axes = plt.subplots(1, len(real), figsize=(12, 3))
    for axis, name in zip(axes, real, strict=True):
        bins = np.linspace(0, max(np.percentile(real[name], 99.8), np.percentile(generated[name], 99.8)), 40)
        axis.hist(real[name], bins, density=True, color=plots.BLUE, alpha=0.5, label="real")
        axis.hist(
            generated[name], bins, density=True, histtype="step", color=plots.ORANGE, linewidth=1.5, label="generated"
        )
        axis.set(xlabel=name, yticks=[])
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[0].set_ylabel("how often")
    axes[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def show_extremes(images, count=12):
    """The images with the least and the most of every attribute."""
    sheet, names = [], []
    for name, values in analysis.attributes(images).items():
        order = np.argsort(values)
        sheet += [images[order[:count]], images[order[-count:]]]
        names += [f"least {name}", f"most {name}"]
    return _labelled_rows(np.concatenate(sheet), count, names)


def _labelled_rows(images, columns, names, title=None):
    """A sheet with room for long row labels."""
    sheet = plots.tile(images, columns, scale=2)
    height, width = (pixels / 100 for pixels in sheet.shape)
    left, top = 1.6, 0.35 if title else 0.05
    figure = plt.figure(figsize=(left + width, top + height))
    axis = figure.add_axes((left / (left + width), 0, width / (left + width), height / (top + height)))
    axis.imshow(sheet, cmap="gray", vmin=0, vmax=255, aspect="auto")
    axis.set_xticks([])
    axis.set_yticks([(row + 0.5) * sheet.shape[0] / len(names) for row in range(len(names))], names)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(title)
    return figure


def show_neighbours(images, train_images, count=16):
    """Generated images above their nearest training images, those nearest to a copy first.

    Returns:
        (Figure, distances): the latter float (N,) for all images, see analysis.nearest.
    """
    index, distances = analysis.nearest(images, train_images)
    order = np.argsort(distances)
    chosen = np.concatenate([order[:count], order[len(order) // 2 :][:count]])
    sheet = []
    for row in chosen.reshape(2, count):
        sheet += [images[row], train_images[index[row]]]
    names = ["most alike", "nearest training", "usual", "nearest training"]
    return _labelled_rows(np.concatenate(sheet), count, names), distances


def show_interpolations(walks):
    """The first walk of either kind, and how long the noise is along the way."""
    figure, axes = plt.subplots(3, 1, figsize=(9.5, 4), height_ratios=(1, 1, 2.2))
    for axis, (kind, walk) in zip(axes, walks.items(), strict=False):
        axis.imshow(plots.tile(walk["images"], len(walk["images"])), cmap="gray", vmin=0, vmax=255, aspect="equal")
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(kind, rotation=0, ha="right", va="center")
    for (kind, walk), style in zip(walks.items(), ("-", "--"), strict=True):
        axes[2].plot(np.linspace(0, 1, len(walk["norm"])), walk["norm"], style, label=kind)
    axes[2].set(xlabel="share of the way", ylabel="length of the noise\n(ends: 1)", ylim=(0, 1.1))
    axes[2].legend(frameon=False)
    axes[2].spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def show_directions(generator, found, seed=0, reach=3.0, steps=9, label=None):
    """Sweeps of one noise vector along each direction, from -reach to reach."""
    start = training.sample_noise(seed, 1, generator.latent_dim)
    sweep = np.concatenate([start + np.linspace(-reach, reach, steps)[:, None] * direction for direction in found])
    images = analysis.images_along(generator, sweep, label)
    return _labelled_rows(data.resize(images, 28), steps, [f"direction {number + 1}" for number in range(len(found))])


def show_classes_by_noise(generator, seed=0, columns=12):
    """The same noise through all labels: a column for every noise vector, a row for every class."""
    classes = range(generator.classes)
    noise = np.tile(training.sample_noise(seed, columns, generator.latent_dim), (generator.classes, 1))
    images = generation.sample_images(generator, noise, np.repeat(classes, columns))
    return _labelled_rows(data.resize(images, 28), columns, [data.CLASS_NAMES[label] for label in classes])


# The page.


def cluster_table(sides, seed=0):
    """Clusters of real and of generated images, in pixels and in classifier features, beside the labels.

    Args:
        sides: Sides.
        seed: int.

    Returns:
        list of dicts: space, side, method, samples (images that are searched at a time) and the means over five disjoint
        samples of what analysis.find_clusters gives, with the standard error of ARI's mean as ari_error.
    """
    rows = []
    for space in ("pixels", "classifier features"):
        for side, images, found, labels in (
            ("real", sides.real_images, sides.real_features, sides.real_labels),
            ("generated", sides.images, sides.features, sides.labels),
        ):
            points = found if space != "pixels" else images.reshape(len(images), -1) / 255
            parts = np.array_split(np.arange(len(points))[:CLUSTERED], CLUSTER_PARTS)  # in random order already
            for method in analysis.CLUSTERINGS:
                results = [analysis.find_clusters(points[part], labels[part], method, seed) for part in parts]
                row = {"space": space, "side": side, "method": method, "samples": len(parts[0])}
                for key in ("clusters", "left_out", "ari", "nmi", "silhouette"):
                    row[key] = float(np.mean([result[key] for result in results]))
                row["ari_error"] = float(np.std([result["ari"] for result in results], ddof=1) / CLUSTER_PARTS**0.5)
                rows.append(row)
    return rows


def findings(sides, clusters, rows, biases, memorised):
    """What the figures say, in sentences with figures.

    Args:
        sides: Sides.
        clusters: see cluster_table.
        rows: see analysis.per_class.
        biases: see analysis.biases.
        memorised: (median ratio, share nearer), see metrics.memorisation.

    Returns:
        list of str.
    """
    names = data.CLASS_NAMES
    said = []
    known = {label: row for label, row in rows.items() if np.isfinite(row["diversity"])}
    if sides.asked:
        overall, agreement = metrics.label_agreement(sides.labels, sides.recognised)
        worst = min(known, key=lambda label: agreement[label])
        taken = np.bincount(sides.recognised[sides.labels == worst], minlength=10)
        taken[worst] = 0
        said.append(
            f"Asked for a class, the generator makes what the classifier recognises as that class in {overall:.1%} of cases. The "
            f"hardest class is {names[worst]} with {agreement[worst]:.1%}; it is most often taken for {names[taken.argmax()]}."
        )
    else:
        share = np.bincount(sides.recognised, minlength=10) / len(sides.recognised)
        surplus = (share - np.bincount(sides.real_labels, minlength=10) / len(sides.real_labels))[sides.classes]
        most, least = sides.classes[[surplus.argmax(), surplus.argmin()]]
        said.append(
            f"Nobody tells this generator what to make: {names[most]} comes up in {share[most]:.1%} of images and {names[least]} "
            f"in {share[least]:.1%}, by the classifier's verdict, which real images of those classes do not always get either."
        )
    if known:
        narrow, wide = (pick(known, key=lambda label: known[label]["diversity"]) for pick in (min, max))
        said.append(
            f"Diversity within a class, over that of real images: from {known[narrow]['diversity']:.2f} ({names[narrow]}) to "
            f"{known[wide]['diversity']:.2f} ({names[wide]}); the mean is "
            f"{np.mean([row['diversity'] for row in known.values()]):.2f}."
        )
        unreal = min(known, key=lambda label: known[label]["precision"])
        said.append(
            f"The least realistic class is {names[unreal]}: {known[unreal]['precision']:.0%} of its images lie among real ones "
            f"(precision)."
        )
    for method in analysis.CLUSTERINGS:
        real, generated = (row for row in clusters if row["space"] == "classifier features" and row["method"] == method)
        if not np.isfinite([real["ari_error"], generated["ari_error"]]).all():
            continue
        difference = generated["ari"] - real["ari"]
        error = np.hypot(real["ari_error"], generated["ari_error"])
        relation = "closer to" if difference > 0 else "further from"
        if abs(difference) < 2 * error:
            relation = "not significantly closer to or further from"
        said.append(
            f"Clusters found by {method} in the features of generated images are {relation} the classes than those of real "
            f"images: ARI {generated['ari']:.2f} ± {generated['ari_error']:.2f} against {real['ari']:.2f} ± "
            f"{real['ari_error']:.2f}."
        )
    overall = [row for row in biases if row["label"] is None]
    for row in overall:
        if not row["significant"]:
            said.append(
                f"No significant bias in {row['attribute']} (effect {row['effect']:+.2f}, corrected p {row['p']:.2g})."
            )
    for row in sorted((row for row in overall if row["significant"]), key=lambda row: -abs(row["effect"])):
        size = "" if abs(row["effect"]) >= LARGE_EFFECT else "; significant, but too small to see"
        said.append(
            f"{'More' if row['effect'] > 0 else 'Less'} {row['attribute']} than real images: {row['generated']:.3f} against "
            f"{row['real']:.3f}, effect {row['effect']:+.2f}{size}."
        )
    strong = [row for row in biases if row["label"] is not None and row["significant"]]
    if strong:
        row = max(strong, key=lambda row: abs(row["effect"]))
        said.append(
            f"The strongest bias in one class: {names[row['label']]} has {'more' if row['effect'] > 0 else 'less'} "
            f"{row['attribute']} than it should (effect {row['effect']:+.2f})."
        )
    ratio, nearer = memorised
    said.append(
        f"Generated images lie {ratio:.2f} times as far from their nearest training images as test images do, and {nearer:.1%} lie "
        "nearer than one in a hundred test images: "
        + ("a sign of memorised images." if nearer > COPIES else "no sign of memorised images.")
    )
    return said


def analyze(source, dataset, output, samples=10_000, seed=0):
    """Makes the whole report of one source.

    Args:
        source: a run folder, a shipped model, a .keras generator or an .npz of images, see evaluation.images_of.
        dataset: data.FashionMNIST.
        output: path of a folder, made if need be, for report.html, classes.csv, clusters.csv, attributes.csv and
            embedding.csv.
        samples: int, how many generated images.
        seed: int.

    Returns:
        dict: findings, list of str; classes, clusters and biases, see analysis.

    Raises:
        InputError: bad source, or too few images.
        OSError: output cannot be written.
    """
    start = time.perf_counter()
    output = evaluation.writable(output)
    sides = compare(source, dataset, samples, seed)
    page = _Page()

    def progress(what):
        print(f"{what}…", file=sys.stderr, flush=True)

    progress("classes and attributes")
    rows = analysis.per_class(sides.real_features, sides.real_labels, sides.features, sides.labels)
    biases = analysis.biases(sides.real_images, sides.real_labels, sides.images, sides.labels)
    neighbours, _ = show_neighbours(sides.images[:1000], sides.train_images)
    few = min(2000, len(sides.images), len(sides.real_images))
    remembered = evaluation.memorisation_figures(sides.train_images, sides.real_images[:few], sides.images[:few])
    memorised = remembered["median_ratio"][0], remembered["nearer_fraction"][0]
    progress("clusters")
    clusters = cluster_table(sides, seed)
    said = findings(sides, clusters, rows, biases, memorised)

    page.heading(f"What {source} has learned")
    page.text(
        f"{len(sides.images):,} generated images beside {len(sides.real_images):,} real test images of Fashion-MNIST. Source of "
        f"the real images: {dataset.source}. Seed {seed}. Classes of generated images are those "
        f"{'asked for' if sides.asked else 'recognised by the course’s classifier, for none were asked for'}."
    )
    if dataset.is_stand_in:
        page.text(
            "The real dataset was not to be had: GENERATED IMAGES STAND IN for it, and no figure here means anything."
        )
    page.list(said)
    columns = 16
    for name, images, labels in (
        ("Generated", sides.images, sides.labels),
        ("Real", sides.real_images, sides.real_labels),
    ):
        kept = [label for label in sides.classes if (labels == label).any()]
        chosen = np.concatenate([np.resize(np.flatnonzero(labels == label), columns) for label in kept])
        page.figure(
            _labelled_rows(images[chosen], columns, [data.CLASS_NAMES[label] for label in kept]),
            f"{name} images, a row for every class.",
        )
    page.section("Embeddings")
    page.text(
        f"{min(EMBEDDED, len(sides.images)):,} images of either side in one embedding. Where the coloured points of the right panel "
        "leave grey places empty, the generator makes nothing; where they lie outside the grey, it makes what does not exist. "
        "Distances between far clusters mean little in t-SNE and UMAP."
    )
    is_real = np.repeat([True, False], [min(EMBEDDED, len(sides.real_images)), min(EMBEDDED, len(sides.images))])
    images = np.concatenate([sides.real_images[:EMBEDDED], sides.images[:EMBEDDED]])
    labels = np.concatenate([sides.real_labels[:EMBEDDED], sides.labels[:EMBEDDED]])
    spaces = {
        "pixels": images.reshape(len(images), -1) / 255,
        "classifier features": np.concatenate([sides.real_features[:EMBEDDED], sides.features[:EMBEDDED]]),
    }
    columns = {"real": is_real.astype(int), "label": labels}
    for space, points in spaces.items():
        for method in analysis.EMBEDDINGS:
            progress(f"{method} of {space}")
            try:
                places = analysis.embed(points, method, seed)
            except InputError as error:
                page.text(str(error))
                continue
            columns |= {f"{method} {space} {axis}": places[:, number] for number, axis in enumerate("xy")}
            thumbnails = images if method == "t-SNE" else None
            page.figure(
                show_embedding(places, labels, is_real, f"{method} of {space}", thumbnails), f"{method} of {space}."
            )
    page.section("Clusters")
    page.text(
        "Clusters that are found without labels, beside the classes. ARI and NMI are 1 where clusters are the classes (ARI is 0 "
        "where they have nothing to do with them); silhouette says how well the clusters are separated. HDBSCAN leaves points "
        "in thin places out; its figures are of the others. Means over five disjoint samples; ari_error is the standard error."
    )
    page.table(clusters)
    page.section("Classes")
    if sides.asked:
        page.figure(
            show_confusion(sides.labels, sides.recognised, sides.classes),
            "What was asked for against what the classifier recognises. Its own mistakes on real images are mostly among the "
            "tops too.",
        )
    page.figure(
        show_class_figures(rows),
        "Diversity: mean distance between two images of a class, over that of real ones. Precision: share of images among "
        "real ones. Recall: share of real images among generated ones.",
    )
    page.table([{"class": data.CLASS_NAMES[label], **row} for label, row in rows.items()])
    page.section("Attributes and biases")
    page.text(
        "; ".join(f"{name}: {meaning}" for name, meaning in analysis.ATTRIBUTES.items())
        + ". Effect is Cohen's d (0.2 small, 0.5 medium, 0.8 large), positive where the generator has more. p is of a "
        f"Mann-Whitney U test, corrected by Holm's method for the {len(biases)} comparisons."
    )
    page.figure(show_attributes(sides.real_images, sides.images), "Attributes over all classes.")
    page.figure(show_extremes(sides.images), "Generated images at both ends of every attribute.")
    named = [row | {"label": "all" if row["label"] is None else data.CLASS_NAMES[row["label"]]} for row in biases]
    page.table(named)
    page.section("Nearest training images")
    page.figure(neighbours, "Of 1,000 generated images: those most alike to a training image, and some usual ones.")
    try:
        generator = None if pathlib.Path(source).suffix == ".npz" else generation.open_generator(source)
        found, shares = analysis.directions(generator, seed) if generator else (None, None)
    except InputError as error:
        page.text(str(error))
        found = None
    if generator:
        progress("latent space")
        page.section("Latent space")
        walks = analysis.interpolations(generator, seed)
        page.figure(
            show_interpolations(walks),
            "From one noise vector to another. Straight walks pass through noise that is too short. Path in feature space over "
            "the distance of its ends, mean of 24 walks: "
            + ", ".join(f"{kind} {walk['length'].mean():.2f}" for kind, walk in walks.items())
            + ".",
        )
        if found is not None:
            page.figure(
                show_directions(generator, found, seed, label=0 if generator.label else None),
                "One noise vector moved along the four directions that change the first hidden layer most, by -3 to 3. They "
                f"hold {', '.join(f'{share:.1%}' for share in shares)} of its variance.",
            )
        if generator.label:
            page.figure(show_classes_by_noise(generator, seed), "The same noise (columns) through all labels (rows).")
    page.text(f"Made in {time.perf_counter() - start:.0f} s.")

    plots.write_whole(output / "report.html", page.whole(f"{source}: what it has learned"))
    _write_csv(output / "classes.csv", [{"class": data.CLASS_NAMES[label], **row} for label, row in rows.items()])
    _write_csv(output / "clusters.csv", clusters)
    _write_csv(output / "attributes.csv", named)
    _write_csv(
        output / "embedding.csv",
        [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)],
    )
    return {"findings": said, "classes": rows, "clusters": clusters, "biases": biases}


def _format(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.3g}" if abs(value) < 0.01 else f"{value:.3f}"
    return str(value)


def _write_csv(path, rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    plots.write_whole(path, text.getvalue())


class _Page:
    """An HTML page in the making: everything inside, no links, no scripts."""

    def __init__(self):
        self.parts = []

    def heading(self, text):
        self.parts.append(f"<h1>{html.escape(text)}</h1>")

    def section(self, text):
        self.parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text):
        self.parts.append(f"<p>{html.escape(text)}</p>")

    def list(self, items):
        self.parts.append("<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in items) + "</ul>")

    def figure(self, figure, caption):
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=100, format="png")
        plt.close(figure)
        picture = base64.b64encode(buffer.getvalue()).decode()
        caption = html.escape(caption)
        self.parts.append(
            f'<figure><img alt="{caption}" src="data:image/png;base64,{picture}"><figcaption>{caption}</figcaption></figure>'
        )

    def table(self, rows):
        head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_format(value))}</td>" for value in row.values()) + "</tr>"
            for row in rows
        )
        self.parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")

    def whole(self, title):
        style = (
            "body{font-family:sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;line-height:1.45;color:#222}"
            "figure{margin:1rem 0}figcaption{color:#555}img{max-width:100%}table{border-collapse:collapse;margin:1rem 0}"
            "td,th{border-bottom:1px solid #ddd;padding:.25rem .6rem;text-align:left}"
        )
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
            f"<style>{style}</style></head><body>{''.join(self.parts)}</body></html>"
        )
