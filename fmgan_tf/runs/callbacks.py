"""What happens around a train step, one small callback for each job, in the order that fit() has them in.

None knows what kind of model it is: it has `step`, `metrics`, whose values train_step returns, and
`generate(inputs)`, and is watched by one value of its validation, val_fid.
"""

import contextlib
import math
import signal
import sys
import threading
import time

import imageio.v3 as imageio
import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from fmgan_tf import data, generation, plots
from fmgan_tf.runs import folder as run_folder
from fmgan_tf.runs import terminal

EARLY_SAMPLES = (50, 100, 200, 400)  # steps of the first epoch after which samples are drawn as well
CHECKPOINT_SECONDS = 300  # within an epoch; at its end there is one anyway
WATCHED = "val_fid"
# Ctrl-C, a polite kill, a terminal that closes, and what clusters send before their time limit
SIGNALS = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")]


class Run:
    """What all callbacks know of a run: where it is, how far, for how long, and whether it goes on."""

    def __init__(self, folder, steps_per_epoch, epochs=None, minutes=None):
        self.folder, self.steps_per_epoch, self.epochs, self.minutes = (
            folder,
            steps_per_epoch,
            epochs,
            minutes,
        )
        self.step, self.status, self.reason = 0, "running", ""
        self.earlier = 0.0  # seconds before the run was resumed
        self.aside_seconds = 0.0  # spent on anything but train steps
        self.started = None

    @property
    def seconds(self):
        """Of the whole run so far."""
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
    def at_epoch_end(self):
        """Whether an epoch has just ended well, rather than been broken off."""
        return not self.within_epoch and self.status != "diverged"

    @contextlib.contextmanager
    def aside(self):
        """What is done in here does not count as training."""
        start = time.perf_counter()
        yield
        self.aside_seconds += time.perf_counter() - start


class RunCallback(keras.callbacks.Callback):
    """A callback that knows the Run."""

    def __init__(self, run):
        super().__init__()
        self.run = run

    def stop(self, status, reason=""):
        """Ends the run after this step."""
        self.run.status, self.run.reason = status, reason
        self.model.stop_training = True


