import json
import zipfile

import imageio.v3 as imageio
import keras
import numpy as np
import pytest
from keras import layers
from test_cli import fails

from fmgan_tf import InputError, data, evaluation, features, generation, metrics, recipes, training
from fmgan_tf.__main__ import main

FIGURES = {"fid_fmnist", "kid", "precision", "recall", "density", "coverage"} | {
    f"memorisation_{name}" for name in ("median_ratio", "nearer_fraction", "auc")
}


def generator(*inputs, activation="tanh", shape=(28, 28, 1), scale=1.0):
    """An untrained generator that pays attention to all of its inputs."""
    flat = [layers.Embedding(10, 4)(x) if "int" in x.dtype else x for x in inputs]
    flat = [layers.Flatten()(x) for x in flat]
    x = layers.concatenate(flat) if len(flat) > 1 else flat[0]
    x = layers.Dense(int(np.prod(shape)), activation=activation, kernel_initializer="random_normal")(x)
    if scale != 1.0:
        x = layers.Rescaling(scale)(x)
    return keras.Model(list(inputs), layers.Reshape(shape)(x))


def save(model, path):
    model.save(path)
    return path


# SOURCE


@pytest.mark.parametrize("shape", [(28, 28, 1), (28, 28)])
def test_npz(tmp_path, shape):
    images = np.random.default_rng(0).integers(0, 256, (30, *shape)).astype("uint8")
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(30) % 10)
    found, labels = evaluation.images_of(tmp_path / "a.npz", 20, seed=0)
    assert found.shape == (20, 28, 28, 1) and found.dtype == np.uint8
    for image, label in zip(found, labels, strict=True):  # pairs stay pairs, and nothing comes twice
        (place,) = np.flatnonzero((images.reshape(30, -1) == image.ravel()).all(1))
        assert label == place % 10
    assert len(np.unique(found, axis=0)) == 20
    assert len(evaluation.images_of(tmp_path / "a.npz", 50, seed=0)[0]) == 30
    np.savez(tmp_path / "b.npz", images=images)
    assert evaluation.images_of(tmp_path / "b.npz", 20, seed=0)[1] is None


IMAGES = np.zeros((4, 28, 28, 1), "uint8")


@pytest.mark.parametrize(
    "arrays, expected",
    [
        ({"pictures": IMAGES}, "expected `images`"),
        ({"images": IMAGES.astype("float32")}, "`images` is float32"),
        ({"images": IMAGES[0]}, r"`images` is uint8 \(28, 28, 1\)"),
        ({"images": np.zeros((4, 28, 28, 3), "uint8")}, "expected uint8"),
        ({"images": np.array([{}], object)}, "plain arrays"),
        ({"images": np.zeros((300, 0, 0, 1), "uint8")}, "expected uint8"),
        ({"images": IMAGES, "labels": np.arange(3)}, "expected 4 whole numbers"),
        ({"images": IMAGES, "labels": np.arange(4) + 7}, "from 0 to 9"),
        ({"images": IMAGES, "labels": np.zeros(4)}, "whole numbers"),
    ],
)
def test_bad_npz(tmp_path, arrays, expected):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=expected) as error:
        evaluation.images_of(tmp_path / "a.npz", 4, seed=0)
    assert "\n" not in str(error.value)


def noise_input(size=6):
    return keras.Input((size,), name="z")


