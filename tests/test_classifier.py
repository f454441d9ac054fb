"""The training of the classifier on whose features FID-FMNIST is measured."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from fmgan_tf import data
from fmgan_tf.bench import classifier
from fmgan_tf.fashion_mnist import CLASS_NAMES
from fmgan_tf.runs import folder as run_folder


def test_training_a_classifier(blobs, tmp_path, capsys, monkeypatch):
    for name, value in (("filters", 4), ("batch_size", 20), ("epochs", 2)):
        monkeypatch.setitem(classifier.RECIPE, name, value)
    monkeypatch.setattr("fmgan_tf.fashion_mnist.load", lambda: blobs)
    assert classifier.main([str(tmp_path / "run"), "--seed", "3"]) == 0
    assert "of the test images recognized" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"classifier.keras", "history.csv", "confusion.png", "run.json"}
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["seed"] == 3 and record["recipe"]["epochs"] == 2
    assert record["versions"]["keras"] == keras.__version__
    assert set(record["class_accuracy"]) == set(CLASS_NAMES) and record["seconds"] > 0
    model = keras.models.load_model(tmp_path / "run" / "classifier.keras")
    assert model.get_layer("features").output.shape == (None, 16)
    recognized = np.argmax(model(data.to_tanh_range(blobs.test_images), training=False), 1)
    assert (recognized == blobs.test_labels).mean() == pytest.approx(record["test_accuracy"], abs=0.021)
    assert len(run_folder.read_csv(tmp_path / "run" / "history.csv")["epoch"]) == 2
    assert classifier.main([str(tmp_path / "run")]) == 2
    assert "holds a run already" in capsys.readouterr().err
    with pytest.raises(run_folder.RunError, match="cannot be resumed"):
        run_folder.read_record(tmp_path / "run")


def test_the_learning_rate_rises_and_falls(blobs, tmp_path, monkeypatch):
    rates = []

    class AdamW(keras.optimizers.AdamW):
        def __init__(self, rate, **named):
            rates.extend(float(rate(step)) for step in range(24))
            super().__init__(rate, **named)

    monkeypatch.setattr(keras.optimizers, "AdamW", AdamW)
    classifier.train(
        blobs, tmp_path / "run", verbose=0, filters=2, batch_size=100, epochs=12, learning_rate=1.0
    )
    assert (
        rates[0] == pytest.approx(0.1) and max(rates) == rates[2] == pytest.approx(1.0) and rates[-1] < 0.01
    )
    assert (np.diff(rates[2:]) < 0).all()


def test_shifting_moves_images_without_mirroring():
    keras.utils.set_random_seed(0)
    images = np.full((200, 28, 28, 1), -1, "float32")
    images[:, 10, 12], images[:, 10, 13] = 1, 0.5
    moved = classifier.shift(tf.constant(images), 1).numpy()[..., 0]
    places = [tuple(np.argwhere(image == 1)[0]) for image in moved]
    assert set(places) == {(row, column) for row in (9, 10, 11) for column in (11, 12, 13)}
    assert all(image[row, column + 1] == 0.5 for image, (row, column) in zip(moved, places, strict=True))
    assert (np.sort(moved.reshape(200, -1), 1)[:, :-2] == -1).all()
    np.testing.assert_array_equal(classifier.shift(tf.constant(images), 0), images)
