"""What happens around a train step, one small callback for each job, in the order that fit() has them in."""

import contextlib
import math
import shutil
import signal
import sys
import threading
import time

import keras
import numpy as np
from tqdm import tqdm

from fmgan_tf import data, generation, one_line, plots
from fmgan_tf.runs import folder as run_folder
from fmgan_tf.runs.folder import COLUMNS, HISTORY_HEADER, STEPS_HEADER, RunError

EARLY_SAMPLES = (50, 100, 200, 400)  # steps of the first epoch after which samples are drawn as well
CHECKPOINT_SECONDS = 60  # a crash loses at most this much, or one epoch
# Ctrl-C, a polite kill, a terminal that closes, and what clusters send before their time limit
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)


class Records(keras.callbacks.Callback):
    """What a run knows of itself: rows of steps.csv and history.csv, clock, budget and status."""

    def __init__(self, folder, recipe, steps_per_epoch, epochs=None, minutes=None):
        super().__init__()
        self.folder, self.recipe, self.steps_per_epoch = folder, recipe, steps_per_epoch
        self.epochs, self.minutes = epochs, minutes
        self.steps, self.history = [], []  # rows under STEPS_HEADER and HISTORY_HEADER
        self.val_fid = math.nan  # the newest
        self.status = "running"
        self.overhead = 0.0  # seconds spent on anything but train steps
        self.earlier = 0.0  # seconds of the run before it was resumed
        self.started = None

    @property
    def step(self):
        return len(self.steps)

    @property
    def seconds(self):
        return self.earlier + (time.perf_counter() - self.started if self.started else 0.0)

    @property
    def progress(self):
        """The share of the budget that is used, 0 to 1."""
        if self.minutes is not None:
            return min(1.0, self.seconds / (60 * self.minutes))
        return min(1.0, self.step / (self.epochs * self.steps_per_epoch))

    @property
    def within_epoch(self):
        """How many steps of an epoch that is not over yet."""
        return self.step % self.steps_per_epoch

    @property
    def best(self):
        """The row of history with the lowest val_fid, or None."""
        finite = (row for row in self.history if math.isfinite(row[-1]))
        return min(finite, key=lambda row: row[-1], default=None)

    @property
    def stopped_early(self):
        """Whether `patience` epochs went by without a lower val_fid."""
        best, patience = self.best, self.recipe.patience
        return bool(patience and best and self.history[-1][0] - best[0] >= patience)

    def more(self):
        """Whether there is anything left to do."""
        return self.status == "running" and self.progress < 1 and not self.stopped_early

    def stop(self, status):
        self.status = status
        self.model.stop_training = True

    @contextlib.contextmanager
    def aside(self):
        """What is done in here does not count as training."""
        start = time.perf_counter()
        yield
        self.overhead += time.perf_counter() - start

    def on_train_begin(self, logs=None):
        if self.started is None:
            self.started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append([self.step + 1, self.seconds, *(float(logs[name]) for name in COLUMNS)])

    def on_test_begin(self, logs=None):
        self.test_began = time.perf_counter()

    def _wants_val_fid(self):
        """Nobody waits for the figure of a run that is stopped within an epoch."""
        return self.status == "running" or (self.status == "interrupted" and not self.within_epoch)

    def on_test_batch_end(self, batch, logs=None):
        if not self._wants_val_fid():
            self.model.stop_evaluating = True

    def on_test_end(self, logs=None):
        if self._wants_val_fid():
            self.val_fid = float(self.model.fid.result())  # of all replicas; logs have one's
        self.overhead += time.perf_counter() - self.test_began

    def on_epoch_end(self, epoch, logs=None):
        if not self.within_epoch and self.status != "diverged":
            means = np.mean([row[2:] for row in self.steps[-self.steps_per_epoch :]], axis=0)
            self.history.append([epoch + 1, *means.tolist(), self.val_fid])

    def save(self):
        run_folder.write_csv(self.folder / "steps.csv", STEPS_HEADER, self.steps)
        run_folder.write_csv(self.folder / "history.csv", HISTORY_HEADER, self.history)

    def restore(self, step):
        """Brings the records back to a step; OSError or ValueError if they end before it or are damaged."""
        steps = run_folder.numbered(self.folder / "steps.csv", STEPS_HEADER, step)
        epochs = step // self.steps_per_epoch
        history = run_folder.numbered(self.folder / "history.csv", HISTORY_HEADER, epochs)
        self.history = [[int(row[0]), *row[1:]] for row in history]
        # The values were float32 when they were written; as such they come back exactly
        self.steps = [[int(row[0]), row[1], *map(float, np.float32(row[2:]))] for row in steps]
        self.earlier = self.steps[-1][1] if steps else 0.0
        self.val_fid = self.history[-1][-1] if history else math.nan
        self.started = None


