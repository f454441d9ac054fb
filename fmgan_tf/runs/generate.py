"""Writes generated images to a file: a grid, arrays, or a walk through the latent space."""

import io
import pathlib

import numpy as np

from fmgan_tf import generation, plots


def generate(generator, output, class_names, count=None, seed=0, labels=None):
    """Writes images of a generation.Generator to a .png (a grid), .gif (a latent walk) or .npz: `images`,
    uint8 (N, height, width, 1), and from a conditional generator `labels`, int64 (N,).
    Args:
        class_names: tuple of str, of all classes.
        count: int, how many images in all, spread evenly over the labels, the first getting one more where it
            does not divide; in a .gif, how many walk side by side. By default 64, or 8 of every label.
        labels: int, the classes to make; by default all that a conditional generator knows.
    Raises:
        InputError: the generator fails.
        OSError: output cannot be written.
    """
    output = pathlib.Path(output)
    labels = range(generator.classes) if labels is None else labels
    rows = max(1, len(labels))  # a row for every label, the same noise in all of them
    count = count or (8 * rows if generator.classes else 64)
    sizes = [len(part) for part in np.array_split(np.arange(count), rows)]
    columns = max(sizes)
    asked = np.repeat(list(labels), sizes[: len(labels)]).astype("int64") if generator.classes else None
    places = np.concatenate([np.arange(size) for size in sizes])  # which noise every image has
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".gif":
        walk = generation.latent_walk(seed, columns, generator.latent_dim)
        noise = walk[:, places].reshape(-1, generator.latent_dim)
        asked = np.tile(asked, len(walk)) if generator.classes else None
        images = generation.sample_images(generator, noise, asked)
        frames = images.reshape(len(walk), count, *images.shape[1:])
        sheets = [plots.tile(*_in_rows(frame, sizes, generator.classes), scale=2) for frame in frames]
        plots.save_gif(output, sheets, milliseconds=80, rest=1)
        return
    noise = generation.sample_noise(seed, columns, generator.latent_dim)[places]
    images = generation.sample_images(generator, noise, asked)
    if output.suffix == ".npz":
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=images, **({"labels": asked} if generator.classes else {}))
        plots.write_whole(output, buffer.getvalue())
    elif generator.classes and columns <= 20:
        names = [class_names[label] for label in labels]
        sheet, _ = _in_rows(images, sizes, generator.classes)
        plots.save_figure(output, plots.show_images(sheet, columns=columns, row_labels=names))
    else:
        plots.save_png(output, plots.tile(*_in_rows(images, sizes, generator.classes), scale=2))


def _in_rows(images, sizes, classes):
    """(images, columns) for a grid with a row for every label, short ones filled up with white."""
    if not classes:
        return images, None
    columns = max(sizes)
    blank = np.full((1, *images.shape[1:]), 255, "uint8")
    parts = np.split(images, np.cumsum(sizes)[:-1])
    rows = [np.concatenate([part, *[blank] * (columns - len(part))]) for part in parts]
    return np.concatenate(rows), min(columns, 40) if len(rows) == 1 else columns