@pytest.mark.parametrize(
    "build, noise_at, label",
    [
        (lambda: generator(noise_input()), 0, None),
        (lambda: generator(noise_input(), keras.Input((), dtype="int32")), 0, "number"),
        (lambda: generator(keras.Input((1,), dtype="int64"), noise_input()), 1, "number"),
        (lambda: generator(noise_input(10), keras.Input((1,))), 0, "number"),
        (lambda: generator(keras.Input((10,)), noise_input()), 1, "one-hot"),
        (lambda: generator(noise_input(), keras.Input((10,)), shape=(28, 28)), 0, "one-hot"),
        (lambda: generator(noise_input(), shape=(32, 32, 1)), 0, None),
    ],
)
def test_generators_of_others(tmp_path, build, noise_at, label):
    model = build()
    path = save(model, tmp_path / "g.keras")
    opened = generation.open_generator(path)
    assert (opened.noise_input, opened.label) == (noise_at, label)
    images, labels = evaluation.images_of(path, 300, seed=4)
    assert images.dtype == np.uint8 and images.shape[0] == 300 and images.shape[3] == 1
    # By hand
    noise = training.sample_noise(4, 300, opened.latent_dim)
    inputs = [noise]
    if label:
        assert (np.bincount(labels) == 30).all()
        given = keras.utils.to_categorical(labels, 10) if label == "one-hot" else labels
        inputs.insert(1 - noise_at, given.reshape(-1, *model.inputs[1 - noise_at].shape[1:]))
    else:
        assert labels is None
    expected = data.from_tanh_range(model(inputs if label else noise)).reshape(images.shape)
    assert np.abs(images.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "activation, scale, convert",
    [
        ("tanh", 1.0, data.from_tanh_range),
        ("sigmoid", 1.0, data.from_unit_range),
        # The last layer tells nothing; the values do
        ("tanh", 0.99, data.from_tanh_range),
        ("sigmoid", 0.99, data.from_unit_range),
        ("sigmoid", 255.0, lambda images: np.rint(images).astype("uint8")),
    ],
)
def test_the_range_is_inferred(tmp_path, activation, scale, convert):
    model = generator(noise_input(), activation=activation, scale=scale)
    images, _ = evaluation.images_of(save(model, tmp_path / "g.keras"), 20, seed=0)
    expected = convert(np.asarray(model(training.sample_noise(0, 20, 6))))
    assert np.abs(images.astype(int) - expected).max() <= 1 and np.ptp(expected) > 40


def not_generators():
    image, noise = keras.Input((28, 28, 1)), noise_input()
    lambdas = keras.Sequential(
        [noise_input(), layers.Dense(784), layers.Reshape((28, 28, 1)), layers.Lambda(lambda x: x)]
    )
    broken = generator(noise_input())
    broken.set_weights([np.full_like(weight, np.nan) for weight in broken.get_weights()])
    return {
        "classifier": (features.classifier(), "is no generator"),
        "autoencoder": (keras.Model(image, layers.Conv2D(1, 3, padding="same")(image)), "expected noise"),
        "colours": (generator(noise, shape=(28, 28, 3)), "expected images"),
        "flat": (keras.Model(noise, layers.Dense(784)(noise)), "expected images"),
        "two noises": (generator(noise_input(), keras.Input((7,))), "one label"),
        "two labels": (generator(noise_input(10), keras.Input((10,))), "one label"),
        "lambda": (lambdas, "cannot be loaded"),
        "nan": (broken, "NaN"),
    }


def test_a_model_of_a_newer_keras_says_so(tmp_path):
    path = save(generator(noise_input()), tmp_path / "new.keras")
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["metadata.json"] = json.dumps({"keras_version": "99.0"})
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert generation.open_generator(path).latent_dim == 6  # what can be loaded is, whatever saved it
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content.replace(b'"stddev"', b'"what_comes_next"') if name == "config.json" else content)
    with pytest.raises(InputError, match=f"cannot be loaded by Keras {keras.__version__}; it was saved by 99.0 [(]"):
        generation.open_generator(path)


def test_what_is_no_generator_is_refused(tmp_path):
    for name, (model, expected) in not_generators().items():
        path = save(model, tmp_path / f"{name}.keras")
        with pytest.raises(InputError, match=expected) as error:
            evaluation.images_of(path, 4, seed=0)
        assert "\n" not in str(error.value), name


def test_a_run_folder(blobs, tmp_path):
    recipe = recipes.override(recipes.get("dcgan"), {"batch_size": 8, "steps_per_epoch": 2, "image_size": 32})
    training.train(recipe, blobs, tmp_path / "run", epochs=1, verbose=False)
    images, labels = evaluation.images_of(tmp_path / "run", 10, seed=2)
    generator = generation.load_generator(tmp_path / "run")
    expected = data.from_tanh_range(generator(training.sample_noise(2, 10, 100)))
    assert labels is None and images.shape == (10, 32, 32, 1)
    assert np.abs(images.astype(int) - expected).max() <= 1


# Figures


