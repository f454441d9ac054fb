import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import imageio.v3 as imageio
import keras
import numpy as np
import pytest
import small

from fmgan_tf import Diverged, InputError, gan, generation, losses, plots, recipes
from fmgan_tf.runs import callbacks, sources, training
from fmgan_tf.runs import folder as run_folder

COLUMNS = ("discriminator_loss", "generator_loss", "real_probability", "generated_probability")
SMALL = recipes.override(recipes.get("dcgan"), {"batch_size": 8, "steps_per_epoch": 3})


def read(path):
    """A table of a run as a dict from column to values."""
    header, table = run_folder.read_csv(path)
    return dict(zip(header, table.T, strict=True))


def run_small(blobs, output, resume=False, **arguments):
    if resume:
        return training.resume(output, blobs, verbose=False, **arguments)
    return training.train(SMALL, blobs, output, verbose=False, **({"epochs": 2} | arguments))


@pytest.fixture(scope="module")
def run(blobs, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "small"
    training.train(SMALL, blobs, output, seed=5, epochs=2, verbose=False)
    return output


@pytest.fixture(scope="module")
def one_epoch(blobs, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "one-epoch"
    run_small(blobs, output, epochs=1)
    return output


@pytest.fixture
def once(one_epoch, tmp_path):
    """A run of one epoch for this test alone."""
    return shutil.copytree(one_epoch, tmp_path / "run")


@pytest.fixture
def twice(run, tmp_path):
    """A run of two epochs for this test alone."""
    return shutil.copytree(run, tmp_path / "run")


def test_the_folder_is_complete(run):
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert names == {
        "generator.keras",
        "checkpoint.weights.h5",
        "steps.csv",
        "history.csv",
        "samples/epoch_000.png",
        "samples/epoch_001.png",
        "samples/epoch_002.png",
        "samples.png",
        "samples.gif",
        "losses.png",
        ".lock",
        "run.json",
    }
    record = json.loads((run / "run.json").read_text())
    assert (
        record["status"] == "complete"
        and record["seed"] == 5
        and record["steps"] == 6
        and record["epochs"] == 2
    )
    assert record["recipe"] == json.loads(json.dumps(dataclasses.asdict(SMALL)))
    assert (
        record["overrides"] == {"batch_size": 8, "steps_per_epoch": 3}
        and record["data"] == "squares made by the tests"
    )
    assert record["versions"]["keras"] == keras.__version__
    assert record["images_per_second"] > 0 and record["seconds"] > 0
    sheet = imageio.imread(run / "samples" / "epoch_002.png")
    assert sheet.shape == (2 * (8 * 29 + 1), 2 * (8 * 29 + 1)) and sheet.dtype == np.uint8
    assert len(imageio.imread(run / "samples.gif", index=None)) == 3
    np.testing.assert_array_equal(imageio.imread(run / "samples.png"), sheet)


def test_records(run):
    steps, history = read(run / "steps.csv"), read(run / "history.csv")
    np.testing.assert_array_equal(steps["step"], range(1, 7))
    assert (np.diff(steps["seconds"]) > 0).all()
    np.testing.assert_array_equal(history["epoch"], [1, 2])
    for name in COLUMNS:
        np.testing.assert_allclose(history[name], steps[name].reshape(2, 3).mean(1), rtol=1e-6)
    assert set(history) == {"epoch", *COLUMNS, "val_fid"} and set(steps) == {"step", "seconds", *COLUMNS}
    assert np.isfinite(history["val_fid"]).all() and history["val_fid"][0] != history["val_fid"][1]
    assert json.loads((run / "run.json").read_text())["val_fid"] == pytest.approx(
        history["val_fid"][1], rel=1e-6
    )


def test_the_saved_generator_is_the_average(run):
    model = gan.build(SMALL)
    model.load_weights(run / "checkpoint.weights.h5")
    noise = generation.sample_noise(0, 4, 100)
    np.testing.assert_allclose(generation.load_generator(run).model(noise), model.generate(noise), atol=1e-6)
    assert np.abs(model.generator(noise) - model.generate(noise)).max() > 1e-4


def test_a_run_is_never_overwritten(run, blobs, tmp_path):
    before = (run / "checkpoint.weights.h5").read_bytes()
    with pytest.raises(run_folder.RunError, match="holds a run already"):
        run_small(blobs, run)
    assert (run / "checkpoint.weights.h5").read_bytes() == before
    with pytest.raises(run_folder.RunError, match="holds no run"):
        run_small(blobs, tmp_path, resume=True)


RESUME = """
import os, sys
import tensorflow as tf
tf.config.experimental.enable_op_determinism()
sys.path[:0] = sys.argv[1].split(os.pathsep)
import small
from fmgan_tf.runs import callbacks, training
from test_training import SMALL_DENSE
blobs, base = small.two_classes(), sys.argv[2]
training.train(SMALL_DENSE, blobs, base + "/whole", epochs=6, verbose=False)
# The same with a stop within the second epoch and one after it.
real = callbacks.Recorder.on_train_batch_end
def stopping(self, batch, logs=None):
    real(self, batch, logs)
    if self.run.step in stops:
        self.stop("interrupted")
callbacks.Recorder.on_train_batch_end = stopping
stops = {3}
training.train(SMALL_DENSE, blobs, base + "/parts", epochs=6, verbose=False)
for stops in ({4}, {}):
    training.resume(base + "/parts", blobs, verbose=False)
"""


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    """Bit for bit, order of the images and patience included (with deterministic operations, which TensorFlow
    sets per process)."""
    subprocess.run(
        [sys.executable, "-c", RESUME, os.path.dirname(__file__), str(tmp_path)], check=True, timeout=300
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert (whole / "history.csv").read_text() == (parts / "history.csv").read_text()
    first, second = (gan.build(SMALL_DENSE) for _ in range(2))
    first.load_weights(whole / "checkpoint.weights.h5")
    second.load_weights(parts / "checkpoint.weights.h5")
    for mine, theirs in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy(), err_msg=mine.path)
    assert json.loads((parts / "run.json").read_text())["status"] == "complete"


def test_resuming_a_finished_run_with_more_epochs(blobs, once):
    again = run_small(blobs, once, resume=True)
    assert again["steps"] == 3  # nothing left to do
    longer = run_small(blobs, once, resume=True, epochs=2)
    assert longer["steps"] == 6 and len(read(once / "history.csv")["epoch"]) == 2


def test_records_that_outran_the_checkpoint_are_cut(blobs, once):
    """What a kill between writing the records and the weights leaves behind."""
    checkpoint = (once / "checkpoint.weights.h5").read_bytes()
    run_small(blobs, once, resume=True, epochs=2)
    (once / "checkpoint.weights.h5").write_bytes(checkpoint)
    run_small(blobs, once, resume=True, epochs=3)
    np.testing.assert_array_equal(read(once / "steps.csv")["step"], range(1, 10))
    np.testing.assert_array_equal(read(once / "history.csv")["epoch"], [1, 2, 3])


def test_two_trainings_into_one_folder_are_refused(blobs, once):
    with run_folder.alone_in(once):
        with pytest.raises(run_folder.RunError, match="Another training is writing to .*run. Wait"):
            run_small(blobs, once, resume=True, epochs=2)
    assert run_small(blobs, once, resume=True, epochs=2)["steps"] == 6


def test_a_run_killed_before_its_first_checkpoint_or_after_its_last_step(blobs, twice):
    whole = (twice / "history.csv").read_text()
    for name in ("checkpoint.weights.h5", "steps.csv", "history.csv"):
        (twice / name).unlink()
    assert run_small(blobs, twice, resume=True)["steps"] == 6
    assert len((twice / "history.csv").read_text().splitlines()) == len(whole.splitlines()) == 3
    # Killed after its last step it has only its records to finish
    record = json.loads((twice / "run.json").read_text())
    (twice / "run.json").write_text(json.dumps({**record, "status": "running", "images_per_second": None}))
    assert run_small(blobs, twice, resume=True)["images_per_second"] > 0
    # Later than that its loss is no trifle
    (twice / "checkpoint.weights.h5").unlink()
    with pytest.raises(run_folder.RunError, match="cannot be resumed"):
        run_small(blobs, twice, resume=True)


def damages(folder):
    """(file of a small run, something else in its place)"""
    yield "checkpoint.weights.h5", b"not HDF5"
    steps = (folder / "steps.csv").read_bytes()
    for wrong in (
        *(
            b"",
            b"\0" * 1000,
            b"\xff",
            b"step,seconds\n1,x\n",
            steps.replace(b"\n2,", b"\nnan,"),
            steps.replace(b"\n2,", b"\ninf,"),
        ),
        *(
            steps.replace(b"\n2,", b"\n7,"),
            steps.replace(b"step,seconds", b"seconds,step"),
            b"step\n1\n2\n3\n",
            steps[:-60],
        ),
    ):
        yield "steps.csv", wrong
    yield "history.csv", steps
    record = json.loads((folder / "run.json").read_text())
    yield "run.json", b"{"
    yield "run.json", b"[]"
    for name, value in (
        ("seed", "a"),
        ("seed", -1),
        ("epochs", "2"),
        ("epochs", 0),
        ("minutes", "x"),
        ("recipe", None),
    ):
        yield "run.json", json.dumps(record | {name: value}).encode()
    yield "run.json", json.dumps({name: value for name, value in record.items() if name != "epochs"}).encode()
    for name, value in (
        *(
            ("loss", "wasserstein"),
            ("generator", "nope"),
            ("generator", 3),
            ("batch_size", "x"),
            ("batch_size", 0),
        ),
        *(("classes", 0), ("pixels", "relu"), ("ema_decay", None), ("beta_1", True)),
    ):
        yield "run.json", json.dumps(record | {"recipe": record["recipe"] | {name: value}}).encode()


def test_damaged_runs_are_refused(blobs, once):
    kept = {path: path.read_bytes() for path in once.iterdir() if path.is_file()}
    for name, wrong in damages(once):
        (once / name).write_bytes(wrong)
        with pytest.raises(InputError) as error:
            run_small(blobs, once, resume=True, epochs=2)
            pytest.fail(f"{name}: {wrong[:300]!r}")
        assert "\n" not in str(error.value) and str(once) in str(error.value)
        (once / name).write_bytes(kept[once / name])
    assert {path: path.read_bytes() for path in once.iterdir() if path.is_file()} == kept
    assert run_small(blobs, once, resume=True, epochs=2)["steps"] == 6


@pytest.mark.parametrize("length", [{"epochs": 2}, {"epochs": None, "minutes": 0.02}])
def test_a_finished_run_stays_as_it_is(blobs, tmp_path, capsys, length):
    output = tmp_path / "run"
    record = run_small(blobs, output, **length)
    kept = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    for arguments in ({"epochs": None}, {"epochs": 1}) if record["epochs"] else ({"epochs": None},):
        assert training.resume(output, blobs, **arguments) == record
        assert f"Nothing is left to do after {record['steps']} steps" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == kept


def test_a_longer_run_that_is_killed_stays_longer(blobs, once, monkeypatch):
    save, calls = callbacks.Checkpoints.save, []

    def dying(self, model):
        save(self, model)
        if self.run.step > 3:  # it also saves what it begins with
            calls.append(self.run.step)
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.Checkpoints, "save", dying)
    with pytest.raises(KeyboardInterrupt):
        run_small(blobs, once, resume=True, epochs=3)
    monkeypatch.undo()
    assert 3 < calls[0] < 9 and json.loads((once / "run.json").read_text())["status"] == "running"
    record = run_small(blobs, once, epochs=None, resume=True)
    assert record["status"] == "complete" and record["epochs"] == 3 and record["steps"] == 9


def test_a_timed_run_ends_with_a_score_of_its_last_weights(blobs, tmp_path):
    """In the middle of an epoch, too."""
    recipe = recipes.override(SMALL, {"steps_per_epoch": 100_000})
    record = training.train(recipe, blobs, tmp_path / "run", minutes=0.02, verbose=False)
    assert record["status"] == "complete" and record["val_fid"] > 0
    assert len(read(tmp_path / "run" / "history.csv")["epoch"]) == 0


def test_minutes(blobs, tmp_path):
    start = time.perf_counter()
    record = run_small(blobs, tmp_path / "run", epochs=None, minutes=0.05)
    assert record["status"] == "complete" and 3 <= record["seconds"] and time.perf_counter() - start < 60
    assert record["minutes"] == 0.05 and record["epochs"] is None


def test_nan_stops_the_run_and_keeps_the_last_good_state(blobs, tmp_path, monkeypatch):
    models_built = []

    def breaks(generated_logits):
        late = keras.ops.cast(models_built[0].step >= 4, "float32")
        return losses.non_saturating_generator(generated_logits) / (1.0 - late)

    def building(*arguments):
        models_built.append(build(*arguments))
        return models_built[0]

    build = gan.build
    monkeypatch.setattr(gan, "build", building)
    broken = losses.Loss(losses.cross_entropy_discriminator, breaks)
    monkeypatch.setitem(losses.LOSSES, "non_saturating", broken)
    with pytest.raises(
        Diverged, match=r"generator_loss became inf at step 5\. .* is back at step 3"
    ) as error:
        run_small(blobs, tmp_path / "run", epochs=4)
    assert "Train anew with lower rates: train dcgan --set learning_rate=" in str(error.value)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "diverged" and record["steps"] == 3
    weights = generation.load_generator(tmp_path / "run").model.get_weights()
    assert all(np.isfinite(weight).all() for weight in weights)
    assert len(read(tmp_path / "run" / "history.csv")["epoch"]) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_everything(blobs, tmp_path, number):
    """Ctrl-C, and what `docker stop` and clusters send."""

    def send():
        while not (tmp_path / "run" / "samples" / "epoch_000.png").exists():  # drawn when training begins
            time.sleep(0.05)
        time.sleep(1)
        os.kill(os.getpid(), number)

    handler = signal.default_int_handler
    before = signal.signal(number, handler)  # a shell's background jobs ignore Ctrl-C, and so would we
    try:
        threading.Thread(target=send, daemon=True).start()
        record = run_small(blobs, tmp_path / "run", epochs=None, minutes=2)
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert record["status"] == "interrupted" and 0 < record["seconds"] < 60 and record["signal"] == number
    assert len(read(tmp_path / "run" / "steps.csv")["step"]) == record["steps"] > 0
    assert (tmp_path / "run" / "generator.keras").exists()


def test_a_signal_during_saving_does_not_stop_it(blobs, tmp_path, monkeypatch):
    draw = callbacks.Samples.draw

    def terminated(self, model, name):
        draw(self, model, name)
        if name == "samples.png":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(callbacks.Samples, "draw", terminated)
    record = run_small(blobs, tmp_path / "run", epochs=1)
    assert record["status"] == "complete" and record["signal"] == signal.SIGTERM
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "complete"


def test_an_ignored_signal_stays_ignored(blobs, tmp_path):
    """As SIGHUP is under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with callbacks.Interruption(None) as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interruption.signal is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_plots(tmp_path):
    sheet = plots.tile(np.full((5, 4, 6, 1), 9, "uint8"), columns=3, scale=2)
    assert sheet.shape == (2 * (2 * 5 + 1), 2 * (3 * 7 + 1))
    assert (sheet[2:10, 2:14] == 9).all() and (sheet[:2] == 255).all() and (sheet[12:, 30:] == 255).all()
    np.testing.assert_allclose(plots.smooth(np.array([1.0, 3.0, 5.0, 7.0]), 2), [1, 2, 4, 6])
    plots.save_gif(tmp_path / "a.gif", [np.zeros((8, 8), "uint8"), np.full((8, 8), 255, "uint8")])
    frames = imageio.imread(tmp_path / "a.gif", index=None)
    assert len(frames) == 2 and frames[0].max() == 0 and frames[1].min() == 255
    plots.save_gif(tmp_path / "single.gif", frames[:1])  # of a run folder without its samples
    assert imageio.imread(tmp_path / "single.gif", index=None).shape[:3] == (1, 8, 8)
    ones = {name: np.ones(3) for name in COLUMNS}
    figure = plots.show_training_curves({"step": np.arange(3), **ones}, (4.3, 2.3))
    low, high = figure.axes[0].get_ylim()
    assert (
        low <= 1 and 4.3 < high
    )  # the losses of guessing are in sight, however far the run has left them behind
    plots.save_figure(tmp_path / "a.png", figure)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "a.png", "single.gif"]


SMALL_CGAN = recipes.override(recipes.get("cgan"), {"batch_size": 8, "steps_per_epoch": 3})
SMALL_DENSE = recipes.override(
    recipes.get("dense-cgan"), {"batch_size": 8, "steps_per_epoch": 2, "patience": 2, "ema_decay": 0.5}
)


def test_conditional_samples_have_a_row_for_every_class_and_a_column_for_every_noise():
    (noise, labels), columns = callbacks.sample_grid(SMALL_CGAN, 0)
    assert columns == 8 and noise.shape == (80, 64)
    np.testing.assert_array_equal(labels.reshape(10, 8), np.arange(10)[:, None] * np.ones(8, int))
    np.testing.assert_array_equal(noise.reshape(10, 8, 64), np.tile(noise[:8], (10, 1, 1)))
    (noise, labels), columns = callbacks.sample_grid(SMALL_DENSE, 0)
    assert columns == 16 and noise.shape == (32, 100) and labels.tolist() == [0] * 16 + [1] * 16


def test_a_conditional_run(blobs, tmp_path):
    record = training.train(SMALL_CGAN, blobs, tmp_path / "run", epochs=2, verbose=False)
    assert record["status"] == "complete" and np.isfinite(record["val_fid"])
    assert imageio.imread(tmp_path / "run/samples.png").shape == (2 * (10 * 29 + 1), 2 * (8 * 29 + 1))
    generator = sources.open(tmp_path / "run").generator
    assert generator.latent_dim == 64 and generator.classes == 10
    model = gan.build(SMALL_CGAN)
    assert isinstance(model, gan.ConditionalGAN)
    model.load_weights(tmp_path / "run/checkpoint.weights.h5")
    inputs, _ = callbacks.sample_grid(SMALL_CGAN, 1)
    np.testing.assert_allclose(generator.model(inputs), model.generate(inputs), atol=1e-6)


def test_early_stopping_stops_and_restores_the_best_average(tmp_path, monkeypatch):
    """The score is given here: 5, 3, 4, 6, ... so the second epoch is the best and the fourth the last."""
    averages, two = [], small.two_classes()

    def measured(self, *data, **options):
        averages.append(self.averaged_generator.get_weights())
        return {"fid": [5.0, 3.0, 4.0, 6.0, 1.0, 1.0][len(averages) - 1]}

    monkeypatch.setattr(gan.GAN, "evaluate", measured)
    folder = tmp_path / "run"
    folder.mkdir()
    own = [folder / "best_so_far.weights.h5", folder / "best_model.weights.h5", folder / "best_0.weights.h5"]
    for path in own:
        path.write_text("mine")
    record = training.train(SMALL_DENSE, two, folder, epochs=6, verbose=False)
    assert record["status"] == "complete" and record["steps"] == 8 and len(averages) == 4
    assert record["best_epoch"] == 2 and record["val_fid"] == 3.0
    saved = generation.load_generator(folder).model.get_weights()
    for weight, best in zip(saved, averages[1], strict=True):
        np.testing.assert_array_equal(weight, best)
    assert any(not np.array_equal(best, last) for best, last in zip(averages[1], averages[3], strict=True))
    again = training.resume(folder, two, verbose=False)
    assert again["steps"] == 8 and again["best_epoch"] == 2 and len(averages) == 4  # it does not begin anew
    assert all(path.read_text() == "mine" for path in own), "files that the run did not write stay"
    best = folder / "best_002.weights.h5"
    assert set(folder.glob("best_*")) == {best, *own}
    for break_it in (lambda: best.write_bytes(b"not HDF5"), best.unlink):
        break_it()
        with pytest.raises(run_folder.RunError, match="best_002.weights.h5 is missing or damaged"):
            training.resume(folder, two, epochs=30, verbose=False)


def test_a_run_with_patience_that_is_killed_in_its_first_epoch_resumes(tmp_path, monkeypatch):
    """After its best weights are written, before its checkpoint is."""

    def power_is_gone(self, epoch, logs=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Checkpoints, "on_epoch_end", power_is_gone)
        with pytest.raises(KeyboardInterrupt):
            training.train(SMALL_DENSE, small.two_classes(), tmp_path / "run", epochs=2, verbose=False)
    assert (tmp_path / "run" / "best_001.weights.h5").exists()
    record = training.resume(tmp_path / "run", small.two_classes(), verbose=False)
    assert record["status"] == "complete" and record["steps"] == 4


def test_the_dense_recipe_learns_in_the_range_of_its_sigmoid(blobs, tmp_path, monkeypatch):
    seen = []
    real = gan.ConditionalGAN.train_step

    def watching(self, batch):
        seen.append((batch[0].shape, batch[1].dtype))
        return real(self, batch)

    monkeypatch.setattr(gan.ConditionalGAN, "train_step", watching)
    training.train(SMALL_DENSE, blobs, tmp_path / "run", epochs=1, verbose=False)
    assert seen[0][0] == (8, 28, 28, 1)
    noise, labels = generation.sample_noise(0, 4, 100), np.array([0, 1, 0, 1])
    assert 0 <= np.min(generation.load_generator(tmp_path / "run").model([noise, labels]))
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["recipe"]["pixels"] == "unit" and record["recipe"]["classes"] == 2


def test_a_run_goes_on_with_the_images_that_it_was_trained_on_alone(blobs, once):
    """Whatever they are called: what comes out would be of neither."""
    other = blobs._replace(train_images=255 - blobs.train_images, name="other squares")
    expected = "was trained on Fashion-MNIST .squares.*, and this is other squares"
    with pytest.raises(run_folder.RunError, match=expected):
        run_small(other, once, epochs=2, resume=True)
    assert json.loads((once / "run.json").read_text())["status"] == "complete"
    assert run_small(blobs, once, epochs=2, resume=True)["steps"] == 6


def test_a_file_system_without_locks_is_a_warning(blobs, tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.warns(UserWarning, match="cannot be locked .*: start no second training into it"):
        assert run_small(blobs, tmp_path / "run", epochs=1)["status"] == "complete"


def test_runs_without_a_folder_get_one_each(blobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [run_folder.make_free(tmp_path / "runs" / "dcgan").name for _ in range(3)]
    assert found == ["dcgan", "dcgan-2", "dcgan-3"]
    assert training.train(SMALL, blobs, epochs=1, verbose=False)["folder"].name == "dcgan-4"


@pytest.mark.parametrize(
    "setting", [{"batch_size": 201}, {"steps_per_epoch": 1, "image_size": 28, "batch_size": 5000}]
)
def test_a_training_that_is_refused_leaves_nothing(blobs, tmp_path, monkeypatch, setting):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="batch_size is .*, expected 1 to 200"):
        training.train(recipes.override(SMALL, setting), blobs, epochs=1, verbose=False)
    assert not list(tmp_path.iterdir())


def test_a_new_run_writes_over_nobodys_files(blobs, tmp_path):
    (tmp_path / "samples.png").write_text("mine")
    with pytest.raises(run_folder.RunError, match="holds samples.png, which no run .* another folder"):
        run_small(blobs, tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_full_disk_is_known_before_anything_is_written(blobs, once, monkeypatch):
    kept = (once / "checkpoint.weights.h5").read_bytes()
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(run_folder.RunError, match="failed: No space left on device. It keeps its newest"):
        run_small(blobs, once, resume=True, epochs=2)
    assert (once / "checkpoint.weights.h5").read_bytes() == kept and not list(once.glob(".part*"))
    monkeypatch.undo()
    assert run_small(blobs, once, resume=True, epochs=2)["steps"] == 6


def test_samples_are_in_order_of_number(tmp_path):
    (tmp_path / "samples").mkdir()
    names = ["epoch_000", "step_000050", "step_000100", *(f"epoch_{epoch:03d}" for epoch in range(1, 1103))]
    for name in [*reversed(names), "epoch_best", "mine", "step_"]:
        (tmp_path / "samples" / f"{name}.png").touch()
    assert [path.stem for path in run_folder.sample_paths(tmp_path)] == names


def test_the_table_of_steps_only_grows(tmp_path, monkeypatch):
    """A checkpoint after eight hours costs what one after a minute does."""
    model = gan.build(SMALL)
    recorder = callbacks.Recorder(callbacks.Run(tmp_path, 100, epochs=10), model)
    recorder.set_model(model)
    texts, append = [], run_folder.append_csv
    monkeypatch.setattr(
        run_folder, "append_csv", lambda path, rows: (texts.append(len(rows)), append(path, rows))
    )
    for step in range(250):
        recorder.on_train_batch_end(step, dict.fromkeys(COLUMNS, np.float32(0.1 * step)))
        if recorder.run.at_epoch_end:
            recorder.on_epoch_end(step // 100, {})
        elif step % 40 == 0:
            recorder.save()
    recorder.save()
    assert sum(texts) == 250 and max(texts) <= 40
    steps = read(tmp_path / "steps.csv")
    np.testing.assert_array_equal(steps["step"], range(1, 251))
    np.testing.assert_array_equal(steps["generator_loss"].astype("float32"), np.float32(0.1 * np.arange(250)))


def test_a_run_that_has_not_ended_shows_its_newest_checkpoint(blobs, once):
    generator = sources.open(once).generator
    (once / "generator.keras").unlink()
    source = sources.open(once)
    noise = generation.sample_noise(0, 4, 100)
    np.testing.assert_allclose(source.generator.model(noise), generator.model(noise), atol=1e-6)
    assert "a run that has not ended, as it was after 3 steps" in source.assumed
    (once / "checkpoint.weights.h5").write_bytes(b"damaged")
    with pytest.raises(InputError, match="holds no generator yet, nor a whole checkpoint"):
        assert sources.open(once).generator is None
