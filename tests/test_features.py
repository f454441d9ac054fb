import json
import shutil
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from fmgan_tf import InputError, data, features, metrics, models, plots, pretrained, recipes
from fmgan_tf.fashion_mnist import CLASS_NAMES
from fmgan_tf.runs import callbacks, training
from fmgan_tf.runs import folder as run_folder

CLASSIFIER = pretrained.ASSETS / "classifier"


def test_the_shipped_classifier_is_as_good_as_its_record_says(fashion_mnist):
    record = json.loads((CLASSIFIER / "run.json").read_text())
    found, recognized = features.classifier_features(fashion_mnist.test_images)
    assert found.shape == (10_000, record["features"]) and found.dtype == np.float32
    right = recognized == fashion_mnist.test_labels
    assert right.mean() == pytest.approx(record["test_accuracy"], abs=2e-4) and right.mean() >= 0.935
    for index, name in enumerate(CLASS_NAMES):
        accuracy = right[fashion_mnist.test_labels == index].mean()
        assert accuracy == pytest.approx(record["class_accuracy"][name], abs=2e-3)
    history = run_folder.read_csv(CLASSIFIER / "history.csv")
    assert len(history["epoch"]) == record["epochs"] and history["accuracy"][-1] > history["accuracy"][0]


def test_recognizing_among_some_classes(blobs):
    found, recognized = features.classifier_features(blobs.train_images[:200])
    np.testing.assert_array_equal(features.recognized_among(range(10), found), recognized)
    among = features.recognized_among([7, 9], found)
    assert set(among) <= {7, 9}
    kept = np.isin(recognized, [7, 9])
    np.testing.assert_array_equal(among[kept], recognized[kept])
    assert set(features.recognized_among([3], found)) == {3}


def test_the_shipped_classifier_is_small_and_bare():
    model = keras.models.load_model(CLASSIFIER / "classifier.keras")
    assert getattr(model, "optimizer", None) is None
    assert 128 <= model.get_layer("features").output.shape[-1] <= 256
    assert (CLASSIFIER / "confusion.png").exists()


def test_a_damaged_classifier_is_refused(tmp_path, monkeypatch):
    content = (CLASSIFIER / "classifier.keras").read_bytes()
    (tmp_path / "classifier").mkdir()
    (tmp_path / "classifier" / "classifier.keras").write_bytes(content[:-1])
    shutil.copy(pretrained.ASSETS / pretrained.SUMS, tmp_path)
    monkeypatch.setattr(pretrained, "ASSETS", tmp_path)
    with pytest.raises(InputError, match="classifier.keras is damaged: .* SHA-256"):
        features.classifier.__wrapped__()


def test_classifier_features_do_not_depend_on_batches_and_match_the_extractor(blobs):
    found, recognized = features.classifier_features(blobs.test_images, batch_size=7)
    np.testing.assert_allclose(found, features.classifier_features(blobs.test_images)[0], atol=1e-4)
    extractor, dimensions = features.classifier_extractor()
    assert dimensions == found.shape[1]
    np.testing.assert_allclose(extractor(data.to_tanh_range(blobs.test_images)), found, atol=1e-4)
    logits = features.classifier()(data.to_tanh_range(blobs.test_images), training=False)
    np.testing.assert_array_equal(recognized, np.argmax(logits, 1))


@pytest.mark.parametrize("size", [32, 64])
def test_larger_images_are_resized(blobs, size):
    larger = data.resize(blobs.test_images, size)
    expected, _ = features.classifier_features(data.resize(larger, 28))
    np.testing.assert_array_equal(features.classifier_features(larger)[0], expected)
    extracted = features.classifier_extractor()[0](data.to_tanh_range(larger))
    assert np.abs(extracted - expected).mean() < 0.05 * np.abs(expected).mean()  # one of them rounds to uint8


@pytest.mark.parametrize(
    "images", [np.zeros((2, 28, 28, 1)), np.zeros((2, 28, 28), "uint8"), np.zeros((2, 28, 28, 3), "uint8")]
)
@pytest.mark.parametrize("extract", [features.classifier_features, features.inception_features])
def test_other_images_are_refused(extract, images):
    with pytest.raises(InputError, match="expected uint8"):
        extract(images)