def check_figures(report, samples):
    figures = [*report["figures"].items()]
    figures += [item for figures in report["classes"].values() for item in figures.items()]
    for name, figure in figures:
        assert {"value", "standard_error", "samples", "extractor", "floor", "floor_standard_error"} <= set(figure), name
        assert figure["extractor"] and 0 <= figure["samples"] <= samples, name
        for key in ("value", "standard_error", "floor", "floor_standard_error"):
            assert figure[key] is None or np.isfinite(figure[key]), (name, key)
    for name, figure in report["figures"].items():
        assert None not in figure.values() and figure["standard_error"] >= 0, name
        assert figure["samples"] > 100


def test_real_images_are_about_at_the_floor(few, tmp_path, monkeypatch):
    """Other training images than those of the floor, so that nothing is compared with itself."""
    monkeypatch.setattr(evaluation, "ACCURACY_STEPS", 80)
    floor = np.random.default_rng(0).permutation(3000)[1500:]  # evaluate() draws the test images first
    np.savez(tmp_path / "real.npz", images=few.train_images[floor], labels=few.train_labels[floor])
    report = evaluation.evaluate(tmp_path / "real.npz", few, samples=1500, output=tmp_path / "out")
    check_figures(report, 1500)
    assert set(report["figures"]) == FIGURES | {"label_agreement", "classification_accuracy"}
    assert set(report["classes"]) == set(data.CLASS_NAMES) and report["labels"] == "asked for"
    for name in ("fid_fmnist", "kid", "precision", "recall", "density", "coverage", "classification_accuracy"):
        figure = report["figures"][name]
        spread = np.hypot(figure["standard_error"], figure["floor_standard_error"])
        assert abs(figure["value"] - figure["floor"]) < 5 * spread, name
    # They are training images: copies, of which every one is found
    assert report["figures"]["memorisation_nearer_fraction"]["value"] == 1
    assert report["figures"]["memorisation_auc"]["value"] > 0.95
    assert report["figures"]["label_agreement"]["value"] > 0.9
    for name in ("classes.png", "realism.png"):
        assert imageio.imread(tmp_path / "out" / name).shape[0] > 200
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == report
    text = evaluation.table(report)
    assert "FID-FMNIST" in text and " FID " not in text and "±" in text and "Ankle boot" in text


def test_bad_images_are_far_from_the_floor(few, tmp_path, monkeypatch):
    """Half of the classes, wrong labels, noise on top: every figure that should notice does."""
    monkeypatch.setattr(evaluation, "ACCURACY_STEPS", 80)
    kept = np.flatnonzero(few.train_labels < 5)
    images = few.train_images[kept].astype(int) + np.random.default_rng(0).normal(0, 60, (len(kept), 28, 28, 1))
    np.savez(tmp_path / "a.npz", images=images.clip(0, 255).astype("uint8"), labels=few.train_labels[kept] + 5)
    report = evaluation.evaluate(tmp_path / "a.npz", few, samples=1000)
    figures = report["figures"]
    assert figures["fid_fmnist"]["value"] > 5 * figures["fid_fmnist"]["floor"]
    assert figures["recall"]["value"] < figures["recall"]["floor"] and figures["kid"]["value"] > figures["kid"]["floor"]
    assert figures["label_agreement"]["value"] < 0.3 and figures["classification_accuracy"]["value"] < 0.5
    assert figures["memorisation_nearer_fraction"]["value"] < 0.5
    # Only the classes that were asked for have rows; some images are taken for others.
    assert list(report["classes"]) == list(data.CLASS_NAMES[5:])
    assert sum(figure["recognised_share"]["value"] for figure in report["classes"].values()) < 0.95


def test_the_figures_are_those_of_metrics(few):
    real, generated = (features.classifier_features(images[:600])[0] for images in (few.test_images, few.train_images))
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
        evaluation.evaluate(tmp_path, few, samples=2048, extractor="inception")


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
    assert "inception_distance" in report["figures"] and "fid_fmnist" not in report["figures"]
    assert report["figures"]["kid"]["extractor"] == "keras.applications.InceptionV3"
    assert "not the 2015 weights" in evaluation.table(report)


# Command line


@pytest.fixture
def small(few, monkeypatch):
    monkeypatch.setattr(data, "load_fashion_mnist", lambda: few)


