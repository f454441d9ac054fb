"""The command line on squares instead of Fashion-MNIST: python tests/small.py train ..."""

import os
import sys

import numpy as np

from fmgan_tf import __main__, datasets


def squares():
    """A tiny Dataset: bright squares of random size, 200 training and 50 test images."""
    random = np.random.default_rng(0)
    images = np.zeros((250, 28, 28, 1), "uint8")
    for image in images:
        half = random.integers(3, 12)
        image[14 - half : 14 + half, 14 - half : 14 + half] = random.integers(100, 256)
    labels = np.arange(250) % 10
    parts = images[:200], labels[:200], images[200:], labels[200:]
    return datasets.Dataset(*parts, "squares made by the tests")


def two_classes():
    """Squares of two classes, enough of them for a validation score: 1,600 training and 200 test images."""
    images = np.concatenate([squares().train_images] * 8)
    parts = images, np.arange(1600) % 2, images[:200], np.arange(200) % 2
    return datasets.Dataset(*parts, "squares made by the tests")


if __name__ == "__main__":
    datasets.load = two_classes if "FMGAN_TEST_TWO_CLASSES" in os.environ else squares
    sys.exit(__main__.main())