def test_inception_sees_three_equal_channels_of_299_pixels_in_range(monkeypatch):
    seen = []

    def network(batch, training):
        seen.append(batch)
        return tf.reduce_mean(batch, axis=(1, 2))

    images = np.zeros((3, 28, 28, 1), "uint8")
    images[1] = 255
    found = features.inception_features(images, batch_size=2, model=network)
    np.testing.assert_allclose(found, [[-1] * 3, [1] * 3, [-1] * 3])
    assert all(batch.shape[1:] == (299, 299, 3) for batch in seen)


def test_inception_without_weights():
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype("uint8")
    found = features.inception_features(images, batch_size=2, weights=None)
    assert found.shape == (3, 2048) and found.dtype == np.float32 and np.isfinite(found).all()
    assert not np.array_equal(found[0], found[1])


def test_missing_inception_weights_are_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "weights.h5").write_bytes(b"not HDF5")
    for name in ("weights.h5", "nowhere.h5"):
        with pytest.raises(InputError, match="does not hold InceptionV3's weights without its top") as error:
            features.inception(tmp_path / name)
        assert "\n" not in str(error.value)

    def offline(**arguments):
        raise Exception("URL fetch failure: [Errno -2]\nName or service not known")

    monkeypatch.setattr(keras.applications, "InceptionV3", offline)
    with pytest.raises(InputError, match="could not be downloaded .*--extractor classifier") as error:
        features.inception()
    assert "\n" not in str(error.value)


# val_fid in fit


def tiny_gan():
    model = training.build_gan(recipes.override(recipes.get("dcgan"), {"latent_dim": 3}))
    model.measure_fid(lambda images: tf.reduce_mean(images, axis=(1, 3))[:, ::7], 4)
    return model


def real_batches(count=32, batch=8):
    images = np.random.default_rng(0).uniform(-1, 1, (count, 28, 28, 1)).astype("float32")
    return tf.data.Dataset.from_tensor_slices(images).batch(batch, drop_remainder=True)


def test_evaluate_measures_the_average_against_all_batches():
    model = tiny_gan()
    drawn = []
    generate = model.generate
    model.generate = lambda noise: drawn.append(noise) or generate(noise)
    model.run_eagerly = True
    first, second = (model.evaluate(real_batches(), verbose=0, return_dict=True)["fid"] for _ in range(2))
    assert first == second > 0
    noise = [batch.numpy() for batch in drawn[:4]]
    assert len(np.unique(np.concatenate(noise), axis=0)) == 32  # no noise twice in a pass
    np.testing.assert_array_equal(np.concatenate(noise), np.concatenate(drawn[4:]))  # the same in the next
    real = np.concatenate(list(real_batches().as_numpy_iterator()))
    generated = generate(np.concatenate(noise)).numpy()
    sides = [images.mean(axis=(1, 3))[:, ::7] for images in (real, generated)]
    assert float(first) == pytest.approx(metrics.frechet_distance(*sides), rel=1e-3)
    of_features = real_batches().map(model.extract)  # what training.training_data gives
    assert model.evaluate(of_features, verbose=0, return_dict=True)["fid"] == pytest.approx(first, rel=1e-6)


def test_validation_noise_is_not_training_noise():
    model = tiny_gan()
    seen = []
    model.generate = lambda noise: seen.append(noise.numpy()) or model.averaged_generator(noise)
    model.run_eagerly = True
    model.evaluate(real_batches(8), verbose=0)
    assert not np.isin(seen[0], model.noise(8)).any()


def test_evaluate_without_measure_fid_says_what_to_do():
    model = training.build_gan(recipes.get("dcgan"))
    model.run_eagerly = True
    with pytest.raises(ValueError, match="call measure_fid"):
        model.evaluate(real_batches(), verbose=0)


