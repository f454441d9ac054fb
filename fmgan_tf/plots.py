"""Figures: tiled grids, animated GIFs, training curves, and those of the analysis.

The show_ functions return a matplotlib Figure. Images are uint8 (N, height, width, 1), labels int (N,).
"""

import io
import math

import imageio.v3 as imageio
import matplotlib.pyplot as plt
import numpy as np

from fmgan_tf import write_whole

# Okabe and Ito's palette, which color-blind readers can tell apart.
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
COLORS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", GRAY)  # of lines
# Paul Tol's "muted" colors, and near black: ten that color-blind readers can tell apart. Names stand beside
# them all the same.
CLASS_COLORS = "#332288 #88CCEE #44AA99 #117733 #999933 #DDCC77 #CC6677 #882255 #AA4499 #222222".split()
GRAYS = {"cmap": "gray", "vmin": 0, "vmax": 255}
# Cross-entropies of a discriminator that guesses, and of its generator
CHANCE = (2 * math.log(2), math.log(2))


def tile(images, columns=None, gap=1, scale=1):
    """Lays images, uint8 (N, height, width, 1), out on a white sheet, uint8 (height, width), row by row.

    By default the sheet is about square. `gap` white pixels lie between neighbors; every pixel is repeated
    `scale` times each way.
    """
    count, height, width, _ = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap), 255, "uint8")
    for index, image in enumerate(images):
        top = gap + index // columns * (height + gap)
        left = gap + index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image[..., 0]
    return sheet.repeat(scale, axis=0).repeat(scale, axis=1)


def show_images(images, columns=None, title=None, row_labels=None):
    """Draws a sheet of images, see tile, with a name beside every row."""
    sheet = tile(images, columns)
    # Two screen pixels for every image pixel, so that nothing is smoothed and the file stays small.
    height, width = (2 * pixels / 100 for pixels in sheet.shape)
    left = 0.15 + 0.085 * max(map(len, row_labels)) if row_labels else 0.0
    top = 0.35 if title else 0.0
    figure = plt.figure(figsize=(left + width, top + height), dpi=100)
    axis = figure.add_axes((left / (left + width), 0, width / (left + width), height / (top + height)))
    axis.imshow(sheet, **GRAYS, interpolation="nearest", aspect="auto")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    if row_labels:
        step = sheet.shape[0] / len(row_labels)
        axis.set_yticks([(row + 0.5) * step for row in range(len(row_labels))], row_labels)
        axis.tick_params(length=0)
    if title:
        axis.set_title(title)
    return figure