class Recorder(RunCallback):
    """Keeps steps.csv and history.csv: a row of the model's metrics for every step and every epoch."""

    def __init__(self, run, model):
        super().__init__(run)
        self.names = [metric.name for metric in model.metrics]
        self.rows = []  # of the epoch that is not over
        self.unsaved = 0  # how many of them are not in the file yet
        self.history = []  # [epoch, *means, val_fid]
        self.watched = math.nan  # the newest val_fid, also of an epoch that the end of the time cut off

    def on_train_begin(self, logs=None):
        self.run.started = self.run.started or time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.run.step += 1
        self.rows.append([self.run.step, self.run.seconds, *(float(logs[name]) for name in self.names)])
        self.unsaved += 1

    def on_test_begin(self, logs=None):
        self.test_began = time.perf_counter()

    def on_test_batch_end(self, batch, logs=None):
        self.model.stop_evaluating = not self.measures()

    def measures(self):
        """Whether a score is wanted: nobody waits for that of a run that was stopped within an epoch."""
        return self.run.status == "running" or self.run.at_epoch_end

    def on_test_end(self, logs=None):
        self.run.aside_seconds += time.perf_counter() - self.test_began

    def on_epoch_end(self, epoch, logs=None):
        if self.measures():
            self.watched = (logs or {}).get(WATCHED, math.nan)
        if self.run.at_epoch_end:
            means = np.mean([row[2:] for row in self.rows], axis=0)
            self.history.append([epoch + 1, *means.tolist(), self.watched])
            self.save()
            self.rows = []

    def save(self):
        """Writes what is new; steps.csv only grows, so that the cost does not."""
        path = self.run.folder / "steps.csv"
        if not path.exists():
            run_folder.write_csv(path, ("step", "seconds", *self.names), [])
        run_folder.append_csv(path, self.rows[len(self.rows) - self.unsaved :])
        self.unsaved = 0
        header = ("epoch", *self.names, WATCHED)
        run_folder.write_csv(self.run.folder / "history.csv", header, self.history)

    def restore(self, step):
        """Brings the tables back to a step; OSError or ValueError if they end before it or are damaged."""
        run, path = self.run, self.run.folder / "steps.csv"
        header, steps = run_folder.read_csv(path, step)
        if header != ["step", "seconds", *self.names]:
            raise ValueError(f"{path} has the columns {', '.join(header)}")
        run.step, run.started = step, None
        run.earlier = float(steps[-1, 1]) if step else 0.0
        # The values were float32 when they were written; as such they come back exactly
        rows = [[int(row[0]), float(row[1]), *map(float, np.float32(row[2:]))] for row in steps]
        run_folder.write_csv(path, header, rows)
        self.rows, self.unsaved = rows[step - run.within_epoch :], 0
        path = run.folder / "history.csv"
        header, history = run_folder.read_csv(path, step // run.steps_per_epoch)
        if header != ["epoch", *self.names, WATCHED]:
            raise ValueError(f"{path} has the columns {', '.join(header)}")
        self.history = [[int(row[0]), *row[1:].tolist()] for row in history]
        self.watched = self.history[-1][-1] if self.history else math.nan


class Limits(RunCallback):
    """Stops at the first metric that is NaN or infinite, and when the minutes of the run are over."""

    def on_train_batch_end(self, batch, logs=None):
        wrong = [name for name, value in logs.items() if not math.isfinite(float(value))]
        if wrong:
            self.stop("diverged", f"{wrong[0]} became {float(logs[wrong[0]])} at step {self.run.step}")
        if self.run.minutes is not None and self.run.progress == 1:
            self.model.stop_training = True


class Interruption(RunCallback):
    """Stops after the step under way when a signal, its number then in `signal`, asks for it, so that
    everything is saved. A context manager: a second signal acts as it would have before; what was ignored
    before (nohup) stays so."""

    signal = None

    def __enter__(self):
        self.previous = {}
        if threading.current_thread() is threading.main_thread():  # no other thread may handle signals
            before = {number: signal.getsignal(number) for number in SIGNALS if number}
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
        terminal.say("\nStopping after this step, then saving. A second signal ends at once.", sys.stderr)

    def on_train_batch_end(self, batch, logs=None):
        if self.signal is not None and self.run.status == "running":
            self.stop("interrupted")


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Keras's, which goes on where it was when a run is resumed: it looks through the history again."""

    def __init__(self, recorder, patience):
        super().__init__(monitor=WATCHED, mode="min", patience=patience)
        self.recorder = recorder

    def on_train_begin(self, logs=None):
        super().on_train_begin()
        for epoch, *_, value in self.recorder.history:
            if not math.isnan(value):  # as where there was no validation, which Keras passes over
                super().on_epoch_end(epoch - 1, {WATCHED: value})

    def on_epoch_end(self, epoch, logs=None):
        if self.recorder.run.at_epoch_end:
            super().on_epoch_end(epoch, logs)


class BestWeights(keras.callbacks.ModelCheckpoint):
    """Keras's, for the lowest val_fid. What it kept before is removed, by the epochs in the history, once the
    checkpoint knows of the newest: no other file is touched."""

    def __init__(self, recorder):
        self.recorder, best = recorder, self.epochs(recorder.history)[-1:]
        folder = str(recorder.run.folder).replace("{", "{{").replace("}", "}}")  # Keras fills in the epoch
        options = {"monitor": WATCHED, "mode": "min", "save_best_only": True, "save_weights_only": True}
        lowest = recorder.history[best[0] - 1][-1] if best else None
        super().__init__(f"{folder}/best_{{epoch:03d}}.weights.h5", initial_value_threshold=lowest, **options)

    @staticmethod
    def epochs(history):
        """The epochs that were the best so far when they ended, oldest first."""
        values = [row[-1] for row in history]
        return [row[0] for row in history if row[-1] < min(values[: row[0] - 1], default=math.inf)]

    def path(self, epoch):
        return self.recorder.run.folder / f"best_{epoch:03d}.weights.h5"

    def on_epoch_end(self, epoch, logs=None):
        if self.recorder.run.at_epoch_end:
            super().on_epoch_end(epoch, logs)

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self.tidy()

    def on_train_end(self, logs=None):
        self.tidy()

    def tidy(self):
        """Removes what is no longer the best."""
        for epoch in self.epochs(self.recorder.history)[:-1]:
            self.path(epoch).unlink(missing_ok=True)

    def restore(self, model):
        """Puts the best weights of all epochs in the place of the newest; returns that row of the history, or
        None; RunError if they are gone."""
        for epoch in self.epochs(self.recorder.history)[-1:]:
            try:
                model.load_weights(self.path(epoch))
                return self.recorder.history[epoch - 1]
            except (OSError, ValueError, KeyError) as error:
                raise run_folder.RunError(f"{self.path(epoch)} is missing or damaged ({error})") from error


def sample_grid(recipe, seed):
    """The fixed noise of the sample grids, a row for each class: (what model.generate takes, its columns)."""
    if not recipe.conditional:
        return generation.sample_noise(seed, 64, recipe.latent_dim), 8
    columns = max(8, 32 // recipe.classes)
    noise = np.tile(generation.sample_noise(seed, columns, recipe.latent_dim), (recipe.classes, 1))
    return [noise, np.repeat(np.arange(recipe.classes), columns)], columns


class Samples(RunCallback):
    """Draws the sample grid before training, at early steps and after every epoch."""

    def __init__(self, run, recipe, seed):
        super().__init__(run)
        self.inputs, self.columns = sample_grid(recipe, seed)
        self.to_pixels = data.RANGES[recipe.pixels][1]
        (run.folder / "samples").mkdir(parents=True, exist_ok=True)

    def on_train_begin(self, logs=None):
        if self.run.step == 0:
            self.draw(self.model, "samples/epoch_000.png")

    def on_train_batch_end(self, batch, logs=None):
        step = self.run.step
        if step < self.run.steps_per_epoch and step in EARLY_SAMPLES and self.run.status != "diverged":
            self.draw(self.model, f"samples/step_{step:06d}.png")

    def on_epoch_end(self, epoch, logs=None):
        if self.run.at_epoch_end:
            self.draw(self.model, f"samples/epoch_{epoch + 1:03d}.png")

    def draw(self, model, name):
        """Draws a grid of what the model generates now."""
        with self.run.aside():
            images = self.to_pixels(model.generate(self.inputs))
            sheet = plots.tile(images, self.columns, scale=2 if images.shape[1] < 64 else 1)
            plots.save_png(self.run.folder / name, sheet)


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras's, for the epochs; every fiftieth step and the sample grids go beside it, by the run's own count,
    which a resumed run goes on with."""

    def __init__(self, run):
        super().__init__(run.folder / "tensorboard", write_graph=False)
        self.run, self.steps = run, tf.summary.create_file_writer(str(run.folder / "tensorboard" / "steps"))

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if self.run.step % 50 == 0:
            with self.steps.as_default(self.run.step):
                for name, value in logs.items():
                    tf.summary.scalar(name, value)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        grid = self.run.folder / "samples" / f"epoch_{epoch + 1:03d}.png"
        if grid.exists():
            with self.steps.as_default(self.run.step):
                tf.summary.image("samples", imageio.imread(grid, mode="L")[None, ..., None])


class Checkpoints(RunCallback):
    """Saves what resuming needs before training, after every epoch, and every few minutes in between: what
    fit() begins with is always there to come back to, also at the start of a second act."""

    saved = -math.inf

    def __init__(self, run, recorder):
        super().__init__(run)
        self.recorder = recorder

    def on_train_begin(self, logs=None):
        self.save(self.model)

    def on_train_batch_end(self, batch, logs=None):
        due = time.perf_counter() - self.saved > CHECKPOINT_SECONDS
        if due and self.run.within_epoch and self.run.status == "running":
            self.save(self.model)

    def on_epoch_end(self, epoch, logs=None):
        if self.run.at_epoch_end:
            self.save(self.model)

    def save(self, model):
        """Tables first, weights last: a kill in between leaves tables too long, which restore() cuts."""
        with self.run.aside():
            self.recorder.save()
            run_folder.save_weights(model, self.run.folder / "checkpoint.weights.h5")
            self.saved = time.perf_counter()

    def restore(self, model):
        """Brings model and tables back to the newest checkpoint; RunError if one is damaged."""
        folder = self.run.folder
        path, steps = folder / "checkpoint.weights.h5", folder / "steps.csv"
        try:
            if not path.exists() and not (steps.exists() and steps.read_text().count("\n") > 1):
                return  # killed at step 0, before its first checkpoint: the weights depend on the seed alone
            model.load_weights(path)
            self.recorder.restore(int(model.step.numpy()))
        except (OSError, ValueError, KeyError) as error:
            raise run_folder.RunError(f"{folder} cannot be resumed: {error}") from error


class Progress(RunCallback):
    """A bar on a terminal; in a log a line every ten seconds and after every epoch."""

    def __init__(self, run, recorder):
        super().__init__(run)
        self.recorder = recorder

    def on_train_begin(self, logs=None):
        in_log, form = not (sys.stdout and sys.stdout.isatty()), "{percentage:3.0f}%|{bar:10}| {desc}"
        options = {"file": sys.stdout, "dynamic_ncols": True, "disable": in_log, "leave": False}
        self.bar, self.shown = tqdm(total=1.0, bar_format=form, **options), time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if time.perf_counter() - self.shown > (10 if self.bar.disable else 0.5):
            means = np.mean([row[2:] for row in self.recorder.rows[-100:]], axis=0)
            self.show(f"step {self.run.step:,}", means)

    def on_epoch_end(self, epoch, logs=None):
        if self.run.at_epoch_end:
            self.show(f"epoch {epoch + 1}", self.recorder.history[-1][1:])

    def on_train_end(self, logs=None):
        self.bar.close()

    def show(self, where, values):
        """One line: how long, where, the losses and the score."""
        self.shown = time.perf_counter()
        named = zip([*self.recorder.names, WATCHED], values, strict=False)
        named = [(name, value) for name, value in named if name.endswith(("loss", WATCHED))]
        shown = [f"{name} {value:.3f}" for name, value in named if not math.isnan(value)]
        text = f"{self.run.seconds:5.0f} s  {where:<12}  {'  '.join(shown)}"
        if self.bar.disable:
            return terminal.say(f"{self.run.progress:4.0%}  {text}")
        with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            self.bar.n = round(self.run.progress, 4)
            self.bar.set_description_str(text)
