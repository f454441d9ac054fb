"""Train a recipe into a run folder that can be resumed.

A run folder holds
    generator.keras        the averaged generator; loads with plain keras.models.load_model
    discriminator.keras    image -> probability that it is real; likewise
    checkpoint.weights.h5  everything that resuming needs: both networks, the average, both optimizers and with them the step
    steps.csv, history.csv losses and probabilities at every step, and their means over every epoch with val_fid: the
                           FID-FMNIST of as many images of the averaged generator against 5,000 training images
    best_NNN.weights.h5    the average after the epoch with the lowest val_fid, with recipes that stop early: it becomes
                           generator.keras
    samples/               images from one fixed noise grid: epoch_NNN.png after epoch NNN, step_NNNNNN.png before epoch 1
    samples.png            the same, as the run left them
    samples.gif            all of them as an animation
    losses.png             the training curves
    run.json               recipe, overrides, seed, versions, data source, images/s, seconds
    .lock                  held by the process that trains into the folder
"""

import contextlib
import copy
import csv
import dataclasses
import fcntl
import importlib.metadata
import inspect
import json
import math
import os
import pathlib
import platform
import shutil
import signal
import sys
import tempfile
import threading
import time
import zipfile

import imageio.v3 as imageio
import keras
import numpy as np
import tensorflow as tf

from fmgan_tf import Diverged, InputError, data, distribute, features, gan, losses, models, plots, recipes

COLUMNS = ("discriminator_loss", "generator_loss", "real_probability", "generated_probability")
STEPS_HEADER = ("step", "seconds", *COLUMNS)
HISTORY_HEADER = ("epoch", *COLUMNS, "val_fid")
EARLY_SAMPLES = (50, 100, 200, 400)  # steps of the first epoch after which samples are drawn as well
CHECKPOINT_SECONDS = 60  # a crash loses at most this much, or one epoch


class RunError(InputError):
    """The run folder cannot be used as asked. The message says why and what to do."""


def build_gan(recipe, seed=0, builders=models):
    """Builds and compiles the networks of a recipe.

    Args:
        recipe: recipes.Recipe.
        seed: int, of the initial weights and the noise.
        builders: the module that its builders are in.

    Returns:
        gan.GAN, or gan.ConditionalGAN for a conditional recipe, compiled; in a strategy's scope one that shares the work,
        see distribute.shared.
    """
    keras.utils.set_random_seed(seed)
    sizes, settings = {"image_size": recipe.image_size}, {"ema_decay": recipe.ema_decay, "seed": seed}
    if recipe.conditional:
        sizes |= {"classes": recipe.classes}
        settings |= {name: getattr(recipe, name) for name in ("shift", "label_weight", "label_decay")}
    kind, optimizer = gan.ConditionalGAN if recipe.conditional else gan.GAN, keras.optimizers.Adam
    if tf.distribute.has_strategy():
        kind, optimizer = distribute.shared(kind, recipe.batch_size), distribute.averaging(optimizer)
    model = kind(
        getattr(builders, recipe.generator)(latent_dim=recipe.latent_dim, **sizes),
        getattr(builders, recipe.discriminator)(**sizes),
        **settings,
    )
    model.compile(
        optimizer(recipe.generator_learning_rate, recipe.beta_1, recipe.beta_2),
        optimizer(recipe.discriminator_learning_rate, recipe.beta_1, recipe.beta_2),
        losses.LOSSES[recipe.loss],
    )
    return model


def cool(model, recipe, progress):
    """Sets the learning rates of a model: those of its recipe until its cooldown begins, then falling linearly to zero.

    Args:
        model: gan.GAN, compiled.
        recipe: recipes.Recipe.
        progress: float in [0, 1], how much of the run is over.
    """
    if recipe.cooldown:
        rate = min(1.0, (1.0 - progress) / recipe.cooldown)
        model.generator_optimizer.learning_rate = recipe.generator_learning_rate * rate
        model.discriminator_optimizer.learning_rate = recipe.discriminator_learning_rate * rate