def smooth(values, window):
    """Running mean over the last `window` values, fewer at the start: float (N,) -> float64 (N,)."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype="float64")])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def show_training_curves(steps, chance=CHANCE, system="", moments=()):
    """Draws both losses and the discriminator's mean probabilities, thin as they are and thick smoothed.

    Args:
        steps: dict of arrays (N,): step, discriminator_loss, generator_loss, real_probability,
            generated_probability.
        chance: losses of a discriminator that only guesses, floats or arrays (N,), see losses.chance_losses;
            by default those of cross-entropy. Each is dotted in the color of its curve.
        system: str, whose curves they are.
        moments: steps to mark, such as those of samples.
    """
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7.5, 5.2), sharex=True)
    count = len(steps["step"])
    window, thin = max(1, count // 50), max(1, count // 500)  # more single steps than that are a gray blur
    for axis, name, label, color in (
        (top, "discriminator_loss", "discriminator", BLUE),
        (top, "generator_loss", "generator", ORANGE),
        (bottom, "real_probability", "real images", BLUE),
        (bottom, "generated_probability", "generated images", ORANGE),
    ):
        axis.plot(steps["step"][::thin], steps[name][::thin], color=color, alpha=0.25, linewidth=0.5)
        axis.plot(steps["step"], smooth(steps[name], window), color=color, label=label)
    for axis in (top, bottom):
        for moment in moments:
            axis.axvline(moment, color=GRAY, linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
    chance = [np.broadcast_to(values, count) for values in chance]
    for values, color, side in zip(chance, (BLUE, ORANGE), ("bottom", "top"), strict=True):
        if count:
            number = f"{values[-1] + 0.0:.2g}"  # no "-0"
            text = {"1.386": "2 ln 2", "0.693": "ln 2"}.get(f"{values[-1]:.3f}", number)
            top.plot(steps["step"], values, color=color, linestyle=":", linewidth=1.5)
            at = (1.005, values[-1])
            top.annotate(text, at, xycoords=("axes fraction", "data"), va=side, color=color)
    bottom.axhline(0.5, color=GRAY, linestyle=":", linewidth=1.5)
    title = "losses (dotted: of a discriminator that only guesses)"
    top.set(ylabel="loss", title=f"{system}: {title}" if system else title.capitalize())
    bottom.set(ylabel="mean probability of “real”", xlabel="step", ylim=(0, 1.2), yticks=np.linspace(0, 1, 6))
    if count:  # a few extreme first steps must not flatten the rest, and the dotted lines must be in sight
        highest = max(np.percentile(steps[name], 99.5) for name in ("discriminator_loss", "generator_loss"))
        lowest = min(0.0, float(np.min(steps["generator_loss"])))
        top.set_ylim(lowest, 1.25 * max(1.5, float(highest), np.max(chance)))
    for axis in (top, bottom):
        axis.legend(loc="upper left", edgecolor="none", ncols=2)
    figure.tight_layout()
    return figure


def show_loss(steps, system):
    """Draws the loss of gan.Flow, thin as it is and thick smoothed: steps is a dict of arrays (N,), step and
    velocity_loss."""
    figure, axis = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
    count, losses = len(steps["step"]), steps["velocity_loss"]
    axis.plot(steps["step"][:: max(1, count // 500)], losses[:: max(1, count // 500)], color=BLUE, alpha=0.25)
    axis.plot(steps["step"], smooth(losses, max(1, count // 50)), color=BLUE)
    axis.set(xlabel="step", ylabel="squared error of the velocity", title=f"{system}: loss", ylim=(0, None))
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def show_dataset(dataset, problems, columns=16, most=20):
    """A datasets.Dataset at a glance: a row of images of every class (at most so many) with how many there
    are, a histogram of pixels, and its problems, list of str."""
    counts = np.bincount(dataset.train_labels)
    rows = [
        np.resize(np.flatnonzero(dataset.train_labels == label), columns)
        for label in range(len(counts[:most]))
    ]
    sheet = tile(dataset.train_images[np.concatenate(rows)], columns)
    height = 8 * sheet.shape[0] / sheet.shape[1]
    figure, (top, bottom) = plt.subplots(
        2,
        1,
        figsize=(10, height + 2 + 0.2 * len(problems)),
        height_ratios=(height, 1.6),
        layout="constrained",
    )
    top.imshow(sheet, **GRAYS, interpolation="nearest")
    names = [f"{name} ({count:,})" for name, count in zip(dataset.class_names, counts, strict=True)][:most]
    top.set_yticks((np.arange(len(names)) + 0.5) * sheet.shape[0] / len(names), names)
    top.set(
        xticks=[],
        title=f"{dataset.name}: {counts.sum():,} images to train on, {len(dataset.test_images):,} to test",
    )
    bottom.hist(dataset.train_images[:5000].ravel(), bins=64, range=(0, 256), color=BLUE)
    bottom.set(yscale="log", xlabel="\n".join(["gray level: 0 is black", *problems]), ylabel="pixels")
    bottom.spines[["top", "right"]].set_visible(False)
    return figure


def show_lines(lines, xlabel, ylabel, title, **options):
    """Draws a dict from name to values over their number; the options are those of Axes.set."""
    figure, axis = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
    for number, (name, values) in enumerate(lines.items()):
        color, style = COLORS[number % len(COLORS)], ("-", "--", "-.", ":")[number % 4]
        axis.plot(values, style, color=color, label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title, **options)
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def show_ring(moments, real, extent, title):
    """Draws the toy game of notebook 03: generated points on the discriminator's surface, over the steps.

    Args:
        moments: dict from step to (points, surface): (N, 2), and probabilities of "real" (rows, columns).
        real: float (M, 2), the middles of the real points.
        extent: float, the panels reach from -extent to extent.
    """
    rows = -(-len(moments) // 3)
    figure, axes = plt.subplots(
        rows,
        3,
        figsize=(8.4, 2.7 * rows + 0.3),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    box = (-extent, extent, -extent, extent)
    for axis in axes.flat[len(moments) :]:
        axis.axis("off")
    for axis, (step, (points, surface)) in zip(axes.flat, moments.items(), strict=False):
        picture = axis.imshow(surface, cmap="cividis", vmin=0, vmax=1, extent=box, origin="lower")
        axis.plot(*real.T, "o", color="white", markerfacecolor="none", markersize=12)
        axis.plot(*points.T, ".", color="#D55E00", markersize=3)
        axis.set(title=f"step {step:,}", xlim=box[:2], ylim=box[2:])
    for axis in axes[-1]:
        axis.set_xlabel("x")
    for axis in axes[:, 0]:
        axis.set_ylabel("y")
    figure.colorbar(picture, ax=axes, label="D: probability of “real”", shrink=0.8)
    figure.suptitle(title)
    return figure


def show_blocks(rows, title):
    """Draws networks as rows of boxes. Rows are a dict from name to (texts of the boxes, number of the box
    before which something enters from below, what enters)."""
    figure, axes = plt.subplots(len(rows), 1, figsize=(8.6, 1.25 * len(rows)), layout="constrained")
    for axis, (name, (texts, entry, label)) in zip(np.atleast_1d(axes), rows.items(), strict=True):
        for place, text in enumerate(texts):
            box = {"boxstyle": "round,pad=0.5", "facecolor": "#D7E6F2", "edgecolor": BLUE}
            axis.text(place, 1, text, ha="center", va="center", bbox=box)
            if place:
                axis.annotate("", (place - 0.36, 1), (place - 0.64, 1), arrowprops={"arrowstyle": "->"})
        arrow = {"arrowstyle": "->", "color": ORANGE}
        axis.annotate("", (entry - 0.5, 0.95), (entry - 0.5, 0.2), arrowprops=arrow)
        axis.text(entry - 0.45, 0.2, label, color=ORANGE, va="center")
        axis.text(-1.2, 1, name, ha="left", va="center", weight="bold")
        axis.set(xlim=(-1.25, 3.6), ylim=(-0.1, 1.6))
        axis.axis("off")
    figure.suptitle(title)
    return figure


def show_forest(names, columns, title):
    """Draws ratios with their intervals: columns are a dict from a score's name to (ratio, low, high) of each
    of the names; NaN is left out."""
    figure, axes = plt.subplots(1, len(columns), figsize=(11, 0.4 * len(names) + 1.4), sharey=True)
    for axis, (score, values) in zip(axes, columns.items(), strict=True):
        for place, (ratio, low, high) in enumerate(values):
            color = GRAY if low <= 1 <= high else BLUE
            axis.plot([low, high], [place, place], color=color)
            axis.plot(ratio, place, "o", color=color)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set(xscale="log", xlabel="ratio", title=score)
        wide = axis.get_xlim()[1] / axis.get_xlim()[0] > 4
        axis.xaxis.set_major_locator(plt.FixedLocator([0.01, 0.1, 0.5, 1, 2, 5] if wide else [0.8, 1, 1.2]))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.suptitle(f"{title} (blue: the interval leaves out 1)")
    figure.tight_layout()
    return figure


def show_confusion(asked, recognized, names, system="generated images"):
    """The classes asked for, int (N,), against those recognized: counts, colored by their share of a row."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (asked, recognized), 1)
    figure, axis = plt.subplots(figsize=(6.4, 6))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, count, ha="center", va="center", fontsize=9, color=color)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    share = counts.trace() / max(counts.sum(), 1)
    axis.set(xlabel="recognized", ylabel="asked for", title=f"{system}: {share:.1%} recognized as asked")
    axis.set_ylim(max(asked) + 0.5, min(asked) - 0.5)
    figure.tight_layout()
    return figure


