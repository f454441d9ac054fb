import json

import imageio.v3 as imageio
import keras
import numpy as np
import pytest
from test_cli import fails

from fmgan_tf import InputError, features, generation, metrics, recipes
from fmgan_tf.__main__ import main
from fmgan_tf.datasets import CLASS_NAMES
from fmgan_tf.runs import evaluation, sources, training

SCORES = {"fid_fmnist", "label_free_distance", "kid", "precision", "recall", "density", "coverage"}
SCORES |= {f"memorization_{name}" for name in ("median_ratio", "nearer_fraction", "auc")}


def a_generator(path):
    """An untrained generator of six noise values, saved there."""
    noise = keras.Input((6,), name="z")
    pixels = keras.layers.Dense(784, activation="tanh", kernel_initializer="random_normal")(noise)
    keras.Model(noise, keras.layers.Reshape((28, 28, 1))(pixels)).save(path)
    return path


def check_scores(report, samples):
    scores = [*report["scores"].items()]
    scores += [item for rows in report["classes"].values() for item in rows.items()]
    for name, score in scores:
        assert {"value", "standard_error", "samples", "extractor", "floor", "floor_standard_error"} <= set(
            score
        ), name
        assert score["extractor"] and 0 <= score["samples"] <= samples, name
        for key in ("value", "standard_error", "floor", "floor_standard_error"):
            assert score[key] is None or np.isfinite(score[key]), (name, key)
    for name, score in report["scores"].items():
        assert None not in score.values() and score["standard_error"] >= 0 and score["samples"] > 100, name


