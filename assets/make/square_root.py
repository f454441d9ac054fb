"""The case of 4.98e+44 (notebook 05): python assets/make/square_root.py assets/square-root.json PYTHON ...

Each PYTHON is the interpreter of an environment with another SciPy, and needs NumPy and SciPy alone, such as

    python3.11 -m venv old && old/bin/pip install numpy==1.26.4 scipy==1.11.4

In each the distance of the same images of two classes, real ones and those of the shipped dense-cgan, is
computed as the notebook behind that number did: sqrtm of the product of two covariances, real part taken.
"""

import json
import pathlib
import subprocess
import tempfile

import numpy as np

DRAWS = {64: 10, 128: 4, 784: 1, 1400: 1}  # images per set: how many draws of so many
SCALES = {"pixels in [0, 1]": 1 / 255, "pixels in [0, 255]": 1.0}
LAYER = "2,048 features of a random layer"  # as many as Inception has, whose weights are not needed for this
LAYER_DRAWS = 3  # of 64 images


def usual_distance(real, generated):
    """The distance by the real part of scipy.linalg.sqrtm, and the largest imaginary part that this drops."""
    from scipy import linalg

    first, second = (np.cov(side, rowvar=False) for side in (real, generated))
    root = linalg.sqrtm(first @ second)
    gap = real.mean(axis=0) - generated.mean(axis=0)
    distance = gap @ gap + np.trace(first + second - 2 * root.real)
    return float(distance), float(np.abs(root.imag).max())


def right_distance(real, generated):
    """The same by the singular values of the product of the centered samples: no root of a matrix at all."""
    gap = real.mean(axis=0) - generated.mean(axis=0)
    one, other = ((side - side.mean(axis=0)) / np.sqrt(len(side) - 1) for side in (real, generated))
    trace = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    return float(gap @ gap + (one**2).sum() + (other**2).sum() - 2 * trace)


def measure(path):
    """Prints the rows of one environment, a JSON list of dicts, for the images in an .npz file."""
    import scipy

    with np.load(path) as file:
        sides = file["real"], file["generated"]
    weights = np.random.default_rng(0).normal(0, np.sqrt(2 / 784), (784, 2048))
    kinds = {name: (DRAWS, lambda x, scale=scale: scale * x) for name, scale in SCALES.items()}
    kinds[LAYER] = {64: LAYER_DRAWS}, lambda x: np.maximum(x / 255 @ weights, 0)
    rows = []
    if np.lib.NumpyVersion(scipy.__version__) >= "1.13.0":
        del kinds[LAYER]  # minutes for one root of that size
    for kind, (draws, extract) in kinds.items():
        for count, draw in [(count, draw) for count, times in draws.items() for draw in range(times)]:
            random = np.random.default_rng([draw, count])
            chosen = [side[random.choice(len(side), count, replace=False)] for side in sides]
            drawn = [extract(side.reshape(count, -1).astype("float64")) for side in chosen]
            distance, imaginary = usual_distance(*drawn)
            row = {"scipy": scipy.__version__, "numpy": np.__version__, "features": kind, "images": count}
            row |= {"draw": draw, "distance": distance, "imaginary": imaginary}
            rows.append(row | {"right": right_distance(*drawn)})
    print(json.dumps(rows))


def main():
    import script

    from fmgan_tf import datasets, generation, write_whole

    parser = script.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=pathlib.Path, help="JSON file to write")
    parser.add_argument("pythons", nargs="+", help="interpreters of environments with NumPy and SciPy")
    arguments = parser.parse_args()
    dataset, generator = datasets.load(), generation.load_generator("dense-cgan")
    known = np.isin(dataset.test_labels, range(generator.classes))
    count = max(DRAWS)
    noise = generation.sample_noise(0, count, generator.latent_dim)
    made = generation.sample_images(generator, noise, np.arange(count) % generator.classes)
    rows, here = [], str(pathlib.Path(__file__).parent)
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder, "images.npz"))
        np.savez(path, real=dataset.test_images[known], generated=made)
        code = "import sys; sys.path += sys.argv[1:2]; from square_root import measure; measure(sys.argv[2])"
        for python in arguments.pythons:
            command = [python, "-c", code, here, path]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            rows += json.loads(said.splitlines()[-1])  # what stands before it are sqrtm's remarks
            print(rows[-1]["scipy"], "done", flush=True)
    command = f"python assets/make/square_root.py {arguments.output} PYTHON ..."
    record = {"command": command, "data": dataset.source, "generator": "dense-cgan", "rows": rows}
    write_whole(arguments.output, json.dumps(record, indent=1))


if __name__ == "__main__":
    import script

    script.run(main)
