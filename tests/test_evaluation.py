import json
import shutil

import imageio.v3 as imageio
import keras
import numpy as np
import pytest
from test_cli import fails

from fmgan_tf import InputError, features, metrics, pretrained, recipes
from fmgan_tf.__main__ import main
from fmgan_tf.fashion_mnist import CLASS_NAMES
from fmgan_tf.runs import evaluation, sources, training

DISTANCES = {"fid_fmnist", "fid_fmnist_infinity", "label_free_distance", "random_distance"}
FIGURES = DISTANCES | {"kid", "precision", "recall", "density", "coverage"}
FIGURES |= {f"memorization_{name}" for name in ("median_ratio", "nearer_fraction", "auc", "copied_share")}


def a_generator(path):
    """An untrained generator of six noise values, saved there."""
    noise = keras.Input((6,), name="z")
    pixels = keras.layers.Dense(784, activation="tanh", kernel_initializer="random_normal")(noise)
    keras.Model(noise, keras.layers.Reshape((28, 28, 1))(pixels)).save(path)
    return path


# Figures


def check_figures(report, samples):
    figures = [*report["figures"].items()]
    figures += [item for figures in report["classes"].values() for item in figures.items()]
    for name, figure in figures:
        assert {"value", "standard_error", "samples", "extractor", "floor", "floor_standard_error"} <= set(
            figure
        ), name
        assert figure["extractor"] and 0 <= figure["samples"] <= samples, name
        for key in ("value", "standard_error", "floor", "floor_standard_error"):
            assert figure[key] is None or np.isfinite(figure[key]), (name, key)
    for name, figure in report["figures"].items():
        assert None not in figure.values() and figure["standard_error"] >= 0, name
        assert figure["samples"] > 100


def test_real_images_are_about_at_the_floor(few, tmp_path, monkeypatch):
    """Other training images than those of the floor, so that nothing is compared with itself."""
    monkeypatch.setattr(evaluation, "ACCURACY_STEPS", 60)
    floor = np.random.default_rng(0).permutation(3000)[1500:]  # evaluate() draws the test images first
    np.savez(tmp_path / "real.npz", images=few.train_images[floor], labels=few.train_labels[floor])
    report = evaluation.evaluate(tmp_path / "real.npz", few, samples=1500, output=tmp_path / "out")
    check_figures(report, 1500)
    assert set(report["figures"]) == FIGURES | {"label_agreement", "quick_accuracy_score"}
    assert set(report["classes"]) == set(CLASS_NAMES) and report["labels"] == "asked for"
    for name in ("fid_fmnist", "kid", "precision", "recall", "density", "coverage", "quick_accuracy_score"):
        figure = report["figures"][name]
        spread = np.hypot(figure["standard_error"], figure["floor_standard_error"])
        assert abs(figure["value"] - figure["floor"]) < 5 * spread, name
    # They are training images: copies, of which every one is found
    assert report["figures"]["memorization_nearer_fraction"]["value"] == 1
    assert report["figures"]["memorization_auc"]["value"] > 0.95
    assert report["figures"]["memorization_copied_share"]["value"] == 1
    assert report["figures"]["label_agreement"]["value"] > 0.9
    for name in ("classes.png", "realism.png"):
        assert imageio.imread(tmp_path / "out" / name).shape[0] > 200
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == report
    text = evaluation.table(report)
    assert "FID-FMNIST" in text and " FID " not in text and "±" in text and "Ankle boot" in text