class _Beside(keras.callbacks.Callback):
    """A callback that looks into the records."""

    def __init__(self, records):
        super().__init__()
        self.records = records


class Schedule(_Beside):
    """Learning rates: those of the recipe until its cooldown begins, then falling linearly to zero."""

    def on_train_batch_begin(self, batch, logs=None):
        cool(self.model, self.records.recipe, self.records.progress)


def cool(model, recipe, progress):
    """Sets the learning rates of a compiled gan.GAN when a share of its run, 0 to 1, is over."""
    if recipe.cooldown:
        rate = min(1.0, (1.0 - progress) / recipe.cooldown)
        model.generator_optimizer.learning_rate = recipe.generator_learning_rate * rate
        model.discriminator_optimizer.learning_rate = recipe.discriminator_learning_rate * rate


class Divergence(_Beside):
    """Stops at the first loss that is NaN or infinite; `cause` then names it."""

    cause = None

    def on_train_batch_end(self, batch, logs=None):
        for name in COLUMNS:
            if self.cause is None and not math.isfinite(float(logs[name])):
                self.cause = f"{name} became {float(logs[name])} at step {self.records.step}"
                self.records.stop("diverged")


class Interruption(_Beside):
    """Stops after the step under way when a signal, its number then in `signal`, asks for it, so that
    everything is saved. A context manager: a second signal acts as it would have before; what was ignored
    before (nohup) stays so."""

    signal = None

    def __enter__(self):
        self.previous = {}
        if threading.current_thread() is threading.main_thread():  # no other thread may handle signals
            before = {number: signal.getsignal(number) for number in SIGNALS}
            self.previous = {number: was for number, was in before.items() if was is not signal.SIG_IGN}
        for number in self.previous:
            signal.signal(number, self.handle)
        return self

    def __exit__(self, *_):
        for number, was in self.previous.items():
            signal.signal(number, was)

    def handle(self, number, frame):
        self.__exit__()
        self.signal = number
        with contextlib.suppress(OSError, ValueError):  # the terminal may be what is gone
            print("\nStopping after this step; everything is saved. Again gives up at once.", file=sys.stderr)

    def on_train_batch_end(self, batch, logs=None):
        if self.signal is not None and self.records.status == "running":
            self.records.stop("interrupted")


class TimeBudget(_Beside):
    """Stops when the minutes of the run are over."""

    def on_train_batch_end(self, batch, logs=None):
        if self.records.minutes is not None and self.records.progress == 1:
            self.model.stop_training = True


class EarlyStopping(_Beside):
    """Keeps the average after the epoch with the lowest val_fid; stops after `patience` epochs without a
    lower one. All it needs is in the records, so that it goes on where it was when a run is resumed."""

    @property
    def path(self):
        return self.records.folder / f"best_{self.records.best[0]:03d}.weights.h5"

    def on_epoch_begin(self, epoch, logs=None):
        self.tidy()

    def on_epoch_end(self, epoch, logs=None):
        records = self.records
        if records.recipe.patience and records.history and records.best is records.history[-1]:
            run_folder.save_weights(self.model.averaged_generator, self.path)
        if records.stopped_early:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        self.tidy()

    def tidy(self):
        """Removes what is no longer the best: only now, that the checkpoint knows of the newest."""
        for path in self.records.folder.glob("best_*.weights.h5"):
            if path != self.path:
                path.unlink()

    def restore(self, model):
        """Puts the best average of all epochs in the place of the newest, and says whether there is one."""
        if not (self.records.recipe.patience and self.records.best):
            return False
        try:
            model.averaged_generator.load_weights(self.path)
            return True
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{self.path} is missing or damaged ({one_line(error)})") from error


