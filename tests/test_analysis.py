"""Known structure is found, and none where there is none."""

import csv
import dataclasses
import re
import sys

import keras
import numpy as np
import pytest

from fmgan_tf import InputError, analysis, generation, recipes
from fmgan_tf.__main__ import main
from fmgan_tf.runs import report, sources

RANDOM = np.random.default_rng


def blobs_of_points(count=150, dimensions=30, distance=20.0, seed=0):
    """Three Gaussian clouds far apart, and which is which."""
    random = RANDOM(seed)
    centers = random.standard_normal((3, dimensions))
    centers *= distance / np.linalg.norm(centers, axis=1, keepdims=True)
    labels = np.repeat(range(3), count)
    return centers[labels] + random.standard_normal((3 * count, dimensions)), labels


@pytest.mark.parametrize("method", analysis.CLUSTERINGS)
def test_three_clouds_are_three_clusters(method):
    points, labels = blobs_of_points()
    found = analysis.find_clusters(points, labels, method)
    assert found["clusters"] == 3 and found["ari"] == pytest.approx(1) and found["nmi"] == pytest.approx(1)
    assert found["silhouette"] > 0.5 and found["left_out"] < 0.1 and len(found["assigned"]) == len(points)
    shuffled = analysis.find_clusters(points, RANDOM(1).permutation(labels), method)
    assert abs(shuffled["ari"]) < 0.05, "labels that have nothing to do with the clusters"


def test_one_cloud_is_no_cluster():
    found = analysis.find_clusters(RANDOM(0).standard_normal((300, 20)), np.arange(300) % 3, "HDBSCAN")
    assert found["clusters"] < 2 and np.isnan(found["ari"])
    found = analysis.find_clusters(RANDOM(0).standard_normal((300, 20)), np.arange(300) % 3, "k-means")
    assert found["clusters"] == 3 and abs(found["ari"]) < 0.05, "k-means always finds what it is told to"


@pytest.mark.parametrize("method", analysis.EMBEDDINGS)
def test_embeddings_keep_clouds_apart_and_repeat(method):
    points, labels = blobs_of_points(60)
    places = analysis.embed(points, method, seed=3)
    assert places.shape == (180, 2) and np.isfinite(places).all()
    assert analysis.find_clusters(places, labels, "k-means")["ari"] == pytest.approx(1)
    np.testing.assert_array_equal(places, analysis.embed(points, method, seed=3))


def test_embedding_without_umap(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match="pip install umap-learn"):
        analysis.embed(np.zeros((10, 3)), "UMAP")
    with pytest.raises(InputError, match="PCA, t-SNE, UMAP"):
        analysis.embed(np.zeros((10, 3)), "tsne")
    with pytest.raises(InputError, match="k-means, HDBSCAN"):
        analysis.find_clusters(np.zeros((10, 3)), np.zeros(10), "kmeans")


def test_diversity_is_the_mean_distance():
    assert analysis.diversity(np.array([[0.0, 0], [3, 4], [0, 0]])) == pytest.approx(10 / 3)
    assert analysis.diversity(np.ones((20, 4))) == 0 and np.isnan(analysis.diversity(np.ones((1, 4))))


def test_per_class_sees_a_class_without_variety():
    random = RANDOM(0)
    labels = np.repeat([2, 5], 200)
    real = random.standard_normal((400, 8)) + 10 * labels[:, None]
    generated = random.standard_normal((400, 8)) + 10 * labels[:, None]
    generated[labels == 5] = 50 + 0.1 * random.standard_normal((200, 8))
    rows = analysis.per_class(real, labels, generated, labels)
    assert set(rows) == {2, 5} and rows[2]["count"] == 200
    assert (
        rows[2]["diversity"] == pytest.approx(1, abs=0.1) and rows[2]["precision"] > 0.6 < rows[2]["recall"]
    )
    assert rows[5]["diversity"] == pytest.approx(0.1, abs=0.02)
    assert rows[5]["precision"] > 0.9 and rows[5]["recall"] < 0.1
    assert np.isnan(analysis.per_class(real, labels, generated[:205], labels[:205])[5]["precision"])


def test_attributes_of_known_images():
    images = np.zeros((4, 28, 28, 1), "uint8")
    images[1] = 255
    images[2, :, :14] = 255  # the left half
    images[3, 10:18, 10:18] = 255  # a square in the middle
    found = analysis.attributes(images)
    assert set(found) == set(analysis.ATTRIBUTES)
    np.testing.assert_allclose(found["brightness"], [0, 1, 0.5, 64 / 784])
    np.testing.assert_allclose(found["filled area"], [0, 1, 0.5, 64 / 784])
    np.testing.assert_allclose(found["symmetry"], [1, 1, 0, 1])
    # A step of 1 in one of 27 places of every row; and two in each of 8 rows and 8 columns
    np.testing.assert_allclose(found["edge density"], [0, 0, 1 / 54, 16 / (27 * 28)])


