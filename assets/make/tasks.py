"""Tasks that can be marked by a program, at least one for each notebook: what classroom.py puts into them.

A blank is `...`. The lines of a check are assertions on what the student has defined; they may use nothing
that the blank's code does not define or import.
"""

from typing import NamedTuple


class Task(NamedTuple):
    """What is asked, the code to complete, the code that is right, and assertions that tell them apart."""

    text: str
    blank: str
    solution: str
    check: str


TASKS = {
    "00": Task(
        "`GradientTape` differentiates what was computed under it. Find the slope of $x^3$ at $x = 2$.",
        """
import tensorflow as tf

x = tf.Variable(2.0)
with tf.GradientTape() as tape:
    y = ...
slope = ...
""",
        """
import tensorflow as tf

x = tf.Variable(2.0)
with tf.GradientTape() as tape:
    y = x**3
slope = tape.gradient(y, x)
""",
        """
assert abs(float(slope) - 12) < 1e-4
""",
    ),
    "01": Task(
        "Scale bytes, uint8 in [0, 255], to [-1, 1], and write the exact inverse.",
        """
import numpy as np


def scale(images):
    return ...


def unscale(images):
    return ...
""",
        """
import numpy as np


def scale(images):
    return images.astype("float32") / 127.5 - 1


def unscale(images):
    return np.rint((images + 1) * 127.5).astype("uint8")
""",
        """
assert np.allclose(scale(np.array([0, 255], "uint8")), [-1, 1])
assert unscale(scale(np.arange(256, dtype="uint8"))).dtype == np.uint8
assert (unscale(scale(np.arange(256, dtype="uint8"))) == np.arange(256)).all()
""",
    ),
    "02": Task(
        "A transposed convolution with 32 filters, kernel 4 and stride 2 is applied to 64 maps of 7 x 7, "
        "with padding 'same' and without a bias. Give the side of its output "
        "and the number of its parameters.",
        """
side = ...
parameters = ...
""",
        """
side = 7 * 2
parameters = 4 * 4 * 64 * 32
""",
        """
assert side == 14
assert parameters == 32768
""",
    ),
    "03": Task(
        "Real points have density $p$, generated ones $q$. Write the probability that the best discriminator "
        "gives, and the generator's non-saturating loss where it gives $d$.",
        """
import math


def best(p, q):
    return ...


def generator_loss(d):
    return ...
""",
        """
import math


def best(p, q):
    return p / (p + q)


def generator_loss(d):
    return -math.log(d)
""",
        """
assert abs(best(1.0, 1.0) - 0.5) < 1e-9
assert abs(best(3.0, 1.0) - 0.75) < 1e-9
assert abs(generator_loss(0.5) - math.log(2)) < 1e-9
""",
    ),
    "04": Task(
        "An embedding is a product with one-hot vectors. Write it without looking rows up.",
        """
import numpy as np


def embed(table, labels):
    one_hot = ...
    return one_hot @ table
""",
        """
import numpy as np


def embed(table, labels):
    one_hot = np.eye(len(table))[labels]
    return one_hot @ table
""",
        """
assert np.allclose(embed(np.arange(6.0).reshape(3, 2), np.array([2, 0])), [[4, 5], [0, 1]])
""",
    ),
    "04b": Task(
        "Given `val_fid` of every epoch, return (best epoch, epoch after which a training with this patience "
        "stops), both counted from 1. It stops when so many epochs in a row have brought no lower value.",
        """
def stop(val_fids, patience):
    best, best_epoch = float("inf"), 0
    for epoch, value in enumerate(val_fids, 1):
        ...
    return best_epoch, len(val_fids)
""",
        """
def stop(val_fids, patience):
    best, best_epoch = float("inf"), 0
    for epoch, value in enumerate(val_fids, 1):
        if value < best:
            best, best_epoch = value, epoch
        elif epoch - best_epoch == patience:
            return best_epoch, epoch
    return best_epoch, len(val_fids)
""",
        """
assert stop([5, 4, 6, 7, 3], 2) == (2, 4)
assert stop([5, 4, 6, 3, 3], 2) == (4, 5)
assert stop([3, 2, 1], 2) == (3, 3)
""",
    ),
    "05": Task(
        "Write the Fréchet distance of two normal distributions whose covariances are diagonal: means and "
        "standard deviations are arrays of one number for every dimension.",
        """
import numpy as np


def distance(mean_1, deviation_1, mean_2, deviation_2):
    return ...
""",
        """
import numpy as np


def distance(mean_1, deviation_1, mean_2, deviation_2):
    return ((mean_1 - mean_2) ** 2).sum() + ((deviation_1 - deviation_2) ** 2).sum()
""",
        """
one, two = np.array([1.0, 2.0]), np.array([3.0, 5.0])
assert abs(distance(one, one, one, one)) < 1e-9
assert abs(distance(one, one, two, one) - 13) < 1e-9
assert abs(distance(one, one, one, two) - 13) < 1e-9
""",
    ),
    "06": Task(
        "For every generated image give the number of the nearest training image, by the sum of squared "
        "differences of pixels.",
        """
import numpy as np


def nearest(generated, training):
    differences = ...
    return differences.argmin(axis=1)
""",
        """
import numpy as np


def nearest(generated, training):
    differences = ((generated[:, None] - training[None]) ** 2).sum(axis=(2, 3, 4))
    return differences.argmin(axis=1)
""",
        """
training = np.random.default_rng(0).normal(size=(5, 4, 4, 1))
assert nearest(training[[3, 1]] + 0.01, training).tolist() == [3, 1]
""",
    ),
    "07": Task(
        "Five changes were tested. Holm's method: sort the p-values. The smallest must be at most "
        "$\\alpha / 5$, the next at most $\\alpha / 4$, and so on; from the first that is not, none "
        "counts as evidence. Return a list of bool in the order given.",
        """
def holm(p_values, alpha=0.05):
    kept = [False] * len(p_values)
    for place, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        ...
    return kept
""",
        """
def holm(p_values, alpha=0.05):
    kept = [False] * len(p_values)
    for place, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[number] > alpha / (len(p_values) - place):
            break
        kept[number] = True
    return kept
""",
        """
assert holm([0.04, 0.001, 0.2, 0.012, 0.5]) == [False, True, False, True, False]
assert holm([0.02, 0.03]) == [True, True]
assert holm([0.03, 0.04]) == [False, False]
""",
    ),
    "08": Task(
        "Noise and images are paired, and a line leads from each to its partner. Return the points of all "
        "lines at the times t, and the velocities that a network should learn there.",
        """
import numpy as np


def lesson(noise, images, t):
    points = ...
    velocities = ...
    return points, velocities
""",
        """
import numpy as np


def lesson(noise, images, t):
    points = (1 - t) * noise + t * images
    velocities = images - noise
    return points, velocities
""",
        """
noise, images = np.zeros((2, 3)), np.full((2, 3), 4.0)
points, velocities = lesson(noise, images, np.array([[0.0], [0.25]]))
assert np.allclose(points, [[0] * 3, [1] * 3]) and np.allclose(velocities, 4)
""",
    ),
    "09": Task(
        "Invert an image with a white background, and only such a one: where the median of its border is "
        "above 127.",
        """
import numpy as np


def on_black(image):
    border = ...
    return ...
""",
        """
import numpy as np


def on_black(image):
    border = np.concatenate([image[[0, -1]].ravel(), image[:, [0, -1]].ravel()])
    return 255 - image if np.median(border) > 127 else image
""",
        """
dark = np.zeros((8, 8), "uint8")
dark[2:6, 2:6] = 200
assert (on_black(dark) == dark).all()
assert (on_black(255 - dark) == dark).all()
""",
    ),
}
