"""A run folder on disk: record, lock, tables, weights and models.

generator.keras         the averaged generator; loads with plain keras.models.load_model
checkpoint.weights.h5   what resuming needs: both networks, the average, both optimizers with the step
steps.csv, history.csv  the metrics at every step, and their means over every epoch with val_fid, the
                        FID-FMNIST of as many images of the average as the 5,000 kept training images
best_NNN.weights.h5     the same weights after the epoch with the lowest val_fid, of recipes that stop early
samples/                images of one fixed noise grid: epoch_NNN.png after epoch NNN, step_NNNNNN.png before
samples.png, .gif       the same as the run left them, and all of them as an animation
losses.png              the training curves
preview.png             of a dataset of one's own: what it is trained on
run.json                recipe, overrides, seed, versions, data, images/s, seconds
.lock                   held by the process that trains into the folder
"""

import contextlib
import csv
import errno
import importlib.metadata
import io
import itertools
import json
import os
import pathlib
import platform
import re
import shutil
import tempfile
import warnings

import filelock
import numpy as np

from fmgan_tf import InputError, recipes, write_whole

WRITTEN = ("generator.keras", "checkpoint.weights.h5", "steps.csv", "history.csv", "losses.png")
WRITTEN += ("samples.png", "samples.gif", "samples", "preview.png")


class RunError(InputError):
    """The run folder cannot be used as asked. The message says why and what to do."""


def writable(folder):
    """The path of a folder; if it cannot be made or written to, the OSError comes now rather than when the
    work is done. It is not made yet: work that is refused leaves nothing behind."""
    folder = pathlib.Path(folder)
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    tempfile.TemporaryFile(dir=there).close()
    return folder


def make_free(folder):
    """Makes a folder or, where that is taken, the first of folder-2, folder-3, ..., and returns its path."""
    others = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
    for candidate in itertools.chain([folder], others):
        with contextlib.suppress(FileExistsError):  # so that of two that start together each gets its own
            candidate.mkdir(parents=True)
            return candidate


@contextlib.contextmanager
def alone_in(folder):
    """Makes a folder; RunError while another process writes to it. A lock ends with its process, however it
    ends."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        other = f"Another training is writing to {folder}. Wait for it, or choose another --output."
        raise RunError(other) from None
    except OSError as error:  # of file systems that know no locks
        warnings.warn(f"{folder} cannot be locked ({error}): start no second training into it", stacklevel=3)
    try:
        yield folder
    finally:
        lock.release()


def newest(recipe=None, parent="runs"):
    """The run folder in `parent` that was changed last, of a recipe of that name or of any, pathlib.Path;
    RunError if there is none."""

    def changed(folder):  # a run that was killed early has no checkpoint yet
        paths = [folder / name for name in ("run.json", "checkpoint.weights.h5")]
        return max(path.stat().st_mtime for path in paths if path.exists())

    found = [path.parent for path in pathlib.Path(parent).glob("*/run.json")]
    if recipe:
        found = [folder for folder in found if read_record(folder)["recipe"]["name"] == recipe]
    if not found:
        what = f"run of {recipe}" if recipe else "run"
        raise RunError(f"There is no {what} in {parent}/ to go on with; name its folder with --output")
    return max(found, key=changed)


def versions():
    """Versions of what a result depends on, dict from name to str."""
    names = ("tensorflow", "keras", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def write_record(folder, record):
    """Writes run.json."""
    write_whole(folder / "run.json", json.dumps(record, indent=2))


def read_record(folder):
    """The run.json of a run folder, dict, with a recipe that recipes.from_record takes. RunError if there is
    none, or it is damaged."""
    path = pathlib.Path(folder) / "run.json"
    try:
        record = json.loads(path.read_text())
        recipes.from_record(record["recipe"])
        seed, epochs, minutes = (record[name] for name in ("seed", "epochs", "minutes"))
        if not (seed >= 0 and (epochs is None or epochs >= 1) and (minutes is None or minutes > 0)):
            raise ValueError(f"seed {seed!r}, epochs {epochs!r}, minutes {minutes!r}")
        return record
    except FileNotFoundError:
        raise RunError(f"{folder} holds no run: there is no {path.name} in it") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({error})") from None


def csv_text(rows):
    """Rows as text of a CSV file; floats get nine digits, which give back a float32 exactly."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([f"{value:.9g}" if isinstance(value, float) else value for value in row] for row in rows)
    return text.getvalue()


def write_csv(path, header, rows):
    """Writes rows under a header."""
    write_whole(path, csv_text([header, *rows]))


def append_csv(path, rows):
    """Adds rows to a file, at a cost that does not grow with the file."""
    with open(path, "a") as file:
        file.write(csv_text(rows))


def read_csv(path, count=None):
    """A table of numbers as (header, float64 (rows, columns)), its first `count` rows if given, whatever
    comes after them. OSError or ValueError if there are fewer, not numbered 1, 2, ..., or damaged."""
    with open(path, newline="") as file:
        lines = list(itertools.islice(file, None if count is None else count + 1))
    header, *rows = csv.reader(lines)
    table = np.array(rows, "float64").reshape(len(rows), len(header))
    if count is not None and len(table) < count:
        raise ValueError(f"its checkpoint is at {header[0]} {count}, {path.name} ends at {len(table)}")
    if not np.array_equal(table[:, 0], np.arange(1, len(table) + 1)):
        raise ValueError(f"{path} is not numbered from 1 to {len(table)}")
    return header, table


def sample_paths(folder):
    """The sample grids of a run, oldest first: before training, early steps, then epochs."""

    found = []
    for path in pathlib.Path(folder, "samples").glob("*.png"):
        if name := re.fullmatch(r"(epoch|step)_(\d+)", path.stem):
            number = int(name[2])
            found.append((number > 0, name[1] == "epoch", number, path))
    return [path for *_, path in sorted(found)]


def save(path, save_to, numbers):
    """Lets save_to(path) write a file of so many float32 whole or not at all; OSError where the disk is full,
    before HDF5 kills the process for it."""
    part = path.with_name(f".part-{path.name}")  # nobody's own file has that name; Keras goes by the end
    if shutil.disk_usage(path.parent).free < 4 * numbers + 2**20:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    try:
        save_to(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def save_weights(model, path):
    """Saves a model with its optimizers to a .weights.h5."""
    save(path, model.save_weights, 3 * model.count_params())  # with Adam's two moments


def save_model(model, path):
    """Saves a model as a .keras file."""
    save(path, model.save, model.count_params())