def test_effect_size_by_hand():
    real, generated = np.array([0.0, 2.0] * 50), np.array([1.0, 3.0] * 50)  # means 1 and 2, deviations 1
    d, low, high = analysis.effect_size(real, generated)
    error = np.sqrt(1 / 100 + 1 / 100 + 1 / 400)
    np.testing.assert_allclose([d, low, high], [1, 1 - 1.959964 * error, 1 + 1.959964 * error], rtol=1e-6)
    _, lower, higher = analysis.effect_size(real, generated, tests=10)
    np.testing.assert_allclose([lower, higher], [1 - 2.807034 * error, 1 + 2.807034 * error], rtol=1e-6)
    assert analysis.effect_size(np.zeros(20), np.zeros(20))[0] == 0  # no spread, no difference


def test_the_interval_of_an_effect_holds_the_true_one_in_95_of_100_cases():
    random = RANDOM(0)
    draws = [analysis.effect_size(random.normal(0, 1, 60), random.normal(0.5, 1, 60)) for _ in range(2000)]
    assert 0.935 < np.mean([low < 0.5 < high for _, low, high in draws]) < 0.965


def planted(seed, shift=0):
    random = RANDOM(seed)
    images = random.integers(0, 200, (1200, 28, 28, 1)) * (random.random((1200, 1, 1, 1)) > 0.1)
    labels = np.arange(1200) % 3
    images[labels == 1] += shift
    return images.clip(0, 255).astype("uint8"), labels


def test_a_planted_bias_is_found_with_its_sign_and_no_other():
    rows = analysis.biases(*planted(0), *planted(1, shift=40))
    by = {(row["attribute"], row["label"]): row for row in rows}
    assert len(rows) == len(by) == 4 * 4
    planted_row = by["brightness", 1]
    assert (
        planted_row["clear"]
        and planted_row["effect"] > 0.8
        and planted_row["generated"] > planted_row["real"]
    )
    for label in (0, 2):
        assert not any(by[attribute, label]["clear"] for attribute in analysis.ATTRIBUTES)
    back = {
        (row["attribute"], row["label"]): row for row in analysis.biases(*planted(1, shift=40), *planted(0))
    }
    assert back["brightness", 1]["effect"] == pytest.approx(-planted_row["effect"])


def test_no_bias_is_found_where_there_is_none():
    """At most one table in twenty has a false alarm. These ten have no more than that allows."""
    alarms = [
        any(row["clear"] for row in analysis.biases(*planted(2 * draw), *planted(2 * draw + 1)))
        for draw in range(10)
    ]
    assert sum(alarms) <= 2


def test_nearest_finds_copies(blobs):
    index, distances = analysis.nearest(blobs.train_images[[7, 3]], blobs.train_images)
    assert (distances == 0).all()
    np.testing.assert_array_equal(blobs.train_images[index], blobs.train_images[[7, 3]])
    changed = blobs.train_images[:1].copy()
    changed[0, 0, 0] = 255
    _, distances = analysis.nearest(changed, blobs.train_images[:1])
    assert distances[0] == pytest.approx(1 / 28)


@pytest.fixture(scope="module")
def model():
    """A conditional generator of which everything is known: the first noise value sets the size of a bright
    square, the second moves it a little, the third does nothing; the label sets how bright it is."""
    noise, label = keras.Input((3,), name="noise"), keras.Input((), dtype="int32", name="label")
    table = keras.layers.Embedding(10, 1)
    both = keras.layers.Concatenate()([noise, table(label)])
    hidden = keras.layers.Dense(4, activation="tanh", name="hidden")
    image = keras.layers.Reshape((28, 28, 1))(keras.layers.Dense(784, activation="tanh")(hidden(both)))
    model = keras.Model([noise, label], image)
    table.set_weights([np.linspace(-0.5, 0.5, 10)[:, None]])
    kernel = np.zeros((4, 4))
    kernel[0, 0], kernel[1, 1], kernel[3, 2] = 0.5, 0.1, 1.0
    hidden.set_weights([kernel, np.zeros(4)])
    return model


@pytest.fixture(scope="module")
def generator(model):
    return generation.of_recipe(model, dataclasses.replace(recipes.get("cgan"), latent_dim=3))


