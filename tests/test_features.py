"""The shipped extractors are what their records say, and can be trained anew."""

import json

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fmgan_tf import InputError, data, features, generation
from fmgan_tf.runs.folder import read_csv

CLASSIFIER, ENCODER = generation.ASSETS / "classifier", generation.ASSETS / "label-free"


def test_the_shipped_classifier_is_as_good_as_its_record_says(fashion_mnist):
    record = json.loads((CLASSIFIER / "run.json").read_text())
    assert record["recipe"].items() >= features.CLASSIFIER_SETTINGS.items()
    found, recognized = features.classifier_features(fashion_mnist.test_images)
    assert found.shape == (10_000, record["features"]) and found.dtype == np.float32
    right = recognized == fashion_mnist.test_labels
    assert right.mean() == pytest.approx(record["test_accuracy"], abs=2e-4) and right.mean() >= 0.935
    for index, name in enumerate(fashion_mnist.class_names):
        accuracy = right[fashion_mnist.test_labels == index].mean()
        assert accuracy == pytest.approx(record["class_accuracy"][name], abs=2e-3)
    header, history = read_csv(CLASSIFIER / "history.csv")
    assert header == ["epoch", "loss", "accuracy"] and len(history) == record["epochs"]


def test_the_shipped_label_free_network_is_as_recorded(fashion_mnist):
    record = json.loads((ENCODER / "run.json").read_text())
    assert record["recipe"] == {"name": "label-free"} | features.ENCODER_SETTINGS
    found = features.label_free_features(fashion_mnist.test_images[:4000])
    assert found.shape == (4000, 64) and found.dtype == np.float32
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    probe.fit(found[:3000], fashion_mnist.test_labels[:3000])
    right = probe.score(found[3000:], fashion_mnist.test_labels[3000:4000])
    assert right == pytest.approx(record["linear_probe_accuracy"], abs=0.05)


def test_random_features_are_the_same_everywhere(blobs):
    found = features.random_features(blobs.test_images)
    assert found.shape == (50, 64) and found.dtype == np.float32 and (found.std(0) > 0).mean() > 0.9
    kernel = features.random.__wrapped__().get_weights()[0]
    assert kernel.ravel()[:3] == pytest.approx([0.04445235, -0.04670612, 0.2264236])


def test_recognizing_among_some_classes(blobs):
    extractors = features.Extractors.shipped()
    found, recognized = extractors.features(blobs.train_images)
    np.testing.assert_array_equal(extractors.recognized_among(range(10), found), recognized)
    among = extractors.recognized_among([7, 9], found)
    assert set(among) <= {7, 9}
    kept = np.isin(recognized, [7, 9])
    np.testing.assert_array_equal(among[kept], recognized[kept])
    assert set(extractors.recognized_among([3], found)) == {3}


def test_features_do_not_depend_on_batches_and_are_those_of_the_extractor(blobs):
    images = np.concatenate([blobs.train_images] * 3)[:550]  # a batch of 500, and one of 50
    found, recognized = features.classifier_features(images)
    np.testing.assert_allclose(found[500:], features.classifier_features(images[500:])[0], atol=1e-4)
    for pixels in ("tanh", "unit"):
        extractor, dimensions = features.classifier_extractor(pixels)
        assert dimensions == found.shape[1]
        scaled = data.RANGES[pixels][0](images[:50])
        np.testing.assert_allclose(extractor(scaled), found[:50], atol=1e-4)
    logits = features.classifier()(data.to_tanh_range(images), training=False)
    np.testing.assert_array_equal(recognized, np.argmax(logits, 1))


@pytest.mark.parametrize("size", [32, 64])
def test_larger_images_are_resized(blobs, size):
    larger = data.resize(blobs.test_images, size)
    expected, _ = features.classifier_features(data.resize(larger, 28))
    np.testing.assert_array_equal(features.classifier_features(larger)[0], expected)
    extracted = features.classifier_extractor()[0](data.to_tanh_range(larger))
    assert np.abs(extracted - expected).mean() < 0.05 * np.abs(expected).mean()  # one of them rounds to uint8


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 28, 28, 1)),
        np.zeros((2, 28, 28), "uint8"),
        np.zeros((2, 28, 28, 3), "uint8"),
        np.zeros((2, 28, 20, 1), "uint8"),
    ],
)
@pytest.mark.parametrize("extract", [features.classifier_features, features.label_free_features])
def test_other_images_are_refused(extract, images):
    with pytest.raises(InputError, match="expected uint8"):
        extract(images)


# Training


def test_training_a_classifier(blobs):
    changes = {"filters": 4, "batch_size": 20, "epochs": 2}
    model, history = features.train_classifier(blobs, seed=3, verbose=0, **changes)
    assert getattr(model, "optimizer", None) is None
    assert model.get_layer("features").output.shape == (None, 16) and model.output_shape == (None, 10)
    assert len(history["loss"]) == len(history["accuracy"]) == 2 and history["loss"][1] < history["loss"][0]


def test_the_learning_rate_of_the_classifier_rises_and_falls(blobs, monkeypatch):
    rates = []

    class AdamW(keras.optimizers.AdamW):
        def __init__(self, rate, **named):
            rates.extend(float(rate(step)) for step in range(24))
            super().__init__(rate, **named)

    monkeypatch.setattr(keras.optimizers, "AdamW", AdamW)
    changes = {"filters": 2, "batch_size": 100, "epochs": 12, "learning_rate": 1.0}
    features.train_classifier(blobs, verbose=0, **changes)
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[2] == pytest.approx(1.0)
    assert rates[-1] < 0.01 and (np.diff(rates[2:]) < 0).all()


def test_the_encoder_learns_without_labels(blobs):
    changes = {"batch_size": 20, "features": 8}
    _, history = features.train_encoder(blobs, verbose=0, epochs=3, **changes)
    assert len(history["loss"]) == 3 and history["loss"][-1] < history["loss"][0]
    other = blobs._replace(train_labels=9 - blobs.train_labels)
    encoders = [features.train_encoder(each, verbose=0, epochs=1, **changes)[0] for each in (blobs, other)]
    assert encoders[0].output_shape == (None, 8)
    for left, right in zip(*(encoder.get_weights() for encoder in encoders), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)


def test_the_autoencoder_is_as_large_as_its_docstring_says():
    encoder, autoencoder = features.build_autoencoder()
    assert f"{encoder.count_params():,} parameters" in " ".join(features.build_autoencoder.__doc__.split())
    assert autoencoder.output_shape == (None, 28, 28, 1)