def train(
    recipe,
    dataset,
    output,
    seed=0,
    epochs=None,
    minutes=None,
    overrides=None,
    resume=False,
    verbose=True,
    deterministic=False,
    strategy=None,
):
    """Trains a recipe on Fashion-MNIST's training images.

    Args:
        recipe: recipes.Recipe, with the overrides applied; ignored with resume.
        dataset: data.FashionMNIST.
        output: path of the run folder, made if need be.
        seed: int, of weights, noise, order of the images and the sample grid; ignored with resume.
        epochs, minutes: how long, the schedules fitted to it; at most one. Without both, the recipe's minutes; with
            resume, what the run was to last. A resumed run counts what it has done already; one that is through stays as it is.
        overrides: dict of the settings that were changed, for the record.
        resume: go on with the run in the folder.
        verbose: print progress.
        deterministic: make TensorFlow add up in the same order every time, from here on in this process: the same seed,
            epochs, machine, thread count and versions then give equal bits, and so does a run that was interrupted.
            Somewhat slower; ignored with resume.
        strategy: see distribute.build_strategy; one device if None. The batch is split among its replicas. Of several
            workers the first keeps the run; with resume all of them must see its folder.

    Returns:
        dict, the content of run.json.

    Raises:
        RunError: the folder holds a run and resume is False, or holds none, or a damaged one, or one that was trained on the
            stand-in and now finds the real dataset (or the reverse), and resume is True; or another process trains into it,
            or it cannot be written to; or the strategy does not fit: replicas that the batch cannot be split among, workers whose clocks
            would have to agree (minutes), a worker that is gone.
        Diverged: a loss became NaN; the last good state is kept.
    """
    output = pathlib.Path(output)
    strategy = strategy or tf.distribute.get_strategy()
    if resume:
        record = read_record(output)
        recipe = recipes.from_record(record["recipe"])
        if not (hasattr(models, recipe.generator) and hasattr(models, recipe.discriminator)):
            raise RunError(f"{output} cannot be resumed: no {recipe.generator} and {recipe.discriminator} in models.py")
        if (record.get("data") == data.STAND_IN) != dataset.is_stand_in:
            raise RunError(
                f"{output} was trained on {record.get('data')}, and this is {dataset.source}: what comes out would be of neither. "
                "Train anew, or mend the dataset first"
            )
        seed = record["seed"]
        deterministic = record.get("deterministic", False)
        if epochs is None and minutes is None:
            epochs, minutes = record["epochs"], record["minutes"]
    else:
        if (output / "run.json").exists() and distribute.is_chief(strategy):
            raise RunError(
                f"{output} holds a run already. Go on with it (--resume), or choose another folder (--output)."
            )
        record = {"recipe": dataclasses.asdict(recipe), "overrides": overrides or {}, "seed": seed}
        record["deterministic"] = deterministic
    if epochs is None and minutes is None:
        minutes = recipe.minutes
    replicas = strategy.num_replicas_in_sync
    if recipe.batch_size % replicas:
        raise RunError(f"batch_size is {recipe.batch_size}, expected a multiple of {replicas}, the number of replicas")
    if distribute.is_multiworker(strategy) and minutes is not None:
        raise RunError(f"minutes is {minutes:g}, expected epochs: the clocks of several workers never agree (--epochs)")
    record["replicas"] = replicas
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    output.mkdir(parents=True, exist_ok=True)
    with _own_folder(output, strategy, resume) as folder, alone_in(folder):
        try:
            return _train(recipe, dataset, folder, seed, epochs, minutes, record, resume, verbose, strategy)
        except OSError as error:
            cause = os.strerror(error.errno) if error.errno else error
            raise RunError(
                f"Writing to {output} failed: {cause}. It keeps its newest checkpoint; when the cause is mended, go on with "
                f"--resume --output {output}"
            ) from error
        except tf.errors.OpError as error:
            if not distribute.is_multiworker(strategy):
                raise
            raise RunError(
                f"Another worker is gone or cannot be reached ({error.message.splitlines()[0]}). {output} keeps its newest "
                "checkpoint; start all workers again with --resume"
            ) from error