def show_class_bars(names, values, errors, floors, label, title=None):
    """Draws a bar for every class with its standard error, and a line where real images stand.

    Values, errors and floors are float (classes,), NaN where there is none; `label` is that of their axis.
    """
    figure, axis = plt.subplots(figsize=(7.5, 3.8))
    places = np.arange(len(names))
    axis.bar(places, values, yerr=errors, color=BLUE, ecolor=GRAY, capsize=3, label="generated")
    axis.hlines(floors, places - 0.4, places + 0.4, color=ORANGE, linewidth=2, label="real training images")
    axis.set_xticks(places, names, rotation=30, ha="right")
    axis.set(ylabel=label, title=title)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def show_embedding(places, labels, is_real, names, title, images=None, system="generated images"):
    """The same points (N, 2) in two panels, real and those of the system, colored by class, with the name of
    each at its middle; with images, some of the system's as small pictures in a third."""
    count, width = (2, 11) if images is None else (3, 13.5)
    figure, axes = plt.subplots(1, count, figsize=(width, 5.2), sharex=True, sharey=True)
    panels = {"real test images": is_real, system: ~is_real}
    near = np.ptp(places, axis=0) * (0.17, 0.06)  # names nearer than that would cover one another
    for axis, (name, chosen) in zip(axes, panels.items(), strict=False):
        taken = []
        axis.scatter(*places[~chosen].T, s=2, color="#CCCCCC", rasterized=True)
        for label in np.unique(labels[chosen]):
            here, color = places[chosen & (labels == label)], CLASS_COLORS[label % len(CLASS_COLORS)]
            axis.scatter(*here.T, s=3, color=color, rasterized=True)
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": color, "alpha": 0.75}
            middle = np.median(here, axis=0)
            for other in taken:
                if (np.abs(middle - other) < near).all():
                    middle[1] = other[1] + np.copysign(near[1], middle[1] - other[1])
            taken.append(middle)
            axis.annotate(names[label], middle, ha="center", va="center", fontsize=9, zorder=5, bbox=box)
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


