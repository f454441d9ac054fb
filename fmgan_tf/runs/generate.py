"""Writes generated images to a file: a grid, arrays, or a walk through the latent space."""

import io

import numpy as np

from fmgan_tf import InputError, generation, plots, write_whole
from fmgan_tf.runs.folder import writable

MOST_PIXELS = 2_000_000_000  # of all images together: two gigabytes


def generate(generator, output, labels, count=None, seed=0):
    """Writes images of a generation.Generator to a .png (a grid), .gif (a latent walk) or .npz: `images`,
    uint8 (N, height, width, 1), and from a conditional generator `labels`, int64 (N,).

    Args:
        output: pathlib.Path.
        labels: list of int, the classes to make; empty where it takes none.
        count: int, how many images in all, spread evenly over the labels, the first getting one more where it
            does not divide; in a .gif, how many walk side by side. By default 64, or 8 of every label.
    Raises:
        InputError: too many images, or the generator fails.
        OSError: output cannot be written.
    """
    rows = max(1, len(labels))  # a row for every label, the same noise in all of them
    count = count or (8 * rows if labels else 64)
    suffix = output.suffix.lower()
    side = generator.model.outputs[0].shape[1] or 28
    most = MOST_PIXELS // side**2 // (80 if suffix == ".gif" else 1)
    if count > most:
        raise InputError(f"--count {count} is more than memory holds, expected at most {most}")
    sizes = [len(part) for part in np.array_split(np.arange(count), rows)]
    asked = np.repeat(labels, sizes).astype("int64") if labels else None
    places = np.concatenate([np.arange(size) for size in sizes])  # which noise every image has
    columns = max(sizes)
    writable(output.parent)
    if suffix == ".gif":
        walk = generation.latent_walk(seed, columns, generator.latent_dim)
        noise = walk[:, places].reshape(-1, generator.latent_dim)
        images = generation.sample_images(generator, noise, np.tile(asked, len(walk)) if labels else None)
        frames = images.reshape(len(walk), count, *images.shape[1:])
        output.parent.mkdir(parents=True, exist_ok=True)
        sheets = [plots.tile(*in_rows(frame, sizes if labels else None), scale=2) for frame in frames]
        plots.save_gif(output, sheets, milliseconds=80, rest=1)
        return
    noise = generation.sample_noise(seed, columns, generator.latent_dim)[places]
    images = generation.sample_images(generator, noise, asked)
    output.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".npz":
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=images, **({"labels": asked} if labels else {}))
        write_whole(output, buffer.getvalue())
    elif labels and columns <= 20:
        names = [generator.class_names[label] for label in labels]
        sheet, _ = in_rows(images, sizes)
        plots.save_figure(output, plots.show_images(sheet, columns=columns, row_labels=names))
    else:
        plots.save_png(output, plots.tile(*in_rows(images, sizes if labels else None), scale=2))


def in_rows(images, sizes):
    """(images, columns) for a grid with a row for every label, of so many images, short ones filled up with
    white; without sizes as they are."""
    if sizes is None:
        return images, None
    columns = max(sizes)
    blank = np.full((1, *images.shape[1:]), 255, "uint8")
    parts = np.split(images, np.cumsum(sizes)[:-1])
    rows = [np.concatenate([part, *[blank] * (columns - len(part))]) for part in parts]
    return np.concatenate(rows), min(columns, 40) if len(rows) == 1 else columns