def test_real_images_are_about_at_the_floor(few, tmp_path, monkeypatch):
    """Other training images than those of the floor, so that nothing is compared with itself."""
    monkeypatch.setattr(evaluation, "ACCURACY_STEPS", 60)
    evaluation._quick_classifier.cache_clear()
    half = [np.flatnonzero(few.train_labels == label) for label in range(10)]
    own = np.concatenate([places[: len(places) // 2] for places in half])
    rest = np.concatenate([places[len(places) // 2 :] for places in half])
    np.savez(tmp_path / "real.npz", images=few.train_images[own], labels=few.train_labels[own])
    others = few._replace(train_images=few.train_images[rest], train_labels=few.train_labels[rest])
    source = sources.open(tmp_path / "real.npz")
    report = evaluation.evaluate(source, others, samples=1500, output=tmp_path / "out")
    evaluation._quick_classifier.cache_clear()
    check_scores(report, 1500)
    assert set(report["scores"]) == SCORES | {"label_agreement", "quick_accuracy_score"}
    assert set(report["classes"]) == set(CLASS_NAMES) and report["labels"] == "asked for"
    for name in ("fid_fmnist", "kid", "precision", "recall", "density", "coverage", "quick_accuracy_score"):
        score = report["scores"][name]
        spread = np.hypot(score["standard_error"], score["floor_standard_error"])
        assert abs(score["value"] - score["floor"]) < 3 * spread, name
    assert 0.4 < report["scores"]["memorization_auc"]["value"] < 0.6
    assert report["scores"]["label_agreement"]["value"] > 0.9
    for name in ("classes.png", "realism.png"):
        assert imageio.imread(tmp_path / "out" / name).shape[0] > 200
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == report
    text = evaluation.table(report)
    assert "FID-FMNIST" in text and " FID " not in text and "±" in text and "Ankle boot" in text


def test_bad_images_are_far_from_the_floor(few, tmp_path, monkeypatch):
    """Half of the classes, wrong labels, noise on top: every score that should notice does."""
    monkeypatch.setattr(evaluation, "ACCURACY_STEPS", 10)
    kept = np.flatnonzero(few.train_labels < 5)
    noise = np.random.default_rng(0).normal(0, 60, (len(kept), 28, 28, 1))
    images = (few.train_images[kept] + noise).clip(0, 255).astype("uint8")
    np.savez(tmp_path / "a.npz", images=images, labels=few.train_labels[kept] + 5)
    report = evaluation.evaluate(sources.open(tmp_path / "a.npz"), few, samples=1000, extractor="label-free")
    scores = report["scores"]
    assert scores["fid_fmnist"]["value"] > 5 * scores["fid_fmnist"]["floor"]
    assert (
        scores["recall"]["value"] < scores["recall"]["floor"]
        and scores["kid"]["value"] > scores["kid"]["floor"]
    )
    assert scores["kid"]["extractor"] == "the shipped network that has seen no label"
    assert scores["label_agreement"]["value"] < 0.3 and scores["quick_accuracy_score"]["value"] < 0.5
    assert scores["memorization_nearer_fraction"]["value"] < 0.5
    # Only the classes that were asked for have rows; some images are taken for others.
    assert list(report["classes"]) == list(CLASS_NAMES[5:])
    assert sum(rows["recognized_share"]["value"] for rows in report["classes"].values()) < 0.95


def test_copies_of_training_images_are_found(few):
    images = few.train_images, few.test_images, few.train_images[:500]
    found = evaluation.memorization_scores(*images)
    assert found["nearer_fraction"][0] == 1 and found["auc"][0] > 0.95 and found["median_ratio"][0] == 0
    assert not evaluation.memorization_scores(*images[:2], images[2][:50])


def test_the_scores_are_those_of_metrics(few):
    real, generated = (
        features.classifier_features(each[:600])[0] for each in (few.test_images, few.train_images)
    )
    scores = evaluation.neighbor_scores(real, generated)
    assert evaluation.frechet(real, generated)[0] == pytest.approx(metrics.frechet_distance(real, generated))
    assert (scores["precision"][0], scores["recall"][0]) == metrics.precision_recall(real, generated)
    assert (scores["density"][0], scores["coverage"][0]) == metrics.density_coverage(real, generated)
    assert np.isnan(evaluation.frechet(real[:130], generated)).all(), "too few for a jackknife"


@pytest.fixture
def small(few, monkeypatch):
    monkeypatch.setattr("fmgan_tf.datasets.load", lambda: few)


def test_json_is_all_that_stdout_holds(small, tmp_path, capsys):
    path = a_generator(tmp_path / "g.keras")
    words = ["evaluate", str(path), "--samples", "300", "--seed", "1"]
    assert main([*words, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    check_scores(first, 300)
    assert set(first["scores"]) == SCORES and "recognized" in first["labels"]
    assert main([*words, "--output", str(tmp_path / "new" / "out")]) == 0
    text = capsys.readouterr().out
    assert "floor" in text and "KID" in text and str(tmp_path / "new" / "out") in text
    second = json.loads((tmp_path / "new" / "out" / "evaluation.json").read_text())
    assert second["scores"] == first["scores"]  # the seed decides


@pytest.mark.parametrize("command", ["evaluate", "analyze"])
def test_an_output_that_cannot_be_written_is_known_before_the_work(
    small, tmp_path, capsys, monkeypatch, command
):
    path = a_generator(tmp_path / "g.keras")
    (tmp_path / "file").touch()
    monkeypatch.setattr(sources.Source, "sample", None)
    for output, expected in ((tmp_path / "file" / "below", "Not a directory"), ("/proc", "")):
        assert expected in fails(capsys, command, path, "--output", output)


def test_work_that_is_refused_leaves_nothing(small, tmp_path, capsys, monkeypatch):
    np.savez(tmp_path / "few.npz", images=np.zeros((20, 28, 28, 1), "uint8"))
    for command in ("evaluate", "analyze"):
        assert "gives 20 images" in fails(
            capsys, command, tmp_path / "few.npz", "--output", tmp_path / "new" / "out"
        )

    def broken(*_):
        raise InputError("its images are NaN")

    monkeypatch.setattr(generation, "sample_images", broken)
    for name in ("a.png", "a.gif"):
        assert "NaN" in fails(capsys, "generate", "cgan", "--output", tmp_path / "new" / name)
    assert [path.name for path in tmp_path.iterdir()] == ["few.npz"]


def test_one_line_errors(small, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    (tmp_path / "a.keras").write_bytes(b"not a zip")
    (tmp_path / "a.txt").touch()
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "few.npz", images=np.zeros((20, 28, 28, 1), "uint8"))
    for arguments, expected in (
        (["nowhere"], "does not exist; expected a run folder"),
        (["a.npz"], "cannot be read as plain arrays"),
        (["a.keras"], "cannot be loaded"),
        (["a.txt"], "is something else; expected a run folder"),
        (["folder"], "holds no pictures"),
        (["few.npz"], "gives 20 images and 20 real test images of their classes, expected at least 137"),
        (["few.npz", "--samples", "0"], "expected a whole number from 1"),
        (["few.npz", "--extractor", "inception"], "invalid choice"),
        (["few.npz", "--output", "a.txt"], "is a file, expected a folder"),
    ):
        line = fails(capsys, "evaluate", *arguments)
        assert expected in line, line


def test_two_classes_have_two_rows(fashion_mnist, blobs, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "ACCURACY_STEPS", 4)
    recipe = recipes.override(recipes.get("dense-cgan"), {"batch_size": 8, "steps_per_epoch": 1})
    training.train(recipe, blobs, tmp_path / "run", epochs=1, verbose=False)
    report = evaluation.evaluate(sources.open(tmp_path / "run"), fashion_mnist, samples=500)
    assert list(report["classes"]) == ["T-shirt/top", "Trouser"] and report["samples"] == 500
    names = ("label_agreement", "label_agreement_among_known")
    among_ten, among_two = (report["scores"][name]["floor"] for name in names)
    assert 0.9 < among_ten < 0.97 < among_two, "real T-shirts pass for shirts, but never for trousers"
    assert report["classes"]["Trouser"]["label_agreement"]["samples"] == 250
    text = evaluation.table(report)
    assert "among known classes" in text and "Trouser" in text and "Dress" not in text


def test_too_many_samples_are_refused(few):
    with pytest.raises(InputError, match="expected at least 137"):
        evaluation.evaluate(sources.open("cgan"), few, samples=100)