def test_bad_images_are_far_from_the_floor(few, tmp_path, monkeypatch):
    """Half of the classes, wrong labels, noise on top: every figure that should notice does."""
    monkeypatch.setattr(evaluation, "ACCURACY_STEPS", 10)
    kept = np.flatnonzero(few.train_labels < 5)
    images = few.train_images[kept].astype(int) + np.random.default_rng(0).normal(
        0, 60, (len(kept), 28, 28, 1)
    )
    np.savez(
        tmp_path / "a.npz", images=images.clip(0, 255).astype("uint8"), labels=few.train_labels[kept] + 5
    )
    report = evaluation.evaluate(tmp_path / "a.npz", few, samples=1000)
    figures = report["figures"]
    assert figures["fid_fmnist"]["value"] > 5 * figures["fid_fmnist"]["floor"]
    assert (
        figures["recall"]["value"] < figures["recall"]["floor"]
        and figures["kid"]["value"] > figures["kid"]["floor"]
    )
    assert figures["label_agreement"]["value"] < 0.3 and figures["quick_accuracy_score"]["value"] < 0.5
    assert figures["memorization_nearer_fraction"]["value"] < 0.5
    # Only the classes that were asked for have rows; some images are taken for others.
    assert list(report["classes"]) == list(CLASS_NAMES[5:])
    assert sum(figure["recognized_share"]["value"] for figure in report["classes"].values()) < 0.95


def test_the_figures_are_those_of_metrics(few):
    real, generated = (
        features.classifier_features(images[:600])[0] for images in (few.test_images, few.train_images)
    )
    figures = evaluation.distribution_figures(real, generated)
    assert figures["frechet"][0] == pytest.approx(metrics.frechet_distance(real, generated))
    assert (figures["precision"][0], figures["recall"][0]) == metrics.precision_recall(real, generated)
    assert (figures["density"][0], figures["coverage"][0]) == metrics.density_coverage(real, generated)


def test_a_class_that_is_hardly_made_has_no_distance():
    random = np.random.default_rng(0)
    real, generated = random.normal(size=(2, 300, 4))
    labels = np.arange(300) % 10
    distances, errors = evaluation.class_distances(real, labels, generated, np.where(labels == 3, 2, labels))
    assert np.isnan(distances[3]) and np.isnan(errors[3])
    assert np.isfinite(np.delete(distances, 3)).all() and (np.delete(errors, 3) > 0).all()


def test_realism_sorts_by_distance():
    real = np.random.default_rng(0).normal(size=(50, 2))
    places = np.concatenate([np.zeros((40, 2)), np.full((40, 2), 9.0)])
    images = np.zeros((80, 28, 28, 1), "uint8")
    images[40:] = 255
    sheet = evaluation.show_realism(images, places, real).axes[0].images[0].get_array()
    assert sheet[2:27, 2:27].max() == 0 and sheet[-27:-2, 2:27].min() == 255


def test_inception_needs_more_images_than_features(few, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "inception", lambda weights: object())
    with pytest.raises(InputError, match="2048 features"):
        evaluation.evaluate("cgan", few, samples=2048, extractor="inception")


def test_inception_figures_are_named_so(few, tmp_path, monkeypatch):
    """With a stand-in of two thousand features, because the real one would take minutes."""
    monkeypatch.setattr(features, "inception", lambda weights: object())
    random = np.random.default_rng(0)
    monkeypatch.setattr(
        features, "inception_features", lambda images, model, label: random.normal(size=(len(images), 20))
    )
    monkeypatch.setattr(evaluation, "INCEPTION_FEATURES", 20)
    np.savez(tmp_path / "a.npz", images=few.train_images[:1000])
    report = evaluation.evaluate(tmp_path / "a.npz", few, samples=400, extractor="inception")
    check_figures(report, 400)
    own = {"inception_distance", "inception_distance_infinity"}
    assert set(report["figures"]) >= own | (DISTANCES - {"fid_fmnist_infinity"})
    assert report["figures"]["kid"]["extractor"] == "keras.applications.InceptionV3"
    assert "not the 2015 weights" in evaluation.table(report)


# Command line


@pytest.fixture
def small(few, monkeypatch):
    monkeypatch.setattr("fmgan_tf.fashion_mnist.load", lambda: few)


