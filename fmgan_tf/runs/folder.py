"""A run folder on disk: record, lock, tables, weights and models, each written whole or not at all.

generator.keras         the averaged generator; loads with plain keras.models.load_model
discriminator.keras     image -> probability that it is real; likewise
checkpoint.weights.h5   what resuming needs: both networks, the average, both optimizers with the step
steps.csv, history.csv  losses and probabilities at every step, and their means over every epoch with val_fid,
                        the FID-FMNIST of as many images of the average as the 5,000 kept training images
best_NNN.weights.h5     the average after the epoch with the lowest val_fid, with recipes that stop early
samples/                images of one fixed noise grid: epoch_NNN.png after epoch NNN, step_NNNNNN.png before
samples.png, .gif       the same as the run left them, and all of them as an animation
losses.png              the training curves
run.json                recipe, overrides, seed, versions, data source, images/s, seconds
.lock                   held by the process that trains into the folder
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
    """Makes a folder; if it cannot be written to, the OSError comes now rather than when the work is done."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
    return folder


@contextlib.contextmanager
def alone_in(folder):
    """RunError while another process writes to the folder. A lock ends with its process, however it ends."""
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = f"Another training is writing to {folder}. Wait for it, or choose another --output."
            raise RunError(other) from None
        except OSError as error:
            cause = f"{folder} cannot be locked ({error.strerror}): its file system may know no locks"
            raise RunError(f"{cause}. Choose another --output.") from error
        yield


def newest(parent="runs"):
    """The run folder in `parent` that was changed last, pathlib.Path; RunError if there is none."""

    def changed(folder):  # a run that was killed early has no checkpoint yet
        paths = [folder / name for name in ("run.json", "checkpoint.weights.h5")]
        return max(path.stat().st_mtime for path in paths if path.exists())

    folders = [path.parent for path in pathlib.Path(parent).glob("*/run.json")]
    folders = [folder for folder in folders if not (folder / "classifier.keras").exists()]
    if not folders:
        raise RunError(f"There is no run in {parent}/ to go on with; name its folder with --output")
    return max(folders, key=changed)


def versions():
    """Versions of what a result depends on, dict from name to str."""
    names = ("tensorflow", "keras", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def write_record(folder, record):
    """Writes run.json."""
    plots.write_whole(folder / "run.json", json.dumps(record, indent=2))


def read_record(folder):
    """The run.json of a run folder, dict, with a recipe that recipes.from_record takes. RunError if there is
    none, or it is damaged, or a classifier's."""
    path = pathlib.Path(folder) / "run.json"
    try:
        record = json.loads(path.read_text())
        if record["recipe"]["name"] == "classifier":
            raise RunError(f"{folder} holds a classifier, which cannot be resumed: train it anew elsewhere")
        recipes.from_record(record["recipe"])
        seed, epochs, minutes = (record[name] for name in ("seed", "epochs", "minutes"))
        valid = type(seed) is int and seed >= 0
        valid &= epochs is None or type(epochs) is int and epochs >= 1
        if not valid or not (minutes is None or type(minutes) in (int, float) and 0 < minutes < math.inf):
            raise ValueError(f"seed {seed!r}, epochs {epochs!r}, minutes {minutes!r}")
        return record
    except FileNotFoundError:
        raise RunError(f"{folder} holds no run: there is no {path.name} in it") from None
    except RunError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error})") from None


def write_csv(path, header, rows):
    """Writes rows under a header; floats get nine digits, which give back a float32 exactly."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{value:.9g}" if isinstance(value, float) else value for value in row] for row in rows)
    plots.write_whole(path, text.getvalue())


def read_csv(path):
    """A CSV file of numbers as a dict from column to float64 (rows,); ValueError if it is something else."""
    with open(path, newline="") as file:
        try:
            header, *rows = csv.reader(file)
        except csv.Error as error:
            raise ValueError(f"{path}: {error}") from error
    table = np.array(rows, "float64").reshape(len(rows), len(header))
    return dict(zip(header, table.T, strict=True))


def numbered(path, header, count):
    """The first `count` rows of steps.csv or history.csv, lists of floats. OSError or ValueError if there are
    fewer, they are not numbered 1, 2, ..., or the columns are others."""
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


def save_weights(model, path):
    """Saves a model with its optimizers to a .weights.h5; OSError where the disk is full."""
    with _whole(model, path) as part:
        model.save_weights(part)


def save_model(model, path):
    """Saves a model as a .keras file that older versions of Keras load too; OSError where the disk is full.
    Keras writes every argument of every layer and initializer, and refuses those that it does not know: this
    leaves out what has the value that it would have anyway."""
    with _whole(model, path) as part:
        model.save(part)
        change_part(part, "config.json", lambda text: json.dumps(without_defaults(json.loads(text))))


def change_part(path, name, change):
    """Replaces one file in a zip file, such as a .keras file, by what `change` makes of its bytes."""
    with zipfile.ZipFile(path) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    parts[name] = change(parts[name])
    with zipfile.ZipFile(path, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)


@contextlib.contextmanager
def _whole(model, path):
    """Another name to write a model to; it gets its own when it is whole, and is removed if it never is."""
    part = path.with_name("part" + "".join(path.suffixes))
    numbers = sum(int(np.prod(variable.shape)) for variable in model.variables)
    try:
        # HDF5 kills the process where the disk is full, so plain bytes try it first: with Adam's two moments
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