def test_val_fid_drives_early_stopping_and_checkpoints(tmp_path):
    model = tiny_gan()
    for optimizer in (model.generator_optimizer, model.discriminator_optimizer):
        optimizer.learning_rate = 0.0  # nothing that is trained changes, so val_fid cannot improve for long
    saved = []

    class Checkpoint(keras.callbacks.ModelCheckpoint):
        def _save_model(self, epoch, batch, logs):
            saved.append((epoch, logs["val_fid"]))
            super()._save_model(epoch, batch, logs)

    model.averaged_generator.trainable = False
    model.update_average = lambda: None
    history = model.fit(
        real_batches(),
        validation_data=real_batches(),
        epochs=9,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping("val_fid", mode="min", patience=2),
            Checkpoint(
                tmp_path / "best.weights.h5",
                "val_fid",
                mode="min",
                save_best_only=True,
                save_weights_only=True,
            ),
        ],
    ).history
    assert len(history["val_fid"]) == 3 and len(set(history["val_fid"])) == 1
    assert (tmp_path / "best.weights.h5").exists()
    tiny_gan().load_weights(tmp_path / "best.weights.h5")
    assert "fid" not in history and set(history) == {*run_folder.COLUMNS, "val_fid"}


def test_the_best_val_fid_is_what_a_checkpoint_keeps(tmp_path):
    model = tiny_gan()
    path = tmp_path / "best.weights.h5"
    best = keras.callbacks.ModelCheckpoint(
        path, "val_fid", mode="min", save_best_only=True, save_weights_only=True
    )
    history = model.fit(
        real_batches(), validation_data=real_batches(), epochs=4, shuffle=False, verbose=0, callbacks=[best]
    ).history
    again = tiny_gan()
    again.load_weights(path)
    measured = again.evaluate(real_batches(), verbose=0, return_dict=True)["fid"]
    assert float(measured) == pytest.approx(min(history["val_fid"]), rel=1e-4)


def test_checkpoints_do_not_hold_the_extractor(tmp_path):
    model = training.build_gan(recipes.get("dcgan"))
    before = len(model.variables)
    model.save_weights(tmp_path / "a.weights.h5")
    model.measure_fid(*features.classifier_extractor())
    model.save_weights(tmp_path / "b.weights.h5")
    assert len(model.weights) == len(training.build_gan(recipes.get("dcgan")).weights) and before
    added = (tmp_path / "b.weights.h5").stat().st_size - (tmp_path / "a.weights.h5").stat().st_size
    assert added < 600_000  # the metric's sums; the classifier would add 1.8 MB


def test_too_few_validation_images_leave_val_fid_empty(blobs, tmp_path):
    few = blobs._replace(train_images=blobs.train_images[:100], train_labels=blobs.train_labels[:100])
    recipe = recipes.override(recipes.get("dcgan"), {"batch_size": 8, "steps_per_epoch": 2})
    record = training.train(recipe, few, tmp_path / "run", epochs=1, verbose=False)
    assert record["val_fid"] is None
    assert np.isnan(run_folder.read_csv(tmp_path / "run" / "history.csv")["val_fid"]).all()


def test_measuring_does_not_count_as_training_time(blobs, tmp_path, monkeypatch):
    begin = callbacks.Records.on_test_begin

    def slow(self, logs=None):
        begin(self, logs)
        time.sleep(3)

    monkeypatch.setattr(callbacks.Records, "on_test_begin", slow)
    recipe = recipes.override(recipes.get("dcgan"), {"batch_size": 8, "steps_per_epoch": 4})
    record = training.train(recipe, blobs, tmp_path / "run", epochs=1, verbose=False)
    assert record["seconds"] >= 3
    assert 32 / record["images_per_second"] < record["seconds"] - 3


def test_the_builder_and_its_docstring_agree():
    model = models.build_classifier()
    assert f"{model.count_params():,}" in models.build_classifier.__doc__
    assert model(np.zeros((2, 28, 28, 1), "float32")).shape == (2, 10)


def test_confusion_plot(tmp_path):
    figure = plots.show_confusion(np.diag([3, 1, 0]) + np.eye(3, k=1, dtype=int), ["a", "b", "c"])
    assert "66.67%" in figure.axes[0].get_title()
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["1", "1", "1", "3"]