def test_json_is_all_that_stdout_holds(small, few, tmp_path, capsys):
    path = a_generator(tmp_path / "g.keras")
    assert main(["evaluate", str(path), "--samples", "300", "--seed", "1", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    check_figures(first, 300)
    assert set(first["figures"]) == FIGURES and "recognized" in first["labels"]
    assert (
        main(
            [
                "evaluate",
                str(path),
                "--samples",
                "300",
                "--seed",
                "1",
                "--output",
                str(tmp_path / "new" / "out"),
            ]
        )
        == 0
    )
    text = capsys.readouterr().out
    assert "floor" in text and "KID" in text and str(tmp_path / "new" / "out") in text
    second = json.loads((tmp_path / "new" / "out" / "evaluation.json").read_text())
    assert second["figures"] == first["figures"]  # the seed decides


@pytest.mark.parametrize("command", ["evaluate", "analyze"])
def test_an_output_that_cannot_be_written_is_known_before_the_work(
    small, tmp_path, capsys, monkeypatch, command
):
    path = a_generator(tmp_path / "g.keras")
    (tmp_path / "file").touch()
    monkeypatch.setattr(sources, "draw", None)
    for output, expected in ((tmp_path / "file" / "below", "Not a directory"), ("/proc", "")):
        assert expected in fails(capsys, command, path, "--output", output)


def test_one_line_errors(small, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    (tmp_path / "a.keras").write_bytes(b"not a zip")
    (tmp_path / "a.txt").touch()
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "few.npz", images=np.zeros((20, 28, 28, 1), "uint8"))
    for arguments, expected in (
        (["nowhere"], "does not exist; expected a run folder"),
        (["a.npz"], "cannot be read as an .npz"),
        (["a.keras"], "cannot be loaded"),
        (["a.txt"], "expected a run folder, a .keras generator or an .npz"),
        (["folder"], "not a run folder"),
        (["few.npz"], "gives 20 images, expected at least 138"),
        (["few.npz", "--samples", "100"], "too few for 128 features"),
        (["few.npz", "--samples", "0"], "expected a whole number from 1"),
        (["few.npz", "--extractor", "inceptoin"], "Did you mean 'inception'"),
        (["few.npz", "--inception-weights", "x.h5"], "needs --extractor inception"),
        (["few.npz", "--extractor", "inception", "--inception-weights", "x.h5"], "x.h5 does not hold"),
        (["few.npz", "--output", "a.txt"], "is a file, expected a folder"),
    ):
        line = fails(capsys, "evaluate", *arguments)
        assert expected in line, line


def test_a_folder_of_the_classifier_is_no_source(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pretrained.ASSETS / "classifier", tmp_path / "runs" / "classifier")
    assert "There is no run in runs/" in fails(capsys, "train", "--resume")
    assert "No recipe 'classifier'" in fails(capsys, "train", "classifier")
    assert "holds a classifier" in fails(capsys, "evaluate", "runs/classifier")
    assert "holds a classifier" in fails(capsys, "generate", "runs/classifier", "--output", "a.png")


def test_two_classes_have_two_rows(fashion_mnist, blobs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluation, "ACCURACY_STEPS", 4)
    monkeypatch.setattr("fmgan_tf.fashion_mnist.load", lambda: fashion_mnist)
    recipe = recipes.override(recipes.get("dense-cgan"), {"batch_size": 8, "steps_per_epoch": 1})
    training.train(recipe, blobs, tmp_path / "run", epochs=1, verbose=False)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--samples", "500", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["classes"]) == ["T-shirt/top", "Trouser"] and report["samples"] == 500
    among_ten, among_two = (
        report["figures"][name]["floor"] for name in ("label_agreement", "label_agreement_among_known")
    )
    assert 0.9 < among_ten < 0.97 < among_two, "real T-shirts pass for shirts, but never for trousers"
    assert report["classes"]["Trouser"]["label_agreement"]["samples"] == 250
    assert "among known classes" in evaluation.table(report)
    assert "Trouser" in evaluation.table(report) and "Dress" not in evaluation.table(report)
