import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from fmgan_tf import InputError, classifier, data, features, metrics, models, plots, pretrained, recipes, training

CLASSIFIER = pretrained.ASSETS / "classifier"


def test_the_shipped_classifier_is_as_good_as_its_record_says(fashion_mnist):
    record = json.loads((CLASSIFIER / "run.json").read_text())
    found, recognised = features.classifier_features(fashion_mnist.test_images)
    assert found.shape == (10_000, record["features"]) and found.dtype == np.float32
    right = recognised == fashion_mnist.test_labels
    assert right.mean() == pytest.approx(record["test_accuracy"], abs=2e-4) and right.mean() >= 0.935
    for index, name in enumerate(data.CLASS_NAMES):
        accuracy = right[fashion_mnist.test_labels == index].mean()
        assert accuracy == pytest.approx(record["class_accuracy"][name], abs=2e-3)
    history = training.read_csv(CLASSIFIER / "history.csv")
    assert len(history["epoch"]) == record["epochs"] and history["accuracy"][-1] > history["accuracy"][0]


def test_recognising_among_some_classes(blobs):
    found, recognised = features.classifier_features(blobs.train_images[:200])
    np.testing.assert_array_equal(features.recognised_among(range(10), found), recognised)
    among = features.recognised_among([7, 9], found)
    assert set(among) <= {7, 9}
    kept = np.isin(recognised, [7, 9])
    np.testing.assert_array_equal(among[kept], recognised[kept])
    assert set(features.recognised_among([3], found)) == {3}


def test_the_shipped_classifier_is_small_and_bare():
    model = keras.models.load_model(CLASSIFIER / "classifier.keras")
    assert getattr(model, "optimizer", None) is None
    assert 128 <= model.get_layer("features").output.shape[-1] <= 256
    assert (CLASSIFIER / "confusion.png").exists()


def test_a_damaged_classifier_is_refused(tmp_path, monkeypatch):
    content = (CLASSIFIER / "classifier.keras").read_bytes()
    (tmp_path / "classifier").mkdir()
    (tmp_path / "classifier" / "classifier.keras").write_bytes(content[:-1])
    monkeypatch.setattr(pretrained, "ASSETS", tmp_path)
    with pytest.raises(InputError, match="classifier.keras is damaged: .* SHA-256"):
        features.classifier.__wrapped__()


def test_classifier_features_do_not_depend_on_batches_and_match_the_extractor(blobs):
    found, recognised = features.classifier_features(blobs.test_images, batch_size=7)
    np.testing.assert_allclose(found, features.classifier_features(blobs.test_images)[0], atol=1e-4)
    extractor, dimensions = features.classifier_extractor()
    assert dimensions == found.shape[1]
    np.testing.assert_allclose(extractor(data.to_tanh_range(blobs.test_images)), found, atol=1e-4)
    logits = features.classifier()(data.to_tanh_range(blobs.test_images), training=False)
    np.testing.assert_array_equal(recognised, np.argmax(logits, 1))


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
                tmp_path / "best.weights.h5", "val_fid", mode="min", save_best_only=True, save_weights_only=True
            ),
        ],
    ).history
    assert len(history["val_fid"]) == 3 and len(set(history["val_fid"])) == 1
    assert (tmp_path / "best.weights.h5").exists()
    tiny_gan().load_weights(tmp_path / "best.weights.h5")
    assert "fid" not in history and set(history) == {*training.COLUMNS, "val_fid"}


def test_the_best_val_fid_is_what_a_checkpoint_keeps(tmp_path):
    model = tiny_gan()
    path = tmp_path / "best.weights.h5"
    best = keras.callbacks.ModelCheckpoint(path, "val_fid", mode="min", save_best_only=True, save_weights_only=True)
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
    assert np.isnan(training.read_csv(tmp_path / "run" / "history.csv")["val_fid"]).all()


def test_measuring_does_not_count_as_training_time(blobs, tmp_path, monkeypatch):
    import time

    measure = training._Run.measure

    def slow(self, model):
        start = time.perf_counter()
        measure(self, model)
        time.sleep(6)
        self.overhead += 6
        slow.calls += time.perf_counter() - start

    slow.calls = 0
    monkeypatch.setattr(training._Run, "measure", slow)
    recipe = recipes.override(recipes.get("dcgan"), {"batch_size": 8, "steps_per_epoch": 4})
    record = training.train(recipe, blobs, tmp_path / "run", epochs=1, verbose=False)
    assert record["seconds"] >= 6
    assert 32 / record["images_per_second"] < record["seconds"] - 6


# The classifier's own recipe


def test_training_a_classifier(blobs, tmp_path):
    recipe = recipes.ClassifierRecipe(filters=4, batch_size=20)
    record = classifier.train(recipe, blobs, tmp_path / "run", seed=3, epochs=2, verbose=False)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "classifier.keras",
        "history.csv",
        "confusion.png",
        "run.json",
    }
    assert record == json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["seed"] == 3 and record["epochs"] == 2 and record["versions"]["keras"] == keras.__version__
    assert set(record["class_accuracy"]) == set(data.CLASS_NAMES) and record["seconds"] > 0
    model = keras.models.load_model(tmp_path / "run" / "classifier.keras")
    assert model.get_layer("features").output.shape == (None, 16)
    recognised = np.argmax(model(data.to_tanh_range(blobs.test_images), training=False), 1)
    assert (recognised == blobs.test_labels).mean() == pytest.approx(record["test_accuracy"], abs=0.021)
    assert len(training.read_csv(tmp_path / "run" / "history.csv")["epoch"]) == 2
    with pytest.raises(training.RunError, match="holds a run already"):
        classifier.train(recipe, blobs, tmp_path / "run", verbose=False)
    with pytest.raises(training.RunError, match="cannot be resumed"):
        training.read_record(tmp_path / "run")


def test_a_classifier_for_some_seconds(blobs, tmp_path):
    recipe = recipes.ClassifierRecipe(filters=2, batch_size=50)
    record = classifier.train(recipe, blobs, tmp_path / "run", minutes=0.1, verbose=False)
    assert 6 <= record["seconds"] < 60 and record["minutes"] == 0.1


def test_the_learning_rate_rises_and_falls():
    schedule = classifier._Schedule(1.0, 12, 2, None, False)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    schedule.set_model(model)
    rates = []
    for step in range(24):
        schedule.on_train_batch_begin(step)
        rates.append(float(model.optimizer.learning_rate))
        schedule.step += 1
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[2] == pytest.approx(1.0) and rates[-1] < 0.01
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


def test_the_builder_and_its_docstring_agree():
    model = models.build_classifier()
    assert f"{model.count_params():,}" in models.build_classifier.__doc__
    assert model(np.zeros((2, 28, 28, 1), "float32")).shape == (2, 10)


def test_confusion_plot(tmp_path):
    figure = plots.show_confusion(np.diag([3, 1, 0]) + np.eye(3, k=1, dtype=int), ["a", "b", "c"])
    assert "66.67%" in figure.axes[0].get_title()
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["1", "1", "1", "3"]
