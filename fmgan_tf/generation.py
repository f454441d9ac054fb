"""Images from a trained generator: as a grid, as arrays, as a walk through the latent space."""

import io
import pathlib

import keras
import numpy as np

from fmgan_tf import InputError, data, plots, training

FRAMES = 16  # of a latent walk, from one noise vector to the next


def load_generator(source):
    """Loads the averaged generator of a run.

    Args:
        source: path of a run folder.

    Returns:
        keras.Model, float32 noise (N, latent_dim) -> float32 images (N, height, width, 1) in [-1, 1].

    Raises:
        InputError: it is not a run folder, or its generator is missing or damaged.
    """
    source = pathlib.Path(source)
    path = source / "generator.keras"
    if not source.is_dir() or not (source / "run.json").exists():
        raise InputError(f"{source} is not a run folder; expected one that `train` made, like runs/dcgan")
    if not path.exists():
        raise InputError(
            f"{source} holds no generator.keras yet: its run was cut off. Finish it with train --resume --output {source}"
        )
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # a damaged zip, HDF5 or JSON inside each has exceptions of its own
        raise InputError(f"{path} is damaged ({error})") from error


def make_images(generator, noise, batch_size=250):
    """Runs a generator over many noise vectors.

    Args:
        generator: keras.Model, noise -> images in [-1, 1].
        noise: float32 (N, latent_dim).
        batch_size: int, how many at a time.

    Returns:
        uint8 (N, height, width, 1) in [0, 255].
    """
    parts = [generator(noise[start : start + batch_size], training=False) for start in range(0, len(noise), batch_size)]
    return np.concatenate([data.from_tanh_range(part) for part in parts])


def latent_walk(seed, count, latent_dim, stops=5, frames=FRAMES):
    """Noise vectors that wander from one random point to the next and back to the first.

    They move on great circles (slerp), because the length of a normal vector of many dimensions hardly varies and the
    generator has never seen the short ones in the middle of a straight line.

    Args:
        seed: int.
        count: how many walks side by side.
        latent_dim: int.
        stops: random points on the way.
        frames: steps from a point to the next.

    Returns:
        float32 (stops * frames, count, latent_dim).

    Source: White 2016, Sampling Generative Networks, https://arxiv.org/abs/1609.04468.
    """
    points = training.sample_noise(seed, stops * count, latent_dim).reshape(stops, count, latent_dim)
    return np.concatenate(
        [
            [slerp(points[stop], points[(stop + 1) % stops], share) for share in np.arange(frames) / frames]
            for stop in range(stops)
        ]
    ).astype("float32")


def slerp(start, end, share):
    """Interpolates between noise vectors on a great circle.

    Args:
        start, end: float (…, latent_dim).
        share: float in [0, 1], 0 giving start and 1 end.

    Returns:
        float (…, latent_dim).

    Source: Shoemake 1985, Animating rotation with quaternion curves, https://doi.org/10.1145/325334.325242.
    """
    cosine = np.sum(start * end, -1, keepdims=True) / (
        np.linalg.norm(start, axis=-1, keepdims=True) * np.linalg.norm(end, axis=-1, keepdims=True)
    )
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    if np.any(np.sin(angle) < 1e-6):  # parallel vectors span no circle
        return (1 - share) * start + share * end
    return (np.sin((1 - share) * angle) * start + np.sin(share * angle) * end) / np.sin(angle)


def generate(source, count, seed, output):
    """Writes generated images to a file.

    Args:
        source: path of a run folder.
        count: int, how many images; in a .gif, how many walk side by side.
        seed: int; the same seed gives the same noise.
        output: path ending in .png (a grid), .npz (`images`, uint8 (N, height, width, 1)) or .gif (a latent walk).

    Raises:
        InputError: see load_generator.
        OSError: output cannot be written.
    """
    output = pathlib.Path(output)
    generator = load_generator(source)
    latent_dim = generator.input_shape[-1]
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".gif":
        walk = latent_walk(seed, count, latent_dim)
        images = make_images(generator, walk.reshape(-1, latent_dim))
        frames = [plots.tile(frame, scale=2) for frame in images.reshape(len(walk), count, *images.shape[1:])]
        plots.save_gif(output, frames, milliseconds=80, rest=1)
        return
    images = make_images(generator, training.sample_noise(seed, count, latent_dim))
    if output.suffix == ".png":
        plots.save_png(output, plots.tile(images, scale=2))
    else:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=images)
        plots.write_whole(output, buffer.getvalue())
