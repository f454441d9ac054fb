"""One page about what a generator has learned: `python -m fmgan_tf analyze`. The figures are matplotlib's;
images are uint8 (N, 28, 28, 1), labels int (N,).
"""

import base64
import io
import itertools
import math
import pathlib
import sys
import time

import jinja2
import matplotlib.pyplot as plt
import numpy as np

from fmgan_tf import InputError, analysis, data, fashion_mnist, generation, metrics, plots
from fmgan_tf.runs import evaluation, sources
from fmgan_tf.runs.folder import writable, write_csv

# Paul Tol's "muted" colors, and near black: ten that color-blind readers can tell apart. Names stand beside
# them all the same.
COLORS = "#332288 #88CCEE #44AA99 #117733 #999933 #DDCC77 #CC6677 #882255 #AA4499 #222222".split()
EMBEDDED = 2000  # images of either side in an embedding; t-SNE takes longer than linear in their number
CLUSTERED = 10_000  # images of either side that are searched for clusters, in CLUSTER_PARTS disjoint samples
CLUSTER_PARTS = 5
COPIES = (
    0.03  # share of images nearer to a training image than one in a hundred test images: thrice the usual
)
GRAYS = {"cmap": "gray", "vmin": 0, "vmax": 255}
LARGE_EFFECT = 0.2  # smaller differences of attributes are too small to see, however certain


def show_embedding(places, labels, is_real, title, images=None, system="generated images"):
    """The same points (N, 2) in two panels, real and those of the system, colored by class, with its name at
    its middle; with images, some of the system's as small pictures in a third."""
    count, width = (2, 11) if images is None else (3, 13.5)
    figure, axes = plt.subplots(1, count, figsize=(width, 5.2), sharex=True, sharey=True)
    panels = {"real test images": is_real, system: ~is_real}
    near = np.ptp(places, axis=0) * (0.17, 0.06)  # names nearer than that would cover one another
    for axis, (name, chosen) in zip(axes, panels.items(), strict=False):
        taken = []
        axis.scatter(*places[~chosen].T, s=2, color="#CCCCCC", rasterized=True)
        for label in np.unique(labels[chosen]):
            here, color = places[chosen & (labels == label)], COLORS[label]
            axis.scatter(*here.T, s=3, color=color, rasterized=True)
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": color, "alpha": 0.75}
            middle, text = np.median(here, axis=0), fashion_mnist.CLASS_NAMES[label]
            for other in taken:
                if (np.abs(middle - other) < near).all():
                    middle[1] = other[1] + np.copysign(near[1], middle[1] - other[1])
            taken.append(middle)
            axis.annotate(text, middle, ha="center", va="center", fontsize=9, zorder=5, bbox=box)
        axis.set(title=f"{name} (gray: the others)", xlabel="first axis", xticks=[], yticks=[])
    axes[0].set_ylabel("second axis")
    figure.suptitle(f"{title}: real test images and {system}")
    if images is not None:
        place_thumbnails(axes[2], places[~is_real], images[~is_real])
        axes[2].set(title=f"{system}, some as pictures", xlabel="first axis")
    figure.tight_layout()
    return figure


def place_thumbnails(axis, places, images, cells=16):
    """Small pictures, one in every cell of a coarse grid that holds a point, of the first there."""
    low, size = places.min(0).astype("float64"), 1.001 * np.ptp(places, axis=0) / cells + 1e-9
    corners, chosen = np.unique(np.floor((places - low) / size), axis=0, return_index=True)
    for (x, y), index in zip(low + corners * size, chosen, strict=True):
        extent = (x, x + 0.95 * size[0], y, y + 0.95 * size[1])
        axis.imshow(images[index, :, :, 0], **GRAYS, extent=extent, aspect="auto")
    axis.use_sticky_edges = False  # or pictures at the border would lie on the frame
    axis.autoscale()