def show_class_scores(rows, names, title=None):
    """Bars of diversity, precision and recall for every class, from what analysis.per_class returns."""
    figure, axes = plt.subplots(3, 1, figsize=(7.5, 6), sharex=True)
    for axis, key in zip(axes, ("diversity", "precision", "recall"), strict=True):
        axis.bar(range(len(rows)), [row[key] for row in rows.values()], color=BLUE)
        axis.set_ylabel(key)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set(ylabel="diversity (real: 1)", title=title)
    axes[0].axhline(1.0, color=GRAY, linestyle=":")
    axes[-1].set_xticks(range(len(rows)), [names[label] for label in rows], rotation=30, ha="right")
    figure.tight_layout()
    return figure


def show_attributes(real, generated, title=None):
    """Histograms of two sets of attributes, dicts from name to float (N,), see analysis.attributes."""
    figure, axes = plt.subplots(1, len(real), figsize=(12, 3))
    for axis, name in zip(axes, real, strict=True):
        both = real[name], generated[name]
        bins = np.linspace(0, max(np.percentile(values, 99.8) for values in both), 40)
        axis.hist(both[0], bins, density=True, color=BLUE, alpha=0.5, label="real")
        line = {"histtype": "step", "color": ORANGE, "linewidth": 1.5}
        axis.hist(both[1], bins, density=True, label="generated", **line)
        axis.set(xlabel=name, yticks=[])
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[0].set_ylabel("density")
    axes[0].legend(frameon=False, fontsize=9)
    figure.suptitle(title)
    figure.tight_layout()
    return figure