def test_directions_find_what_matters_most(generator):
    found, shares = analysis.directions(generator, count=2)
    assert found.shape == (2, 3) and found.dtype == np.float32
    np.testing.assert_allclose(np.abs(found), [[1, 0, 0], [0, 1, 0]], atol=0.05)
    assert shares[0] > 0.9 and shares.sum() == pytest.approx(1, abs=1e-3)


def test_directions_of_a_generator_without_a_hidden_layer():
    noise = keras.Input((3,))
    image = keras.layers.Reshape((28, 28, 1))(keras.layers.Dense(784)(noise))
    recipe = dataclasses.replace(recipes.get("dcgan"), latent_dim=3)
    with pytest.raises(InputError, match="has no hidden layer"):
        analysis.directions(generation.of_recipe(keras.Model(noise, image), recipe))


def test_walks_straight_and_on_a_circle(generator):
    walks = analysis.interpolations(generator, count=10, steps=5)
    for kind, walk in walks.items():
        assert walk["images"].shape == (5, 28, 28, 1) and walk["length"].shape == (10,), kind
        assert (walk["length"] > 0.999).all(), "no path is shorter than the straight line"
    assert walks["linear"]["norm"][2] < 0.95 * walks["spherical"]["norm"][2]


def test_clusters_of_two_sets_beside_their_labels(few):
    sets = [
        analysis.ImageSet.of(images[:500], labels, "features")
        for images, labels in ((few.test_images, few.test_labels[:500]), (few.train_images, None))
    ]
    np.testing.assert_array_equal(sets[1].labels, sets[1].recognized)  # where none were asked for
    assert (sets[0].labels == sets[0].recognized).mean() > 0.85
    rows = analysis.cluster_table(*sets)
    ari = {(row["images"], row["space"], row["method"]): row["ari"] for row in rows}
    assert len(rows) == len(ari) == 8 and all(row["samples"] == 100 for row in rows)
    assert ari["real", "classifier features", "k-means"] > ari["real", "pixels", "k-means"] > 0.2


# The report


def read_report(folder):
    """The page, which fetches nothing from anywhere else, and the rows of its tables."""
    page = (folder / "report.html").read_text()
    assert not re.findall(r"https?://|<script|<link|<iframe|src=\"(?!data:)", page)
    tables = {}
    for name in ("classes", "clusters", "attributes", "embedding"):
        with open(folder / f"{name}.csv", newline="") as file:
            tables[name] = list(csv.DictReader(file))
    return page, tables


def test_the_report_of_copies(few, tmp_path, monkeypatch):
    """Training images posing as generated ones: memorized, in every class, with real variety and no bias."""
    monkeypatch.setattr(report, "EMBEDDED", 300)
    np.savez(tmp_path / "copies.npz", images=few.train_images[:1000], labels=few.train_labels[:1000])
    found = report.analyze(sources.open(tmp_path / "copies.npz"), few, tmp_path / "out", samples=1000)
    assert all(abs(row["effect"]) < 0.3 for row in found["attributes"] if row["label"] == "all")
    assert all(0.8 < row["diversity"] < 1.2 for row in found["classes"])
    page, tables = read_report(tmp_path / "out")
    assert page.count("data:image/png") >= 12 and "nearer fraction: 1.000" in page and "asked for" in page
    assert {name: len(rows) for name, rows in tables.items()} == {
        "classes": 10,
        "clusters": 8,
        "attributes": 44,
        "embedding": 600,
    }


def test_the_report_of_a_generator_by_the_command(model, few, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "EMBEDDED", 200)
    monkeypatch.setattr("fmgan_tf.datasets.load", lambda: few)
    model.save(tmp_path / "a.keras")
    out = tmp_path / "a report"
    assert main(["analyze", str(tmp_path / "a.keras"), "--samples", "400", "--output", str(out)]) == 0
    printed = capsys.readouterr()
    assert "report.html" in printed.out and "t-SNE" in printed.err
    page, _ = read_report(out)
    assert "Latent space" in page and "The same noise (columns) through all labels" in page
    assert "assumed 3 normal values; label: number, 10 classes" in page


def test_the_report_without_umap_and_of_few_images(few, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "EMBEDDED", 200)
    monkeypatch.setitem(sys.modules, "umap", None)
    np.savez(tmp_path / "a.npz", images=few.test_images[:300])
    report.analyze(sources.open(tmp_path / "a.npz"), few, tmp_path / "out")
    page, _ = read_report(tmp_path / "out")
    assert "pip install umap-learn" in page and "recognized by the classifier" in page
    np.savez(tmp_path / "b.npz", images=few.test_images[:50])
    with pytest.raises(InputError, match="gives 50 images.*expected at least 200"):
        report.analyze(sources.open(tmp_path / "b.npz"), few, tmp_path / "out")