def show_confusion(asked, recognized, classes, system="Generated images"):
    """The classes asked for against those recognized, as shares of each row."""
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (asked, recognized), 1)
    figure = plots.show_confusion(counts, list(fashion_mnist.CLASS_NAMES))
    axis, share = figure.axes[0], (asked == recognized).mean()
    axis.set(ylabel="asked for", title=f"{system}: {share:.1%} recognized as asked")
    axis.set_ylim(max(classes) + 0.5, min(classes) - 0.5)
    return figure


def show_class_figures(rows, title=None):
    """Bars of diversity, precision and recall for every class."""
    names = [fashion_mnist.CLASS_NAMES[label] for label in rows]
    figure, axes = plt.subplots(3, 1, figsize=(7.5, 6), sharex=True)
    for axis, key in zip(axes, ("diversity", "precision", "recall"), strict=True):
        axis.bar(range(len(names)), [row[key] for row in rows.values()], color=plots.BLUE)
        axis.set_ylabel(key)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set(ylabel="diversity (real: 1)", title=title)
    axes[0].axhline(1.0, color=plots.GRAY, linestyle=":")
    axes[-1].set_xticks(range(len(names)), names, rotation=30, ha="right")
    figure.tight_layout()
    return figure


def show_attributes(real_images, images, title=None):
    """Histograms of the attributes, real and generated."""
    real, generated = analysis.attributes(real_images), analysis.attributes(images)
    figure, axes = plt.subplots(1, len(real), figsize=(12, 3))
    for axis, name in zip(axes, real, strict=True):
        both = real[name], generated[name]
        bins = np.linspace(0, max(np.percentile(values, 99.8) for values in both), 40)
        axis.hist(both[0], bins, density=True, color=plots.BLUE, alpha=0.5, label="real")
        line = {"histtype": "step", "color": plots.ORANGE, "linewidth": 1.5}
        axis.hist(both[1], bins, density=True, label="generated", **line)
        axis.set(xlabel=name, yticks=[])
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[0].set_ylabel("how often")
    axes[0].legend(frameon=False, fontsize=9)
    figure.suptitle(title)
    figure.tight_layout()
    return figure


def show_extremes(images, count=12, title=None):
    """The images with the least and the most of every attribute."""
    sheet, names = [], []
    for name, values in analysis.attributes(images).items():
        order = np.argsort(values)
        sheet += [images[order[:count]], images[order[-count:]]]
        names += [f"least {name}", f"most {name}"]
    return _labeled_rows(np.concatenate(sheet), count, names, title)


def _labeled_rows(images, columns, names, title=None):
    """A sheet with room for long row labels."""
    sheet = plots.tile(images, columns, scale=2)
    height, width = (pixels / 100 for pixels in sheet.shape)
    left, top = 1.75, 0.35 if title else 0.05
    figure = plt.figure(figsize=(left + width, top + height))
    axis = figure.add_axes((left / (left + width), 0, width / (left + width), height / (top + height)))
    axis.imshow(sheet, **GRAYS, aspect="auto")
    axis.set(xticks=[], title=title)
    axis.set_yticks([(row + 0.5) * sheet.shape[0] / len(names) for row in range(len(names))], names)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


