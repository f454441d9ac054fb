"""The second opinions: label-free and random features, the long accuracy score, and whether figures agree."""

import functools
import json
import pathlib

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fmgan_tf import features, pretrained
from fmgan_tf.bench import accuracy, agreement, label_free

ENCODER = pretrained.ASSETS / "label-free"


def test_the_shipped_label_free_network_is_small_bare_and_as_recorded(fashion_mnist):
    path = pretrained.verified("label-free/encoder.keras")
    assert path.stat().st_size < 1_000_000
    assert getattr(keras.models.load_model(path), "optimizer", None) is None
    record = json.loads((ENCODER / "run.json").read_text())
    assert record["recipe"] == label_free.RECIPE
    found = features.label_free_features(fashion_mnist.test_images[:4000])
    assert found.shape == (4000, 64)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    probe.fit(found[:3000], fashion_mnist.test_labels[:3000])
    right = probe.score(found[3000:], fashion_mnist.test_labels[3000:4000])
    assert right == pytest.approx(record["linear_probe_accuracy"], abs=0.05)


def test_random_features_are_the_same_everywhere(blobs):
    found = features.random_features(blobs.test_images)
    assert found.shape == (50, 64) and found.dtype == np.float32 and (found.std(0) > 0).mean() > 0.9
    again = features.random.__wrapped__()
    np.testing.assert_array_equal(again.get_weights()[0], features.random().get_weights()[0])
    assert again.get_weights()[0].ravel()[:3] == pytest.approx([0.04445235, -0.04670612, 0.2264236])


def test_the_label_free_network_learns_without_labels(blobs, tmp_path, monkeypatch):
    hidden = blobs._replace(train_labels=blobs.train_labels % 2, test_labels=blobs.test_labels % 2)
    one, four = (
        label_free.train(hidden, tmp_path / str(epochs), verbose=0, epochs=epochs, batch_size=20)
        for epochs in (1, 4)
    )
    assert four["squared_error"] < one["squared_error"]
    other = blobs._replace(train_labels=1 - hidden.train_labels, test_labels=1 - hidden.test_labels)
    label_free.train(other, tmp_path / "other", verbose=0, epochs=1, batch_size=20)
    one, two = (keras.models.load_model(tmp_path / name / "encoder.keras") for name in ("1", "other"))
    for left, right in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    monkeypatch.setattr("fmgan_tf.fashion_mnist.load", lambda: blobs)
    assert label_free.main([str(tmp_path / "1")]) == 2  # the folder holds a run


def test_the_long_accuracy_score_tells_right_labels_from_wrong_ones(few, tmp_path, monkeypatch):
    record = accuracy.score("real", few, seeds=2, count=1000, most_epochs=3)
    assert record["accuracy"] > 0.5 and record["images"] == 1000 and len(record["runs"]) == 2
    accuracies = [run["accuracy"] for run in record["runs"]]
    assert record["spread"] == max(accuracies) - min(accuracies)
    wrong = few._replace(train_labels=(few.train_labels + 1) % 10)
    assert accuracy.score("real", wrong, seeds=1, count=1000, most_epochs=3)["accuracy"] < 0.2
    assert accuracy.score("cgan", few, seeds=1, count=200, most_epochs=1)["source"] == "cgan"
    monkeypatch.setattr("fmgan_tf.fashion_mnist.load", lambda: few)
    monkeypatch.setattr(accuracy.sources, "draw", None)  # dcgan takes no labels: known without an image
    assert accuracy.main(["dcgan", "--output", str(tmp_path / "score.json")]) == 2


def test_figures_that_agree_correlate_and_others_do_not():
    random = np.random.default_rng(0)
    rows = [{"one": n, "two": n**3, "recall": -n, "other": random.normal()} for n in range(200)]
    found = {tuple(row["figures"]): row for row in agreement.correlate(rows, draws=200)}
    for pair in (("one", "two"), ("one", "recall")):
        assert [found[pair]["correlation"], *found[pair]["interval"]] == pytest.approx([1, 1, 1])
    low, high = found["one", "other"]["interval"]
    assert low < 0 < high and high - low == pytest.approx(2 * 1.96 / np.sqrt(200), rel=0.3)


def test_every_set_is_measured(few, monkeypatch):
    monkeypatch.setattr(agreement, "CHECKPOINTS", (1, 2))
    monkeypatch.setattr(agreement, "RUNG_STEPS", 1)
    monkeypatch.setattr(agreement, "TRUNCATIONS", (0.5,))
    monkeypatch.setattr(agreement.evaluation, "quick_accuracy_score", lambda *_: (0.5, 0.1))
    monkeypatch.setattr(agreement, "correlate", functools.partial(agreement.correlate, draws=20))
    record = agreement.compare(few, samples=300)
    names = [row["set"] for row in record["sets"]]
    assert len(names) == len(set(names)) >= 14
    rows = {row["set"]: row["figures"] for row in record["sets"]}
    for name in ("FID-FMNIST", "label-free distance", "random-features distance"):
        assert rows["training images"][name] < rows["training images, noise 30"][name]
        assert rows["training images"][name] < rows["cgan after 1 steps"][name]


def test_the_kept_record_of_agreement():
    record = json.loads((pretrained.ASSETS / "agreement.json").read_text())
    assert record["samples"] == agreement.SAMPLES and len(record["sets"]) >= 14
    again = agreement.correlate([row["figures"] for row in record["sets"]], draws=2)
    assert [row["figures"] for row in again] == [row["figures"] for row in record["correlations"]]
    for row, kept in zip(again, record["correlations"], strict=True):
        assert row["correlation"] == pytest.approx(kept["correlation"])


def test_the_readme_quotes_the_kept_records_of_accuracy():
    said = pathlib.Path(__file__).parent.parent.joinpath("README.md").read_text()
    said = said[said.index("A small network that gets 60,000 images") : said.index("`assets/accuracy/`")]
    spreads = []
    for name in ("cgan", "real"):
        record = json.loads((pretrained.ASSETS / "accuracy" / f"{name}.json").read_text())
        assert record["command"].split()[2:4] == ["fmgan_tf.bench.accuracy", name]
        assert record["images"] == accuracy.IMAGES and len(record["runs"]) == 2
        assert f" {record['accuracy']:.1%}" in said
        assert all(4 <= round(run["seconds"] / 60) <= 7 for run in record["runs"])
        spreads.append(f"{100 * record['spread']:.1f}")
    assert f"{' and '.join(spreads)} points apart; 4 to 7 minutes" in said