def sample_grid(recipe, seed):
    """The fixed noise of the sample grids, a row for each class: (what GAN.generate takes, its columns)."""
    if not recipe.conditional:
        return generation.sample_noise(seed, 64, recipe.latent_dim), 8
    columns = max(8, 32 // recipe.classes)
    noise = np.tile(generation.sample_noise(seed, columns, recipe.latent_dim), (recipe.classes, 1))
    return [noise, np.repeat(np.arange(recipe.classes), columns)], columns


class Samples(_Beside):
    """Draws the sample grid before training, at early steps and after every epoch."""

    def __init__(self, records, seed):
        super().__init__(records)
        self.inputs, self.columns = sample_grid(records.recipe, seed)
        self.to_pixels = data.RANGES[records.recipe.pixels][1]
        (records.folder / "samples").mkdir(parents=True, exist_ok=True)

    def on_train_begin(self, logs=None):
        if self.records.step == 0:
            self.draw(self.model, "samples/epoch_000.png")

    def on_train_batch_end(self, batch, logs=None):
        step, early = self.records.step, self.records.step < self.records.steps_per_epoch
        if early and step in EARLY_SAMPLES and self.records.status != "diverged":
            self.draw(self.model, f"samples/step_{step:06d}.png")

    def on_epoch_end(self, epoch, logs=None):
        if not self.records.within_epoch and self.records.status != "diverged":
            self.draw(self.model, f"samples/epoch_{epoch + 1:03d}.png")

    def draw(self, model, name):
        with self.records.aside():
            images = self.to_pixels(model.generate(self.inputs))
            sheet = plots.tile(images, self.columns, scale=2 if images.shape[1] < 64 else 1)
            plots.save_png(self.records.folder / name, sheet)


class Checkpoints(_Beside):
    """Saves what resuming needs before training, after every epoch, and every minute in between."""

    saved = -math.inf

    def on_train_begin(self, logs=None):
        if self.records.step == 0:
            self.save(self.model)

    def on_train_batch_end(self, batch, logs=None):
        due = time.perf_counter() - self.saved > CHECKPOINT_SECONDS
        if due and self.records.within_epoch and self.records.status == "running":
            self.save(self.model)

    def on_epoch_end(self, epoch, logs=None):
        if not self.records.within_epoch and self.records.status != "diverged":
            self.save(self.model)

    def save(self, model):
        """Records first, weights last: a kill in between leaves records too long, which restore() cuts."""
        with self.records.aside():
            self.records.save()
            run_folder.save_weights(model, self.records.folder / "checkpoint.weights.h5")
            self.saved = time.perf_counter()

    def restore(self, model):
        """Brings model and records back to the newest checkpoint; RunError if one is damaged."""
        folder = self.records.folder
        path, steps = folder / "checkpoint.weights.h5", folder / "steps.csv"
        try:
            if not path.exists() and not (steps.exists() and steps.read_text().count("\n") > 1):
                return  # killed at step 0, before its first checkpoint: the weights depend on the seed alone
            model.load_weights(path)
            self.records.restore(int(model.generator_optimizer.iterations.numpy()))
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{folder} cannot be resumed: {one_line(error)}") from error


class Progress(_Beside):
    """A bar on a terminal, a line every ten seconds in a log, and in both a line after every epoch."""

    def on_train_begin(self, logs=None):
        self.printed = time.perf_counter()
        columns = shutil.get_terminal_size().columns
        form = "{percentage:3.0f}%|{bar:10}| {desc}" if columns > 60 else "{percentage:3.0f}% {desc}"
        in_log = sys.stdout is None or not sys.stdout.isatty()
        self.bar = tqdm(total=1.0, bar_format=form, file=sys.stdout, dynamic_ncols=True, disable=in_log)

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if now - self.printed > (10 if self.bar.disable else 0.5):
            self.printed = now
            means = np.mean([row[2:] for row in self.records.steps[-100:]], axis=0)
            self.show(f"step {self.records.step:,}", means)

    def on_epoch_end(self, epoch, logs=None):
        if not self.records.within_epoch and self.records.history:
            where = f"epoch {epoch + 1}" + (f"/{self.records.epochs}" if self.records.epochs else "")
            *means, val_fid = self.records.history[-1][1:]
            where += "" if math.isnan(val_fid) else f"  FID-FMNIST {val_fid:.2f}"
            self.show(where, means, keep=True)

    def on_train_end(self, logs=None):
        self.bar.leave = False
        self.bar.close()

    def show(self, where, values, keep=False):
        text = (
            f"{self.records.seconds:5.0f} s  {where:<14}  loss: discriminator {values[0]:.3f}, generator "
            f"{values[1]:.3f}   real: {values[2]:.0%} of real, {values[3]:.0%} of generated"
        )
        line = f"{self.records.progress:4.0%}  {text}"
        if self.bar.disable:
            print(line, flush=True)
        elif keep:
            self.bar.write(line[: shutil.get_terminal_size().columns - 1], file=sys.stdout)
        else:
            self.bar.n = round(self.records.progress, 4)
            self.bar.set_description_str(text)