def show_neighbors(images, train_images, count=16, title=None):
    """Generated images above their nearest training images, most alike first: (Figure, distances (N,))."""
    index, distances = analysis.nearest(images, train_images)
    order = np.argsort(distances)
    alike, usual = order[:count], order[len(order) // 2 :][:count]
    sheet = [part for row in (alike, usual) for part in (images[row], train_images[index[row]])]
    names = ["generated, most alike", "nearest training", "generated, usual", "nearest training"]
    return _labeled_rows(np.concatenate(sheet), count, names, title), distances


def show_interpolations(walks, title=None):
    """The first walk of either kind, and how long the noise of all walks is along the way, on average."""
    figure, axes = plt.subplots(3, 1, figsize=(9.5, 4), height_ratios=(1, 1, 2.2))
    for axis, (kind, walk) in zip(axes, walks.items(), strict=False):
        axis.imshow(plots.tile(walk["images"], len(walk["images"])), **GRAYS)
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(kind, rotation=0, ha="right", va="center")
    looks = (plots.BLUE, "-"), (plots.ORANGE, "--")
    for (kind, walk), (color, style) in zip(walks.items(), looks, strict=True):
        axes[2].plot(np.linspace(0, 1, len(walk["norm"])), walk["norm"], style, color=color, label=kind)
    axes[2].margins(x=0.5 / (len(walk["norm"]) - 1))  # so that each image stands above its share of the way
    axes[2].set(xlabel="share of the way", ylabel="mean noise length\n(ends: 1)", ylim=(0, 1.1))
    axes[0].set_title(title)
    axes[2].legend(frameon=False)
    axes[2].spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def show_directions(generator, found, seed=0, reach=3.0, steps=9, label=None, title=None):
    """Sweeps of one noise vector along each direction, from -reach to reach."""
    start = generation.sample_noise(seed, 1, generator.latent_dim)
    way = np.linspace(-reach, reach, steps)[:, None]
    sweep = np.concatenate([start + way * direction for direction in found])
    images = data.resize(analysis.images_along(generator, sweep, label), 28)
    return _labeled_rows(images, steps, [f"direction {number + 1}" for number in range(len(found))], title)


def show_classes_by_noise(generator, seed=0, columns=12, title=None):
    """The same noise through all labels: a column for every noise vector, a row for every class."""
    classes = range(generator.classes)
    noise = np.tile(generation.sample_noise(seed, columns, generator.latent_dim), (generator.classes, 1))
    images = data.resize(generation.sample_images(generator, noise, np.repeat(classes, columns)), 28)
    return _labeled_rows(images, columns, fashion_mnist.CLASS_NAMES[: generator.classes], title)


def cluster_table(sides, seed=0):
    """Clusters of real and of generated images, in pixels and in classifier features, beside the labels: list
    of dicts with the means over five disjoint samples of what analysis.find_clusters gives, `samples` images
    each, and the standard error of ARI's as ari_error."""
    rows = []
    for space, name in itertools.product(("pixels", "classifier features"), ("real", "generated")):
        side = getattr(sides, name)
        points = side.features if space != "pixels" else side.images.reshape(len(side.images), -1) / 255
        parts = np.array_split(np.arange(len(points))[:CLUSTERED], CLUSTER_PARTS)  # in random order already
        for method in analysis.CLUSTERINGS:
            found = [analysis.find_clusters(points[part], side.labels[part], method, seed) for part in parts]
            row = {"space": space, "side": name, "method": method, "samples": len(parts[0])}
            for key in ("clusters", "left_out", "ari", "nmi", "silhouette"):
                row[key] = float(np.mean([result[key] for result in found]))
            error = np.std([result["ari"] for result in found], ddof=1) / CLUSTER_PARTS**0.5
            rows.append(row | {"ari_error": float(error)})
    return rows


def findings(sides, clusters, rows, biases, memorized):
    """What the figures of cluster_table, analysis.per_class and .biases, and evaluation.memorization_figures
    say, list of str; the first say what should be known before the others are read."""
    if sources.collapsed(sides.generated.images):  # then no class is to be praised or blamed for anything
        return [*sides.remarks, _of_copies(memorized)]
    names = sides.dataset.class_names
    said = [*sides.remarks, _of_classes(sides), *_of_variety(rows, names), *_of_clusters(clusters)]
    return [*said, *_of_biases(biases, names), _of_copies(memorized)]


def _of_classes(sides):
    generated, names = sides.generated, sides.dataset.class_names
    if sides.asked:
        overall, agreement = metrics.label_agreement(generated.labels, generated.recognized, len(names))
        worst = int(np.nanargmin(agreement))
        taken = np.bincount(generated.recognized[generated.labels == worst], minlength=len(names))
        taken[worst] = 0
        return (
            "Asked for a class, the generator makes what the classifier recognizes as that class in "
            f"{overall:.1%} of cases. The hardest class is {names[worst]} with {agreement[worst]:.1%}; it is "
            f"most often taken for {names[taken.argmax()]}."
        )
    both = (generated.recognized, sides.real.labels)
    share, real = (np.bincount(labels, minlength=len(names)) / len(labels) for labels in both)
    most, least = (sides.classes[pick((share - real)[sides.classes])] for pick in (np.argmax, np.argmin))
    return (
        f"Nobody tells this generator what to make: {names[most]} comes up in {share[most]:.1%} of images "
        f"and {names[least]} in {share[least]:.1%}, by the classifier's verdict; of real images they are "
        f"{real[most]:.1%} and {real[least]:.1%}."
    )


def _of_variety(rows, names):
    known = {label: row for label, row in rows.items() if np.isfinite(row["diversity"])}
    if not known:
        return []
    narrow, wide = (pick(known, key=lambda label: known[label]["diversity"]) for pick in (min, max))
    unreal = min(known, key=lambda label: known[label]["precision"])
    low, high, mean = (pick([row["diversity"] for row in known.values()]) for pick in (min, max, np.mean))
    return [
        f"Diversity within a class, over that of real images: from {low:.2f} ({names[narrow]}) to "
        f"{high:.2f} ({names[wide]}); the mean is {mean:.2f}.",
        f"The least realistic class is {names[unreal]}: {known[unreal]['precision']:.0%} of its images lie "
        "among real ones (precision).",
    ]


def _of_clusters(clusters):
    said = []
    for method in analysis.CLUSTERINGS:
        real, generated = (row for row in clusters if row["space"] != "pixels" and row["method"] == method)
        if not np.isfinite([real["ari_error"], generated["ari_error"]]).all():
            continue
        difference = generated["ari"] - real["ari"]
        relation = "closer to" if difference > 0 else "further from"
        if abs(difference) < 2 * np.hypot(real["ari_error"], generated["ari_error"]):
            relation = "not clearly closer to or further from"
        said.append(
            f"Clusters found by {method} in the features of generated images are {relation} the classes than "
            f"those of real images: ARI {generated['ari']:.2f} ± {generated['ari_error']:.2f} against "
            f"{real['ari']:.2f} ± {real['ari_error']:.2f}."
        )
    return said


def _of_biases(biases, names):
    said = []
    overall = [row for row in biases if row["label"] is None]
    for row in sorted(overall, key=lambda row: -abs(row["effect"]) if row["clear"] else -math.inf):
        name = row["attribute"]
        effect = f"effect {row['effect']:+.2f}, {row['low']:+.2f} to {row['high']:+.2f}"
        if not row["clear"]:
            said.append(f"No clear bias in {name} ({effect}).")
            continue
        size = "" if abs(row["effect"]) >= LARGE_EFFECT else "; certain, but too small to see"
        said.append(
            f"{'More' if row['effect'] > 0 else 'Less'} {name} than real images: {row['generated']:.3f} "
            f"against {row['real']:.3f} ({effect}){size}."
        )
    strong = [row for row in biases if row["label"] is not None and row["clear"]]
    if strong:
        row = max(strong, key=lambda row: abs(row["effect"]))
        said.append(
            f"The strongest bias in one class: {names[row['label']]} has "
            f"{'more' if row['effect'] > 0 else 'less'} {row['attribute']} than it should (effect "
            f"{row['effect']:+.2f}, {row['low']:+.2f} to {row['high']:+.2f})."
        )
    return said


def _of_copies(memorized):
    ratio, nearer = memorized["median_ratio"][0], memorized["nearer_fraction"][0]
    sign = "a sign" if nearer > COPIES else "no sign"
    return (
        f"Generated images lie {ratio:.2f} times as far from their nearest training images as test images "
        f"do, and {nearer:.1%} lie nearer than one in a hundred test images: {sign} of memorized images."
    )


def analyze(source, dataset, output, samples=10_000, seed=0):
    """Writes report.html and its tables (classes, clusters, attributes, embedding.csv) to the folder
    `output`, see evaluation.prepare. Returns a dict: findings, list of str; classes, clusters and biases, see
    analysis.
    Raises:
        InputError: bad source, or too few images.
        OSError: output cannot be written.
    """
    start, source = time.perf_counter(), sources.find(source)
    output = writable(output)
    sides = evaluation.prepare(source, dataset, samples, seed)
    names, generated, real = dataset.class_names, sides.generated, sides.real

    def progress(what):
        print(f"{what}...", file=sys.stderr, flush=True)

    progress("classes and attributes")
    rows = analysis.per_class(real.features, real.labels, generated.features, generated.labels)
    biases = analysis.biases(real.images, real.labels, generated.images, generated.labels)
    train = sides.dataset.train_images
    memorized = evaluation.memorization_figures(train, real.images, generated.images)
    progress("clusters")
    clusters = cluster_table(sides, seed)
    said = findings(sides, clusters, rows, biases, memorized)
    label_names = {None: "all"} | dict(enumerate(names))
    tables = {
        "classes": [{"class": names[label], **row} for label, row in rows.items()],
        "clusters": clusters,
    }
    tables["attributes"] = [row | {"label": label_names[row["label"]]} for row in biases]
    embeddings, tables["embedding"] = _embeddings(sides, seed, progress)
    page = {"source": source.name, "sides": sides, "dataset": dataset, "seed": seed, "findings": said}
    page |= {"tables": tables, "attributes": analysis.ATTRIBUTES, "embeddings": embeddings}
    page |= {"sheets": {"Generated": _sheet(generated, names), "Real": _sheet(real, names)}}
    page |= {"class_figures": show_class_figures(rows), "confusion": None, "latent": None}
    page["histograms"] = show_attributes(real.images, generated.images)
    page["extremes"] = show_extremes(generated.images)
    page["neighbors"], _ = show_neighbors(generated.images[:1000], train)
    if sides.asked:
        page["confusion"] = show_confusion(generated.labels, generated.recognized, sides.classes)
    if source.kind != "images":
        progress("latent space")
        page["latent"] = _latent(sources.open_generator(source), seed)
    page["seconds"] = time.perf_counter() - start
    loader = jinja2.FileSystemLoader(pathlib.Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"picture": _picture, "cell": _cell}
    plots.write_whole(output / "report.html", environment.get_template("report.html").render(page))
    for name, table in tables.items():
        write_csv(output / f"{name}.csv", list(table[0]), [row.values() for row in table])
    return {"findings": said, "classes": rows, "clusters": clusters, "biases": biases}


def _sheet(side, names, columns=16):
    kept = np.unique(side.labels)
    chosen = np.concatenate([np.resize(np.flatnonzero(side.labels == label), columns) for label in kept])
    return _labeled_rows(side.images[chosen], columns, [names[label] for label in kept])


def _embeddings(sides, seed, progress):
    """(figures or sentences by title, rows of embedding.csv)."""
    halves = [[field[:EMBEDDED] for field in side] for side in (sides.real, sides.generated)]
    images, labels, seen, _ = map(np.concatenate, zip(*halves, strict=True))
    is_real = np.arange(len(images)) < len(halves[0][0])
    columns, found = {"real": is_real.astype(int), "label": labels}, {}
    spaces = {"pixels": images.reshape(len(images), -1) / 255, "classifier features": seen}
    for space, method in itertools.product(spaces, analysis.EMBEDDINGS):
        title = f"{method} of {space}"
        progress(title)
        try:
            places = analysis.embed(spaces[space], method, seed)
        except InputError as error:
            found[title] = str(error)
            continue
        columns |= {f"{method} {space} {axis}": places[:, number] for number, axis in enumerate("xy")}
        thumbnails = images if method == "t-SNE" else None
        found[title] = show_embedding(places, labels, is_real, title, thumbnails)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return found, rows


def _latent(generator, seed):
    """The figures of the latent space."""
    walks = analysis.interpolations(generator, seed)
    lengths = {kind: walk["length"].mean() for kind, walk in walks.items()}
    by_noise = show_classes_by_noise(generator, seed) if generator.classes else None
    found = {"walks": show_interpolations(walks), "lengths": lengths, "by_noise": by_noise}
    try:
        directions, shares = analysis.directions(generator, seed)
    except InputError as error:
        return found | {"directions": None, "problem": str(error)}
    label = 0 if generator.classes else None
    return found | {"directions": show_directions(generator, directions, seed, label=label), "shares": shares}


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
