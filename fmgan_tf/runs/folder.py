"""A run folder on disk: record, lock, tables, weights and models, each written whole or not at all.

A run folder holds
    generator.keras        the averaged generator; loads with plain keras.models.load_model
    discriminator.keras    image -> probability that it is real; likewise
    checkpoint.weights.h5  everything that resuming needs: both networks, the average, both optimizers and
                           with them the step
    steps.csv, history.csv losses and probabilities at every step, and their means over every epoch with
                           val_fid: the FID-FMNIST of as many images of the averaged generator against 5,000
                               training images
    best_NNN.weights.h5    the average after the epoch with the lowest val_fid, with recipes that stop early:
                           it becomes generator.keras
    samples/               images from one fixed noise grid: epoch_NNN.png after epoch NNN, step_NNNNNN.png
    before samples.png            the same, as the run left them
    samples.gif            all of them as an animation
    losses.png             the training curves
    run.json               recipe, overrides, seed, versions, data source, images/s, seconds
    .lock                  held by the process that trains into the folder
"""

import contextlib
import copy
import csv
import fcntl
import importlib.metadata
import inspect
import io
import json
import math
import os
import pathlib
import platform
import sys
import tempfile
import zipfile

import numpy as np

from fmgan_tf import InputError, plots, recipes

COLUMNS = ("discriminator_loss", "generator_loss", "real_probability", "generated_probability")
STEPS_HEADER = ("step", "seconds", *COLUMNS)
HISTORY_HEADER = ("epoch", *COLUMNS, "val_fid")


class RunError(InputError):
    """The run folder cannot be used as asked. The message says why and what to do."""


def writable(folder):
    """Makes a folder, and finds out now, rather than when the work is done, whether it can be written to.

    Args:
        folder: path.
    Returns:
        pathlib.Path.
    Raises:
        OSError: it cannot be made or written to.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
    return folder


@contextlib.contextmanager
def alone_in(folder):
    """Refuses the folder while another process writes to it. A lock does not outlive its process, however it
    ends.

    Args:
        folder: pathlib.Path, exists.
    Raises:
        RunError: another process holds it, or its file system knows no locks.
    """
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"Another training is writing to {folder}. Wait for it, or choose another --output."
            ) from None
        except OSError as error:
            raise RunError(
                f"{folder} cannot be locked ({error.strerror}): its file system may know no locks. Choose "
                "another "
                "--output."
            ) from error
        yield


def newest(parent="runs"):
    """The run folder in `parent` that was changed last, pathlib.Path.

    Raises:
        RunError: there is none.
    """

    def changed(folder):  # a run that was killed early has no checkpoint yet
        paths = [folder / name for name in ("run.json", "checkpoint.weights.h5")]
        return max(path.stat().st_mtime for path in paths if path.exists())

    folders = [path.parent for path in pathlib.Path(parent).glob("*/run.json")]
    folders = [folder for folder in folders if not (folder / "classifier.keras").exists()]
    if not folders:
        raise RunError(f"There is no run in {parent}/ to go on with; name its folder with --output")
    return max(folders, key=changed)


# The record


def versions():
    """Versions of what a result depends on, for the record: dict from name to str."""
    names = ("tensorflow", "keras", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def write_record(folder, record):
    """Writes run.json."""
    plots.write_whole(folder / "run.json", json.dumps(record, indent=2))


def read_record(folder):
    """The content of a run folder's run.json.

    Args:
        folder: path.
    Returns:
        dict; its "recipe" is one that recipes.from_record takes.
    Raises:
        RunError: there is none, it is damaged, or it is a classifier's.
    """
    path = pathlib.Path(folder) / "run.json"
    try:
        record = json.loads(path.read_text())
        if record["recipe"]["name"] == "classifier":
            raise RunError(f"{folder} holds a classifier, which cannot be resumed: train it anew elsewhere")
        recipes.from_record(record["recipe"])
        seed, epochs, minutes = (record[name] for name in ("seed", "epochs", "minutes"))
        if (
            type(seed) is not int
            or seed < 0
            or not (epochs is None or type(epochs) is int and epochs >= 1)
            or not (minutes is None or type(minutes) in (int, float) and 0 < minutes < math.inf)
        ):
            raise ValueError(f"seed {seed!r}, epochs {epochs!r}, minutes {minutes!r}")
        return record
    except FileNotFoundError:
        raise RunError(f"{folder} holds no run: there is no {path.name} in it") from None
    except RunError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error})") from None


# Tables


def write_csv(path, header, rows):
    """Writes a table.

    Args:
        path: where to.
        header: names of the columns.
        rows: iterable of rows, each with a value for every column; floats are written with nine digits, which
            give back a float32 exactly.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{value:.9g}" if isinstance(value, float) else value for value in row] for row in rows)
    plots.write_whole(path, text.getvalue())