def test_json_is_all_that_stdout_holds(small, few, tmp_path, capsys):
    path = save(generator(noise_input()), tmp_path / "g.keras")
    assert main(["evaluate", str(path), "--samples", "300", "--seed", "1", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    check_figures(first, 300)
    assert set(first["figures"]) == FIGURES and "recognised" in first["labels"]
    assert (
        main(["evaluate", str(path), "--samples", "300", "--seed", "1", "--output", str(tmp_path / "new" / "out")]) == 0
    )
    text = capsys.readouterr().out
    assert "floor" in text and "KID" in text and str(tmp_path / "new" / "out") in text
    second = json.loads((tmp_path / "new" / "out" / "evaluation.json").read_text())
    assert second["figures"] == first["figures"]  # the seed decides


@pytest.mark.parametrize("command", ["evaluate", "analyze"])
def test_an_output_that_cannot_be_written_is_known_before_the_work(small, tmp_path, capsys, monkeypatch, command):
    path = save(generator(noise_input()), tmp_path / "g.keras")
    (tmp_path / "file").touch()
    monkeypatch.setattr(evaluation, "images_of", None)
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
        (["few.npz"], "holds 20 images, too few for 128 features"),
        (["few.npz", "--samples", "100"], "too few for 128 features"),
        (["few.npz", "--samples", "0"], "expected a whole number from 1"),
        (["few.npz", "--extractor", "inceptoin"], "Did you mean 'inception'"),
        (["few.npz", "--inception-weights", "x.h5"], "needs --extractor inception"),
        (["few.npz", "--extractor", "inception", "--inception-weights", "x.h5"], "x.h5 does not hold"),
        (["few.npz", "--output", "a.txt"], "is a file, expected a folder"),
    ):
        line = fails(capsys, "evaluate", *arguments)
        assert expected in line, line


def test_the_classifier_on_the_command_line(blobs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "load_fashion_mnist", lambda: blobs)
    monkeypatch.setattr(recipes, "CLASSIFIER", recipes.ClassifierRecipe(filters=2, batch_size=50))
    assert main(["list"]) == 0 and "\nclassifier" in capsys.readouterr().out
    assert main(["train", "classifier", "--epochs", "1"]) == 0
    assert "of the test images recognised" in capsys.readouterr().out
    assert (tmp_path / "runs/classifier/classifier.keras").exists()
    assert "There is no run in runs/" in fails(capsys, "train", "--resume")
    assert "hyper-parameters are fixed" in fails(capsys, "train", "classifier", "--set", "epochs=3")
    assert "holds a run already" in fails(capsys, "train", "classifier", "--output", "runs/classifier")
    assert "holds a classifier" in fails(capsys, "evaluate", "runs/classifier")
    assert "holds a classifier" in fails(capsys, "generate", "runs/classifier", "--output", "a.png")


def test_images_of_some_classes_are_set_against_those_classes(fashion_mnist, blobs, tmp_path):
    assert evaluation.real_images(tmp_path / "a.npz", fashion_mnist) is fashion_mnist
    found = evaluation.real_images(tmp_path / "a.npz", fashion_mnist, np.array([3, 7, 3]))
    assert set(found.test_labels) == set(found.train_labels) == {3, 7}
    assert len(found.test_images) == 2000 and len(found.train_images) == 12_000
    # A run on two classes was trained on most of the test images: it is set against those that it has not seen.
    recipe = recipes.override(recipes.get("dense-cgan"), {"batch_size": 8, "steps_per_epoch": 1})
    training.train(recipe, blobs, tmp_path / "run", epochs=1, verbose=False)
    found = evaluation.real_images(tmp_path / "run", fashion_mnist)
    assert len(found.test_images) == 1400 and len(found.train_images) == 11_200
    seen = {image.tobytes() for image in found.train_images}
    assert sum(image.tobytes() in seen for image in found.test_images) < 5  # Fashion-MNIST has a few doubles


def test_two_classes_have_two_rows(fashion_mnist, blobs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluation, "ACCURACY_STEPS", 20)
    monkeypatch.setattr(data, "load_fashion_mnist", lambda: fashion_mnist)
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