@contextlib.contextmanager
def _own_folder(folder, strategy, resume):
    """The run folder for whoever keeps the run. Every other worker does the same in a temporary one: saving a model is
    something that all workers take part in."""
    if distribute.is_chief(strategy):
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        if resume:
            shutil.copytree(folder, temporary, dirs_exist_ok=True)
        yield pathlib.Path(temporary)


@contextlib.contextmanager
def alone_in(folder):
    """Refuses the folder while another process writes to it. A lock does not outlive its process, however that ends.

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
                f"{folder} cannot be locked ({error.strerror}): its file system may know no locks. Choose another --output."
            ) from error
        yield


def _train(recipe, dataset, output, seed, epochs, minutes, record, resume, verbose, strategy):
    record_path = output / "run.json"
    # The test images are kept for the final figure: whoever picks an epoch or a recipe by val_fid has not seen them. With
    # all ten classes the validation images are trained on too: a generator which memorises looks good here; `evaluate` tells.
    dataset, *validation = data.parts(dataset, recipe.classes)
    scale, _ = data.RANGES[recipe.pixels]
    images = scale(data.resize(dataset.train_images, recipe.image_size))
    validation[0] = scale(data.resize(validation[0], recipe.image_size))
    if recipe.batch_size > len(images):
        raise RunError(f"batch_size is {recipe.batch_size}, expected at most {len(images)}, the number of images")
    steps_per_epoch = recipe.steps_per_epoch or len(images) // recipe.batch_size
    with strategy.scope():
        model = build_gan(recipe, seed)
        extractor, dimensions = features.classifier_extractor()
        if recipe.pixels == "sigmoid":  # the classifier was trained on [-1, 1]
            model.measure_fid(lambda images: extractor(2.0 * images - 1.0), dimensions)
        else:
            model.measure_fid(extractor, dimensions)
    if len(validation[0]) <= dimensions:  # too few for a distance: val_fid stays empty (NaN)
        validation = None
    elif not recipe.conditional:
        validation = validation[0]
    run = _Run(output, recipe, seed, steps_per_epoch, epochs, minutes, validation, verbose)
    (output / "samples").mkdir(parents=True, exist_ok=True)
    through = record.get("status") == "complete"
    record |= {
        "epochs": epochs,
        "minutes": minutes,
        "status": "running",
        "steps_per_epoch": steps_per_epoch,
        "data": dataset.source,
        "versions": versions(),
        "cores": os.cpu_count(),
        "parameters": {
            "generator": model.generator.count_params(),
            "discriminator": model.discriminator.count_params(),
        },
    }
    if resume:
        run.restore(model)
        if through and not run.more():
            if verbose:
                print(f"Nothing is left to do after {run.step:,} steps; --minutes or --epochs beyond that makes it longer.")
            return read_record(output)
    plots.write_whole(record_path, json.dumps(record, indent=2))

    def fit(last_epoch, steps):
        labels = dataset.train_labels if recipe.conditional else None
        model.fit(
            distribute.split(
                data.batches(images, recipe.batch_size, seed, run.step, labels), recipe.batch_size, strategy
            ),
            initial_epoch=run.step // steps_per_epoch,
            epochs=last_epoch,
            steps_per_epoch=steps,
            shuffle=False,
            verbose=0,
            callbacks=[run],
        )

    first_step = run.step
    start = time.perf_counter()
    with run.stopping_on_interrupt():
        left = -run.step % steps_per_epoch
        if left and run.more():  # a run that was stopped within an epoch finishes that one first
            fit(run.step // steps_per_epoch + 1, left)
        if run.more():
            fit(epochs if epochs is not None else sys.maxsize, steps_per_epoch)
    trained = time.perf_counter() - start - run.overhead

    if run.status == "diverged":
        diverged_at, cause = run.step, run.cause
        run.restore(model)
    else:
        run.save_checkpoint(model)
        if run.step % steps_per_epoch and run.status == "running":
            run.measure(model)
    if recipe.patience and run.best():
        run.restore_best(model)
    save_model(model.averaged_generator, output / "generator.keras")
    save_model(models.with_probability(model.discriminator), output / "discriminator.keras")
    run.draw(model)
    record |= {
        "status": "complete" if run.status == "running" else run.status,
        "steps": run.step,
        "seconds": round(run.seconds, 1),
        "images_per_second": record.get("images_per_second"),
        "val_fid": run.val_fid if math.isfinite(run.val_fid) else None,
    }
    if run.step > first_step:
        record["images_per_second"] = round((run.step - first_step) * recipe.batch_size / max(trained, 1e-9))
    elif record["images_per_second"] is None:  # killed after its last step, before it could say how fast it was
        record["images_per_second"] = round(run.step * recipe.batch_size / max(run.earlier, 1e-9))
    if recipe.patience and run.best():
        record |= {"best_epoch": run.best()[0], "val_fid": run.best()[-1]}
    plots.write_whole(record_path, json.dumps(record, indent=2))
    if run.status == "diverged":
        raise Diverged(
            f"{cause} at step {diverged_at}. {output} is back at step {run.step}, its last good state. "
            "A lower learning rate usually mends it: --set learning_rate=1e-4"
        )
    return record


def read_record(folder):
    """The content of a run folder's run.json.

    Raises:
        RunError: there is none, it is damaged, or it is a classifier's.
    """
    path = pathlib.Path(folder) / "run.json"
    try:
        record = json.loads(path.read_text())
        if record["recipe"]["name"] == recipes.CLASSIFIER.name:
            raise RunError(f"{folder} holds a classifier, which cannot be resumed: train it anew in another folder")
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


def read_csv(path):
    """A CSV file of numbers with a header, as written here.

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


