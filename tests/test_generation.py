"""Generators and the images from them, and the shipped models, verified."""

import functools
import hashlib
import json

import keras
import numpy as np
import pytest

from fmgan_tf import InputError, data, datasets, features, generation, metrics, recipes
from fmgan_tf.runs import sources


@pytest.fixture
def assets(tmp_path, monkeypatch):
    """A folder with the generators of two recipes, in place of what is really shipped."""
    monkeypatch.setattr(generation, "ASSETS", tmp_path)
    lines = ["0  classifier/classifier.keras\n"]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    for recipe in ("dcgan", "cgan"):
        (tmp_path / recipe).mkdir()
        path = tmp_path / recipe / "generator.keras"
        model.save(path)
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {recipe}/generator.keras\n")
    (tmp_path / generation.SUMS).write_text("".join(lines))
    generation.digests.cache_clear()
    yield tmp_path
    generation.digests.cache_clear()


def test_everything_that_can_be_loaded_is_verified():
    files = {path.relative_to(generation.ASSETS).as_posix() for path in generation.ASSETS.rglob("*.keras")}
    assert files == set(generation.digests())
    assert not [path for path in generation.ASSETS.rglob("*") if path.suffix in (".pkl", ".h5", ".npy")]


@pytest.mark.parametrize("name", generation.digests())
def test_shipped_models_are_small_and_bare(name):
    path = generation.verified(name)
    assert path.stat().st_size <= 2_000_000
    assert getattr(keras.models.load_model(path), "optimizer", None) is None


@functools.cache
def real_features(images):
    """Of test images, once for all generators that are measured against the same."""
    return features.classifier_features(np.frombuffer(images, "uint8").reshape(-1, 28, 28, 1))[0]


@pytest.mark.parametrize("name", generation.shipped())
def test_shipped_generators_are_as_good_as_their_records_say(name, fashion_mnist):
    folder = generation.ASSETS / name
    scores = json.loads((folder / "evaluation.json").read_text())["scores"]
    run = json.loads((folder / "run.json").read_text())
    assert run["status"] == "complete" and run["recipe"]["name"] == name and run["seconds"] > 0
    source = sources.open(name)
    images, labels = source.sample(10_000, seed=0)
    dataset, *_ = data.split_dataset(fashion_mnist, source.recipe.classes)
    found, recognized = features.classifier_features(images)
    distance = metrics.frechet_distance(real_features(dataset.test_images.tobytes()), found)
    recorded = scores["fid_fmnist"]
    assert distance == pytest.approx(recorded["value"], abs=4 * recorded["standard_error"])
    if labels is not None:
        agreement, _ = metrics.label_agreement(labels, recognized, 10)
        assert agreement == pytest.approx(scores["label_agreement"]["value"], abs=0.01)


def test_load_pretrained(assets):
    assert generation.shipped() == ("dcgan", "cgan")
    assert generation.load_pretrained("cgan").output_shape == (None, 4)


@pytest.mark.parametrize("damage", [lambda byte: b"", lambda byte: bytes([byte ^ 1])])
def test_damaged_and_missing_files_are_refused(assets, damage):
    path = assets / "cgan" / "generator.keras"
    content = path.read_bytes()
    path.write_bytes(content[:1000] + damage(content[1000]) + content[1001:])
    with pytest.raises(InputError, match="generator.keras is damaged; .*[Cc]lone") as error:
        generation.load_pretrained("cgan")
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    path.unlink()
    with pytest.raises(InputError, match="generator.keras is missing; .*whole checkout.*[Cc]lone"):
        generation.verified("cgan/generator.keras")


def test_unknown_recipes_are_refused(assets):
    for name in ("cgn", "classifier", "../cgan", ""):
        with pytest.raises(InputError, match="there are dcgan, cgan. Did you mean '(dc|c)gan'") as error:
            generation.load_pretrained(name)
        assert repr(name) in str(error.value) and "\n" not in str(error.value)
    (assets / generation.SUMS).unlink()
    generation.digests.cache_clear()
    with pytest.raises(InputError, match="is missing; .*whole checkout"):
        generation.load_pretrained("cgan")


def test_a_generator_knows_the_names_of_its_classes():
    model = generation.load_pretrained("dense-cgan")
    generator = generation.of_recipe(model, recipes.get("dense-cgan"), ("cat", "dog", "bird"))
    assert generator.class_names == ("cat", "dog") and generator.classes == 2
    images = generation.sample_images(generator, generation.sample_noise(0, 3, 100), [0, 1, 1])
    assert images.shape == (3, 28, 28, 1) and images.dtype == np.uint8
    shipped = generation.load_generator("dcgan")
    assert shipped.class_names == () and shipped.classes == 0
    assert generation.load_generator("cgan").class_names == datasets.CLASS_NAMES


def test_generators_that_fail_or_give_nan_are_one_line():
    noise, dense = keras.Input((2,)), keras.layers.Dense(1)
    model = keras.Model(noise, dense(noise), name="broken")
    dense.set_weights([np.full((2, 1), np.nan), np.zeros(1)])
    generator = generation.Generator(model, 2, (), lambda noise, labels: noise, np.asarray)
    with pytest.raises(InputError, match="'broken' gives values that are NaN"):
        generation.sample_images(generator, np.zeros((3, 2), "float32"))
    with pytest.raises(InputError, match="'broken' fails"):
        generation.sample_images(generator, np.zeros((3, 5), "float32"))


def test_great_circles():
    start, end = generation.sample_noise(0, 2, 64).reshape(2, 1, 64)
    np.testing.assert_allclose(generation.slerp(start, end, 0.0), start, rtol=1e-6)
    np.testing.assert_allclose(generation.slerp(start, end, 1.0), end, rtol=1e-6)
    x, y = np.eye(2)
    np.testing.assert_allclose(generation.slerp(x, y, 1 / 3), [np.sqrt(3) / 2, 1 / 2])
    np.testing.assert_allclose(generation.slerp(x, 2 * x, 0.25), [1.25, 0])  # parallel: a straight line