def show_extremes(images, attributes, count=12, title=None):
    """The images with the least and the most of every attribute, a dict from name to float (N,)."""
    sheet, names = [], []
    for name, values in attributes.items():
        order = np.argsort(values)
        sheet += [images[order[:count]], images[order[-count:]]]
        names += [f"least {name}", f"most {name}"]
    return show_images(np.concatenate(sheet), count, title, names)


def show_neighbors(images, neighbors, distances, count=16, title=None):
    """Images above their nearest training images, (N, height, width, 1) like them: those most alike, and some
    in the middle by distance, float (N,)."""
    order = np.argsort(distances)
    closest, usual = order[:count], order[len(order) // 2 :][:count]
    sheet = [part for row in (closest, usual) for part in (images[row], neighbors[row])]
    names = ["generated, most alike", "nearest training", "generated, usual", "nearest training"]
    return show_images(np.concatenate(sheet), count, title, names)


def show_interpolations(walks, title=None):
    """The first walk of either kind, see analysis.interpolations, and how long the noise of all walks is on
    the way, on average."""
    figure, axes = plt.subplots(3, 1, figsize=(9.5, 4), height_ratios=(1, 1, 2.2))
    for axis, (kind, walk) in zip(axes, walks.items(), strict=False):
        axis.imshow(tile(walk["images"], len(walk["images"])), **GRAYS)
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(kind, rotation=0, ha="right", va="center")
    looks = (BLUE, "-"), (ORANGE, "--")
    for (kind, walk), (color, style) in zip(walks.items(), looks, strict=True):
        axes[2].plot(np.linspace(0, 1, len(walk["norm"])), walk["norm"], style, color=color, label=kind)
    axes[2].margins(x=0.5 / (len(walk["norm"]) - 1))  # so that each image stands above its share of the way
    axes[2].set(xlabel="share of the way", ylabel="mean noise length\n(ends: 1)", ylim=(0, 1.1))
    axes[0].set_title(title)
    axes[2].legend(frameon=False)
    axes[2].spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def save_png(path, sheet):
    """Writes a uint8 (height, width) array as a grayscale PNG."""
    write_whole(path, imageio.imwrite("<bytes>", sheet, extension=".png"))


def save_gif(path, frames, milliseconds=250, rest=4):
    """Writes frames, uint8 (height, width), as a GIF that loops; the last stays `rest` times as long."""
    durations = [milliseconds] * (len(frames) - 1) + [rest * milliseconds]
    if len(frames) == 1:
        (durations,) = durations  # for a single frame the writer takes no list
    options = {"extension": ".gif", "duration": durations, "loop": 0}
    write_whole(path, imageio.imwrite("<bytes>", np.stack(frames), **options))


def save_figure(path, figure):
    """Writes a matplotlib Figure as a PNG of 100 dpi, wide enough for its longest label, and closes it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, format="png", bbox_inches="tight")
    plt.close(figure)
    write_whole(path, buffer.getvalue())


def show_dots(names, columns, colors, title):
    """Draws seeds as dots and their mean as a bar, on logarithmic axes: columns are a dict from a score's
    name to the values of each of the names."""
    figure, axes = plt.subplots(1, len(columns), figsize=(9.5, 0.27 * len(names) + 1.2), sharey=True)
    for axis, (score, values) in zip(axes, columns.items(), strict=True):
        for place, (found, color) in enumerate(zip(values, colors, strict=True)):
            axis.plot(found, np.full(len(found), place), "o", color=color, alpha=0.5, markersize=4)
            axis.plot(np.mean(found), place, "|", color=color, markersize=13, markeredgewidth=2)
        axis.set(xscale="log", xlabel=f"{score} (lower is better)")
        axis.xaxis.set_major_locator(plt.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
        axis.grid(alpha=0.3, axis="x")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.suptitle(title)
    figure.tight_layout()
    return figure