def _numbered(path, header, count):
    """The first rows of steps.csv or history.csv, as floats.

    Raises:
        OSError, ValueError: there are fewer than count, they are not numbered 1, 2, …, or the columns are others.
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


def versions():
    """Versions of what a result depends on, for the record."""
    names = ("tensorflow", "keras", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def sample_noise(seed, count, latent_dim):
    """Noise that is the same on every machine.

    Args:
        seed: int.
        count, latent_dim: int.

    Returns:
        float32 (count, latent_dim), standard normal.
    """
    return np.random.default_rng(seed).standard_normal((count, latent_dim), "float32")


def sample_grid(recipe, seed):
    """The fixed noise of the sample grids, with labels for a conditional recipe: one row for every class, every column
    the same noise.

    Args:
        recipe: recipes.Recipe.
        seed: int.

    Returns:
        (inputs, columns): what GAN.generate takes, and how many images stand in a row.
    """
    if not recipe.conditional:
        return sample_noise(seed, 64, recipe.latent_dim), 8
    columns = max(8, 32 // recipe.classes)
    noise = np.tile(sample_noise(seed, columns, recipe.latent_dim), (recipe.classes, 1))
    return [noise, np.repeat(np.arange(recipe.classes), columns)], columns


class _Run(keras.callbacks.Callback):
    """Everything that happens around the train step: records, schedule, samples, checkpoints, progress."""

    def __init__(self, output, recipe, seed, steps_per_epoch, epochs, minutes, validation, verbose):
        super().__init__()
        self.validation = validation  # float32 images for val_fid, or a list of them and their labels, or None
        self.val_fid = math.nan  # the newest
        self.output, self.recipe, self.verbose = output, recipe, verbose
        self.steps_per_epoch, self.epochs, self.minutes = steps_per_epoch, epochs, minutes
        self.samples, self.columns = sample_grid(recipe, seed)
        self.to_pixels = data.RANGES[recipe.pixels][1]
        self.rows = []  # of steps.csv: step, seconds, then COLUMNS
        self.history = []  # of history.csv: epoch, then COLUMNS, then val_fid
        self.status = "running"
        self.interrupted = False
        self.overhead = 0.0  # seconds spent on anything but train steps
        self.earlier = 0.0  # seconds of the run before it was resumed
        self.started = None
        self.saved = self.printed = -math.inf
        self.on_terminal = sys.stdout.isatty()

    @property
    def step(self):
        return len(self.rows)

    @property
    def seconds(self):
        return self.earlier + (time.perf_counter() - self.started if self.started else 0.0)

    # What Keras calls.

    def on_train_begin(self, logs=None):
        if self.started is None:
            self.started = time.perf_counter()
            if self.step == 0:
                self.save_samples(self.model, "samples/epoch_000.png")
                self.save_checkpoint(self.model)

    def on_train_batch_begin(self, batch, logs=None):
        cool(self.model, self.recipe, self.progress())

    def on_train_batch_end(self, batch, logs=None):
        values = [float(logs[name]) for name in COLUMNS]
        self.rows.append([self.step + 1, self.seconds, *values])
        if not all(map(math.isfinite, values)):
            self.cause = next(
                f"{name} became {value}"
                for name, value in zip(COLUMNS, values, strict=True)
                if not math.isfinite(value)
            )
            self.stop("diverged")
            return
        if self.interrupted:
            self.stop("interrupted")
        if self.step < self.steps_per_epoch and self.step in EARLY_SAMPLES:
            self.save_samples(self.model, f"samples/step_{self.step:06d}.png")
        if self.minutes is not None and self.seconds >= 60 * self.minutes:
            self.model.stop_training = True
        if self.step % self.steps_per_epoch and time.perf_counter() - self.saved > CHECKPOINT_SECONDS:
            self.save_checkpoint(self.model)
        self.print_progress()

    def on_epoch_end(self, epoch, logs=None):
        if self.status == "diverged" or self.step % self.steps_per_epoch:
            return  # stopped within the epoch
        means = np.mean([row[2:] for row in self.rows[-self.steps_per_epoch :]], axis=0)
        self.measure(self.model)
        self.history.append([epoch + 1, *means, self.val_fid])
        if self.recipe.patience and self.best() is self.history[-1]:
            save_weights(self.model.averaged_generator, self.best_path())
        self.save_samples(self.model, f"samples/epoch_{epoch + 1:03d}.png")
        self.save_checkpoint(self.model)
        for path in self.output.glob("best_*.weights.h5"):  # only now that the checkpoint knows of the newest
            if path != self.best_path():
                path.unlink()
        self.print_progress(epoch_mean=means)
        if self.stopped_early():
            self.model.stop_training = True

    # What they do.

    def best(self):
        """The row of history with the lowest val_fid, or None."""
        return min((row for row in self.history if math.isfinite(row[-1])), key=lambda row: row[-1], default=None)

    def best_path(self):
        return self.output / f"best_{self.best()[0]:03d}.weights.h5"

    def restore_best(self, model):
        """Puts the best average of all epochs in the place of the newest."""
        try:
            model.averaged_generator.load_weights(self.best_path())
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{self.best_path()} is missing or damaged ({' '.join(str(error).split())[:200]})") from error

    def more(self):
        """Whether there is anything left to do."""
        return self.status == "running" and self.progress() < 1 and not self.stopped_early()

    def stopped_early(self):
        """Whether `patience` epochs went by without a lower val_fid."""
        best, patience = self.best(), self.recipe.patience
        return bool(patience and best and self.history[-1][0] - best[0] >= patience)

    def stop(self, status):
        self.status = status
        self.model.stop_training = True

    def progress(self):
        """The share of the budget that is used, 0 to 1."""
        if self.minutes is not None:
            return min(1.0, self.seconds / (60 * self.minutes))
        return min(1.0, self.step / (self.epochs * self.steps_per_epoch))

    @contextlib.contextmanager
    def stopping_on_interrupt(self):
        """Turns the first Ctrl-C into a stop after the step under way; the second one interrupts as usual."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python lets only the main thread handle signals
            return

        def handle(number, frame):
            signal.signal(signal.SIGINT, previous)
            print("\nStopping after this step; everything is saved. Ctrl-C again gives up at once.", file=sys.stderr)
            self.interrupted = True

        previous = signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def save_samples(self, model, name):
        start = time.perf_counter()
        images = self.to_pixels(model.generate(self.samples))
        sheet = plots.tile(images, self.columns, scale=2 if images.shape[1] < 64 else 1)
        plots.save_png(self.output / name, sheet)
        self.overhead += time.perf_counter() - start

    def measure(self, model):
        """val_fid: the averaged generator's FID-FMNIST, its noise the same every time."""
        if self.validation is None:
            return
        start = time.perf_counter()
        validation = tuple(self.validation) if self.recipe.conditional else self.validation
        batches = tf.data.Dataset.from_tensor_slices(validation).batch(250)
        model.evaluate(batches, verbose=0)
        self.val_fid = float(model.fid.result())  # of all replicas
        self.overhead += time.perf_counter() - start

    def save_checkpoint(self, model):
        """Records first, then the weights: a kill in between leaves records that are too long, which restore() cuts."""
        start = time.perf_counter()
        write_csv(self.output / "steps.csv", STEPS_HEADER, self.rows)
        write_csv(self.output / "history.csv", HISTORY_HEADER, self.history)
        save_weights(model, self.output / "checkpoint.weights.h5")
        self.saved = time.perf_counter()
        self.overhead += self.saved - start

    def restore(self, model):
        """Brings model and records back to the newest checkpoint."""
        self.started = None
        path = self.output / "checkpoint.weights.h5"
        records = self.output / "steps.csv"
        try:
            if not path.exists() and not (records.exists() and records.read_text().count("\n") > 1):
                return  # killed before its first checkpoint, at step 0: nothing is lost, the weights depend on the seed alone
            model.load_weights(path)
            step = int(model.generator_optimizer.iterations.numpy())
            epochs = step // self.steps_per_epoch
            steps = _numbered(records, STEPS_HEADER, step)
            history = _numbered(self.output / "history.csv", HISTORY_HEADER, epochs)
            self.history = [[int(row[0]), *row[1:]] for row in history]
            if self.recipe.patience and self.best():  # better to know now than at the end
                self.restore_best(model)
                model.load_weights(path)
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{self.output} cannot be resumed: {' '.join(str(error).split())[:300]}") from error
        # The values were float32 when they were written; as such they come back exactly.
        self.rows = [[int(row[0]), row[1], *map(float, np.float32(row[2:]))] for row in steps]
        self.earlier = self.rows[-1][1] if self.rows else 0.0
        self.val_fid = self.history[-1][-1] if self.history else math.nan

    def draw(self, model):
        """losses.png, samples.png and samples.gif."""
        self.save_samples(model, "samples.png")
        columns = np.array(self.rows, "float64").reshape(self.step, 2 + len(COLUMNS)).T
        steps = dict(zip(("step", "seconds", *COLUMNS), columns, strict=True))
        weights = self.recipe.label_weight / (1 + self.recipe.label_decay * columns[0])
        guessing = losses.of_guessing(self.recipe.loss, weights * math.log(self.recipe.classes))
        plots.save_figure(self.output / "losses.png", plots.show_training_curves(steps, guessing))
        frames = sample_paths(self.output) + [self.output / "samples.png"] * (self.step % self.steps_per_epoch > 0)
        plots.save_gif(self.output / "samples.gif", [imageio.imread(path) for path in frames])

    def print_progress(self, epoch_mean=None):
        """A line that is rewritten twice a second on a terminal; in a log, a line every ten seconds and every epoch."""
        now = time.perf_counter()
        if not self.verbose or (epoch_mean is None and now - self.printed < (0.5 if self.on_terminal else 10)):
            return
        self.printed = now
        epoch = (self.step - 1) // self.steps_per_epoch + 1
        share = f"{self.progress():4.0%}"
        if epoch_mean is not None:
            values, where = epoch_mean, f"epoch {epoch}" + (f"/{self.epochs}" if self.epochs else "")
        else:
            values, where = np.mean([row[2:] for row in self.rows[-100:]], axis=0), f"step {self.step:,}"
        text = (
            f"{share}  {self.seconds:5.0f} s  {where:<14}  loss: discriminator {values[0]:.3f}, generator {values[1]:.3f}"
            f"   real: {values[2]:.0%} of real, {values[3]:.0%} of generated"
        )
        if epoch_mean is not None and not math.isnan(self.val_fid):
            text += f"   FID-FMNIST {self.val_fid:.2f}"
        if self.on_terminal:
            print(f"\r\x1b[K{text}", end="\n" if epoch_mean is not None else "", flush=True)
        else:
            print(text, flush=True)


