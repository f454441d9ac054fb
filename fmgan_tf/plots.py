"""Pictures: tiled grids, strips, animated GIFs, training curves. The show_ functions return a Figure."""

import io
import math
import os
import pathlib

import imageio.v3 as imageio
import matplotlib.pyplot as plt
import numpy as np

# Okabe and Ito's palette, which color-blind readers can tell apart.
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
# Cross-entropies of a discriminator that guesses, and of its generator
GUESSING = (2 * math.log(2), math.log(2))


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
    left, top = (1.0 if row_labels else 0.0), (0.35 if title else 0.0)
    figure = plt.figure(figsize=(left + width, top + height), dpi=100)
    axis = figure.add_axes((left / (left + width), 0, width / (left + width), height / (top + height)))
    axis.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
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


def show_training_curves(steps, guessing=GUESSING, system="", moments=()):
    """Draws both losses and the discriminator's mean probabilities, thin as they are and thick smoothed.

    Args:
        steps: dict of arrays (N,): step, discriminator_loss, generator_loss, real_probability,
            generated_probability.
        guessing: losses of a discriminator that only guesses, floats or arrays (N,), see losses.of_guessing;
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
    guessing = [np.broadcast_to(values, count) for values in guessing]
    for values, color, side in zip(guessing, (BLUE, ORANGE), ("bottom", "top"), strict=True):
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
        top.set_ylim(lowest, 1.25 * max(1.5, float(highest), np.max(guessing)))
    for axis in (top, bottom):
        axis.legend(loc="upper left", edgecolor="none", ncols=2)
    figure.tight_layout()
    return figure


def show_ring(moments, real, extent, title):
    """Draws the toy game of notebook 03: generated points on the discriminator's surface, over the steps.

    Args:
        moments: dict from step to (points, surface): (N, 2), and probabilities of "real" (rows, columns).
        real: float (M, 2), the middles of the real points.
        extent: float, the panels reach from -extent to extent.
    """
    figure, axes = plt.subplots(
        1, len(moments), figsize=(2.1 * len(moments), 2.7), sharey=True, layout="constrained"
    )
    box = (-extent, extent, -extent, extent)
    for axis, (step, (points, surface)) in zip(axes, moments.items(), strict=True):
        picture = axis.imshow(
            surface, cmap=plt.get_cmap("cividis", 16), vmin=0, vmax=1, extent=box, origin="lower"
        )
        axis.plot(*real.T, "o", color="white", markerfacecolor="none", markersize=8)
        axis.plot(*points.T, ".", color="#D55E00", markersize=2)
        axis.set(title=f"step {step:,}", xlim=box[:2], ylim=box[2:], xlabel="x")
    axes[0].set_ylabel("y")
    figure.colorbar(picture, ax=axes, label="D: probability of “real”", shrink=0.8)
    figure.suptitle(title)
    return figure


def show_confusion(confusion, names):
    """Draws a confusion matrix, int (classes, classes), rows what is, columns what was recognized."""
    figure, axis = plt.subplots(figsize=(6.4, 6))
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion):
        if count:
            color = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, count, ha="center", va="center", fontsize=9, color=color)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    accuracy = confusion.trace() / max(confusion.sum(), 1)
    axis.set(xlabel="recognized", ylabel="real class", title=f"Test images: {accuracy:.2%} recognized")
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


def write_whole(path, content):
    """Writes bytes or a str (as UTF-8) whole or not at all: under another name first, then renamed."""
    path = pathlib.Path(path)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


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