def read_csv(path):
    """Reads a table of numbers.

    Args:
        path: of a CSV file with a header.
    Returns:
        dict from column to float64 array (rows,).
    Raises:
        OSError: it cannot be read.
        ValueError: it is something else.
    """
    with open(path, newline="") as file:
        try:
            header, *rows = csv.reader(file)
        except csv.Error as error:
            raise ValueError(f"{path}: {error}") from error
    table = np.array(rows, "float64").reshape(len(rows), len(header))
    return dict(zip(header, table.T, strict=True))


def numbered(path, header, count):
    """The first `count` rows of steps.csv or history.csv, lists of floats.

    Raises:
        OSError, ValueError: there are fewer, they are not numbered 1, 2, ..., or the columns are others.
    """
    table = read_csv(path)
    if tuple(table) != header:
        raise ValueError(f"{path} has the columns {', '.join(table)}, expected {', '.join(header)}")
    rows = np.array(list(table.values())).T[:count]
    if len(rows) < count:
        raise ValueError(f"its checkpoint is at {header[0]} {count}, {path.name} ends at {len(rows)}")
    if not np.array_equal(rows[:, 0], np.arange(1, count + 1)):
        raise ValueError(f"{path} is not numbered from 1 to {count}")
    return rows.tolist()


def sample_paths(folder):
    """The sample grids of a run, oldest first: before training, early steps, then epochs."""
    samples = pathlib.Path(folder) / "samples"
    first = samples / "epoch_000.png"
    epochs = sorted(path for path in samples.glob("epoch_*.png") if path != first)
    return [path for path in (first,) if path.exists()] + sorted(samples.glob("step_*.png")) + epochs


# Weights and models


def save_weights(model, path):
    """Saves the weights of a model, and of its optimizers, whole or not at all.

    Args:
        model: keras.Model.
        path: pathlib.Path, ends in .weights.h5.
    Raises:
        OSError: it cannot be written, the disk is full.
    """
    with _whole(model, path) as part:
        model.save_weights(part)


def save_model(model, path):
    """Saves a model as a .keras file that older versions of Keras load too, whole or not at all.

    Keras writes every argument of every layer and initializer, and refuses those that it does not know. This
    leaves out what has the value that it would have anyway.

    Args:
        model: keras.Model.
        path: pathlib.Path, ends in .keras.
    Raises:
        OSError: it cannot be written, the disk is full.
    """
    with _whole(model, path) as part:
        model.save(part)
        with zipfile.ZipFile(part) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        parts["config.json"] = json.dumps(without_defaults(json.loads(parts["config.json"])))
        with zipfile.ZipFile(part, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)


@contextlib.contextmanager
def _whole(model, path):
    """Another name to write a model to; it gets its own when it is whole, and is removed if it never is."""
    part = path.with_name("part" + "".join(path.suffixes))
    numbers = sum(int(np.prod(variable.shape)) for variable in model.variables)
    try:
        # HDF5 kills the process where the disk is full, so plain bytes try it first: 4 for a number, with two
        # moments of Adam
        part.write_bytes(bytes(3 * 4 * numbers + 2**20))
        part.unlink()
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def without_defaults(value):
    """Part of a model's config.json without the arguments that have their default values."""
    if isinstance(value, list):
        return [without_defaults(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: without_defaults(item) for key, item in value.items()}
    kind = getattr(sys.modules.get(value.get("module")), value.get("class_name") or "", None)
    config = value.get("config")
    if hasattr(kind, "from_config") and isinstance(config, dict):
        known = inspect.signature(kind.__init__).parameters
        short = {key: item for key, item in config.items() if key not in known or item != known[key].default}
        if short != config and _same_object(kind, short, config):
            value["config"] = short
    return value


def _same_object(kind, *configs):
    """Whether the configs make equal objects. Some classes insist on arguments that have defaults."""
    try:
        first, second = (kind.from_config(copy.deepcopy(config)).get_config() for config in configs)
        return first == second
    except Exception:  # whatever a class may raise for what it misses
        return False