def sample_paths(folder):
    """The sample grids of a run, oldest first: before training, early steps, then epochs."""
    samples = pathlib.Path(folder) / "samples"
    return (
        sorted(samples.glob("epoch_000.png"))
        + sorted(samples.glob("step_*.png"))
        + sorted(path for path in samples.glob("epoch_*.png") if path.name != "epoch_000.png")
    )


def write_csv(path, header, rows):
    lines = [",".join(header), *(",".join(f"{value:.9g}" for value in row) for row in rows)]
    plots.write_whole(path, "\n".join(lines) + "\n")


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


@contextlib.contextmanager
def _whole(model, path):
    """Another name to write the file of a model to; it gets its own when it is whole, and is removed if it never is."""
    part = path.with_name("part" + "".join(path.suffixes))
    numbers = sum(int(np.prod(variable.shape)) for variable in model.variables)
    try:
        # HDF5 kills the process where the disk is full, so plain bytes try it first: 4 for a number, with two moments of Adam
        part.write_bytes(bytes(3 * 4 * numbers + 2**20))
        part.unlink()
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def save_model(model, path):
    """Saves a model as a .keras file that older versions of Keras load too, whole or not at all.

    Keras writes every argument of every layer and initializer, and refuses those that it does not know. This leaves out what has
    the value that it would have anyway.

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
        parts["config.json"] = json.dumps(_without_defaults(json.loads(parts["config.json"])))
        with zipfile.ZipFile(part, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)


def _without_defaults(value):
    """Part of a config.json without the arguments that have their default values."""
    if isinstance(value, list):
        return [_without_defaults(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: _without_defaults(item) for key, item in value.items()}
    kind = getattr(sys.modules.get(value.get("module")), value.get("class_name") or "", None)
    config = value.get("config")
    if hasattr(kind, "from_config") and isinstance(config, dict):
        arguments = inspect.signature(kind.__init__).parameters
        short = {
            key: item for key, item in config.items() if key not in arguments or item != arguments[key].default
        }
        if short != config and _same_object(kind, short, config):
            value["config"] = short
    return value


def _same_object(kind, *configs):
    """Whether the configs make equal objects of a class. Some classes insist on arguments that have defaults."""
    try:
        first, second = (kind.from_config(copy.deepcopy(config)).get_config() for config in configs)
        return first == second
    except Exception:  # whatever a class may raise for what it misses
        return False
