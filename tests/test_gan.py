"""The train step, the moving average and val_fid, of every recipe and under what Keras can do to them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fmgan_tf import data, features, gan, losses, metrics, recipes

IMAGES = np.random.default_rng(0).uniform(-1, 1, (8, 28, 28, 1)).astype("float32")
LABELS = tf.range(8) % 2
NETWORKS = ("generator", "discriminator", "averaged_generator")
QUIET = {"verbose": 0, "shuffle": False}


def build(name="dcgan", seed=0, **settings):
    return gan.build(recipes.override(recipes.get(name), settings), seed)


def batch_for(model):
    images = tf.constant(IMAGES)
    return (images, LABELS) if isinstance(model, gan.ConditionalGAN) else images


def copies(model, names=NETWORKS):
    return {name: getattr(model, name).get_weights() for name in names}


GAMES = [name for name, recipe in recipes.RECIPES.items() if recipe.discriminator]
each_recipe = pytest.mark.parametrize("name", GAMES)
# deconv-gan-tuned has the networks and the loss of deconv-gan
each_network = pytest.mark.parametrize("name", [name for name in GAMES if name != "deconv-gan-tuned"])


@each_recipe
def test_one_step_changes_both_networks_and_the_average(name):
    # Not the hinge loss: within its margin the pulls of real and generated images on the last bias cancel
    model = build(name, loss="non_saturating")
    before = copies(model)
    model.train_step(batch_for(model))
    for network, old in before.items():
        for weight, value in zip(getattr(model, network).weights, old, strict=True):
            assert not np.array_equal(weight.numpy(), value), f"{network} {weight.path}"


@pytest.mark.parametrize("frozen, learning", [("generator", "discriminator"), ("discriminator", "generator")])
def test_a_network_without_a_learning_rate_stays_as_it_is(frozen, learning):
    model = build()
    getattr(model, f"{frozen}_optimizer").learning_rate = 0.0
    before = {
        name: [w.numpy() for w in getattr(model, name).trainable_weights] for name in (frozen, learning)
    }
    model.train_step(tf.constant(IMAGES))
    for name, old in before.items():
        pairs = zip(getattr(model, name).trainable_weights, old, strict=True)
        assert all(np.array_equal(weight.numpy(), value) == (name == frozen) for weight, value in pairs)


def test_the_losses_are_those_of_the_step():
    model, loss = build(), losses.LOSSES["non_saturating"]
    generated = model.generator(model.noise(8), training=True)
    real_logits, generated_logits = model.discriminator(IMAGES), model.discriminator(generated)
    expected = {"discriminator_loss": loss.discriminator(real_logits, generated_logits)}
    expected["generator_loss"] = loss.generator(generated_logits)
    expected["real_probability"] = tf.reduce_mean(tf.sigmoid(real_logits))
    expected["generated_probability"] = tf.reduce_mean(tf.sigmoid(generated_logits))
    values = model.train_step(tf.constant(IMAGES))
    assert {name: float(value) for name, value in values.items()} == {
        name: pytest.approx(float(value), rel=1e-4) for name, value in expected.items()
    }


def flat(network):
    return np.concatenate([weight.ravel() for weight in network.get_weights()]).astype("float64")


@pytest.mark.parametrize("highest", [0.3, 0.0])
def test_the_average_is_that_of_its_formula(highest):
    model = build(ema_decay=highest)
    expected = flat(model.generator)
    for step in range(1, 5):
        model.train_step(tf.constant(IMAGES))
        decay = min(highest, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * flat(model.generator)
        np.testing.assert_allclose(flat(model.averaged_generator), expected, atol=1e-6)
    assert decay == highest  # the ramp has ended, so both sides of the minimum were seen


def trained(name, size, jit_compile, **settings):
    """The history of two steps of a recipe, measured on the way."""
    recipe = recipes.override(recipes.get(name), {"image_size": size, **settings})
    model = gan.build(recipe)
    model.jit_compile = jit_compile
    model.measure_fid(*features.classifier_extractor(recipe.pixels))
    images = np.random.default_rng(0).uniform(0, 1, (8, size, size, 1)).astype("float32")
    labels = np.arange(8) % recipe.classes if recipe.conditional else None
    known = images if labels is None else (images, labels)
    real = tf.data.Dataset.from_tensor_slices(known).batch(4, drop_remainder=True)
    stream = data.batches(images, 4, labels=labels)
    history = model.fit(stream, steps_per_epoch=2, validation_data=real, **QUIET).history
    assert model.evaluate(real, verbose=0, return_dict=True) == {"fid": np.inf}
    assert int(model.fid.real[0]) == int(model.fid.generated[0]) == 8  # fewer images than dimensions
    return history


@pytest.mark.parametrize("size", [28, 32, 64])
@each_network
def test_compiled_by_xla_every_recipe_trains_and_is_measured(name, size, monkeypatch):
    """As on a GPU, where Keras compiles the steps by default. XLA draws other noise and other shifts from the
    same seed: where the noise is given and there are no shifts, the losses are those of the plain step."""
    if size > 28:
        history = trained(name, size, jit_compile=True)
        assert all(np.isfinite(means).all() for key, means in history.items() if key != "val_fid")
        return
    noise = tf.constant(np.random.default_rng(0).standard_normal((4, 100), "float32"))
    monkeypatch.setattr(gan.GAN, "noise", lambda self, count: noise[:, : self.latent_dim])
    plain, compiled = (trained(name, size, jit_compile, shift=0) for jit_compile in (False, True))
    # Rounding differs, and Adam amplifies it; hinge's generator loss is near 0
    assert compiled == {key: pytest.approx(means, rel=1e-3, abs=1e-3) for key, means in plain.items()}


def test_in_the_second_act_another_discriminator_learns_alone_first():
    recipe = recipes.override(recipes.get("cgan"), {"second_epoch": 2})
    model = gan.build(recipe)
    batch, first = batch_for(model), model.discriminator
    gan.set_the_stage(model, recipe, 1)
    model.train_step(batch)
    assert model.discriminator is first
    gan.set_the_stage(model, recipe, 2)
    assert model.discriminator is not first and model.discriminator.count_params() == 824_075
    played = flat(model.averaged_generator)
    np.testing.assert_array_equal(flat(model.generator), played)
    rest, judge = model.generator.trainable_variables, flat(model.discriminator)
    before = [variable.numpy() for variable in rest]
    model.train_step(batch)
    assert all(np.array_equal(variable, old) for variable, old in zip(rest, before, strict=True))
    assert not np.array_equal(flat(model.discriminator), judge)
    gan.set_the_stage(model, recipe, 3)
    model.train_step(batch)
    assert not any(np.array_equal(variable, old) for variable, old in zip(rest, before, strict=True))
    assert float(model.generator_optimizer.learning_rate) == np.float32(2e-4)
    assert int(model.step) == 3 and int(model.discriminator_optimizer.iterations) == 2
    assert gan.build(recipes.override(recipe, {"patience": 3})).second is None


@pytest.mark.parametrize("name", ["dcgan", "cgan", "dense-cgan"])
def test_a_penalty_is_added_to_the_discriminators_loss_alone(name):
    """And trains, plain and compiled by XLA, which takes the second derivative as well."""
    penalized = {"loss": "non_saturating_r1"} | ({"shift": 0} if name == "cgan" else {})
    model, plain = build(name, **penalized), build(name, **penalized)
    plain.adversarial_loss = losses.LOSSES["non_saturating"]
    both = [
        {key: float(value) for key, value in each.train_step(batch_for(each)).items()}
        for each in (model, plain)
    ]
    cost = both[0].pop("discriminator_loss") - both[1].pop("discriminator_loss")
    assert cost > 0 and both[0] == pytest.approx(both[1], rel=1e-5)
    for jit_compile in (False, True):
        history = trained(name, 28, jit_compile, **penalized)
        assert np.isfinite(history["discriminator_loss"]).all()


@pytest.mark.parametrize("loss", recipes.MORE_LOSSES + ("least_squares",))
@pytest.mark.parametrize("name", ["dcgan", "cgan"])
def test_every_loss_trains_also_compiled_and_goes_on_where_it_was(name, loss, tmp_path):
    for jit_compile in (False, True):
        history = trained(name, 28, jit_compile, loss=loss)
        assert np.isfinite(history["discriminator_loss"]).all()
    straight, before, after = (build(name, loss=loss) for _ in range(3))
    batch = batch_for(straight)
    for _ in range(2):
        straight.train_step(batch)
    before.train_step(batch)
    before.save_weights(tmp_path / "some.weights.h5")
    after.load_weights(tmp_path / "some.weights.h5")
    after.train_step(batch)
    pairs = zip(straight.get_weights(), after.get_weights(), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)
    largest = max(np.abs(weight).max() for weight in after.discriminator.get_weights())
    assert (largest <= losses.CLIP) == (loss == "wasserstein_clipped")


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@each_recipe
def test_in_half_precision_every_recipe_trains(name, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = build(name)
    finally:
        keras.config.set_dtype_policy(before)
    weights = copies(model)
    for _ in range(2):
        values = model.train_step(batch_for(model))
        assert np.isfinite([float(value) for value in values.values()]).all()
    for network, old in weights.items():
        new = getattr(model, network).get_weights()
        assert all(np.isfinite(weight).all() for weight in new)
        assert any((weight != value).any() for weight, value in zip(new, old, strict=True)), network


def test_fit_reports_the_mean_over_the_epoch_and_callbacks_see_every_step():
    model, steps = build(), []
    seen = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(float(logs["generator_loss"]))
    )
    how = {"steps_per_epoch": 5, "epochs": 2, "callbacks": [seen]}
    means = model.fit(data.batches(IMAGES, 4), **how, **QUIET).history["generator_loss"]
    assert len(set(steps)) == 10
    np.testing.assert_allclose(means, [np.mean(steps[:5]), np.mean(steps[5:])], rtol=1e-5)


def test_weights_files_hold_everything(tmp_path):
    """Both networks, the average and both optimizers: the next step, noise included, is the same."""
    model, other = build(), build(seed=0)
    for _ in range(3):
        model.train_step(tf.constant(IMAGES))
    model.save_weights(tmp_path / "all.weights.h5")
    other.load_weights(tmp_path / "all.weights.h5")
    assert int(other.step) == int(other.discriminator_optimizer.iterations) == 3
    for name, weights in copies(model).items():
        for mine, theirs in zip(weights, getattr(other, name).get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    first, second = (each.train_step(tf.constant(IMAGES)) for each in (model, other))
    for key in first:
        np.testing.assert_allclose(first[key], second[key], rtol=1e-5)


def test_noise_is_normal_and_another_for_every_step_and_seed():
    model = build()
    first = model.noise(1000).numpy()
    assert first.dtype == np.float32 and first.shape == (1000, 100)
    assert abs(first.mean()) < 0.02 and abs(first.std() - 1) < 0.02
    np.testing.assert_array_equal(first, model.noise(1000))
    assert np.abs(first - build(seed=1).noise(1000)).mean() > 1
    model.train_step(tf.constant(IMAGES))
    assert np.abs(first - model.noise(1000)).mean() > 1


# Labels


def test_the_label_reaches_both_networks():
    """Other labels, other images and logits: each network is asked with all else equal."""
    model = build("cgan")
    noise, labels = model.noise(8), [tf.fill([8], label) for label in (3, 4)]
    first, second = (model.generator([noise, label], training=False) for label in labels)
    assert np.abs(first - second).max() > 1e-3
    first, second = (model.discriminator([tf.constant(IMAGES), label])[0] for label in labels)
    assert np.abs(first - second).max() > 1e-3


def test_generated_images_get_the_labels_of_the_real_ones():
    """And whoever made an image pays for what its class costs: weight * -log p(label)."""
    model = build("cgan", shift=0, label_weight=0.5)
    loss, generated = losses.LOSSES["damped_hinge"], model.generator([model.noise(8), LABELS], training=True)
    both = [model.discriminator([images, LABELS]) for images in (tf.constant(IMAGES), generated)]
    (real_logits, _), (generated_logits, _) = both
    real_cost, generated_cost = (
        -0.5 * np.mean(np.log(tf.nn.softmax(logits).numpy()[np.arange(8), LABELS])) for _, logits in both
    )
    values = model.train_step((tf.constant(IMAGES), LABELS))
    expected = float(loss.discriminator(real_logits, generated_logits)) + real_cost
    assert float(values["discriminator_loss"]) == pytest.approx(expected, rel=1e-4)
    expected = float(loss.generator(generated_logits)) + generated_cost
    assert float(values["generator_loss"]) == pytest.approx(expected, rel=1e-4)


def test_what_the_class_costs_falls_with_the_steps():
    """cost(t) = label_weight / (1 + label_decay t) * -log p(label), of a discriminator that never changes."""
    model = build("cgan", label_weight=2.0, label_decay=0.25)
    logits = tf.constant(np.eye(10, dtype="float32")[:8])
    model.discriminator = lambda inputs, training: (tf.zeros((8, 1)), logits)
    entropy = float(np.mean(np.log(np.exp(logits).sum(1)) - logits.numpy()[np.arange(8), LABELS]))
    for steps, weight in ((0, 2.0), (4, 1.0), (12, 0.5)):
        model.step.assign(steps)
        _, cost = model.discriminate(tf.constant(IMAGES), LABELS)
        assert float(cost) == pytest.approx(weight * entropy, rel=1e-5)


def test_without_weight_the_class_head_stays_as_it_is():
    model = build("cgan", label_weight=0.0)
    head = model.discriminator.get_layer("class_logits")
    before = head.get_weights()
    model.train_step((tf.constant(IMAGES), LABELS))
    for old, new in zip(before, head.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_discriminator_sees_images_moved_by_at_most_the_shift():
    """Images with one bright pixel, and a discriminator that notes where it saw it."""
    model, seen = build("cgan", shift=1), []
    images = np.full((64, 28, 28, 1), -1, "float32")
    images[:, 10, 12] = 1

    def note(inputs, training):
        seen.append(inputs[0].numpy()[..., 0])
        return tf.zeros((64, 1)), tf.zeros((64, 10))

    model.discriminator = note
    for step in (0, 0, 1):
        model.step.assign(step)
        model.discriminate(tf.constant(images), tf.zeros(64, "int32"))
    places = {tuple(np.argwhere(image == 1)[0]) for image in seen[0]}
    assert places == {(row, column) for row in (9, 10, 11) for column in (11, 12, 13)}
    np.testing.assert_array_equal(seen[0], seen[1])  # by seed and step alone, so a resumed run repeats them
    assert (seen[0] != seen[2]).any()


def test_a_conditional_gan_is_measured_on_images_of_the_labels_asked_for():
    """With a generator that paints the label as brightness, equal labels on both sides are at distance 0."""
    noise, label = keras.Input((4,)), keras.Input((), dtype="int32")
    gray = keras.layers.Reshape((1,))(keras.ops.cast(label, "float32") / 10.0) + 0.0 * noise[:, :1]
    image = keras.layers.Reshape((28, 28, 1))(keras.layers.RepeatVector(784)(gray))
    model = gan.ConditionalGAN(keras.Model([noise, label], image), build("cgan").discriminator)
    model.compile(keras.optimizers.Adam(), keras.optimizers.Adam(), losses.LOSSES["non_saturating"])
    model.measure_fid(lambda images: tf.reduce_mean(images, (1, 2)), 1)
    labels = np.arange(20) % 10
    painted = np.ones((20, 28, 28, 1), "float32") * labels[:, None, None, None] / 10
    for asked, low, high in ((labels, 0, 1e-6), (labels // 5, 0.01, 1)):
        dataset = tf.data.Dataset.from_tensor_slices((painted, asked)).batch(10)
        assert low <= model.evaluate(dataset, verbose=0, return_dict=True)["fid"] <= high


# val_fid


def extractor(images):
    return tf.reduce_mean(images, axis=(1, 3))[:, ::7]


def tiny_gan():
    model = build(latent_dim=3)
    model.measure_fid(extractor, 4)
    return model


def real_batches(count=32, batch=8):
    images = np.random.default_rng(0).uniform(-1, 1, (count, 28, 28, 1)).astype("float32")
    return tf.data.Dataset.from_tensor_slices(images).batch(batch, drop_remainder=True)


def fid(model, batches):
    return model.evaluate(batches, verbose=0, return_dict=True)["fid"]


def test_evaluate_measures_the_average_against_all_batches():
    model, drawn = tiny_gan(), []
    generate = model.generate
    model.generate = lambda noise: drawn.append(noise.numpy()) or generate(noise)
    model.run_eagerly = True
    first, second = fid(model, real_batches()), fid(model, real_batches())
    assert first == second > 0
    noise = np.concatenate(drawn[:4])
    assert len(np.unique(noise, axis=0)) == 32  # no noise twice in a pass
    np.testing.assert_array_equal(noise, np.concatenate(drawn[4:]))  # the same in the next
    assert not np.isin(noise, model.noise(32)).any()  # and none that is trained on
    sides = np.concatenate(list(real_batches().as_numpy_iterator())), generate(noise).numpy()
    assert float(first) == pytest.approx(metrics.frechet_distance(*map(extractor, sides)), rel=1e-3)
    of_features = real_batches().map(extractor)  # real images may come as features
    assert fid(model, of_features) == pytest.approx(first, rel=1e-6)


def test_measuring_anew_starts_anew():
    model = tiny_gan()
    first = fid(model, real_batches())
    model.measure_fid(extractor, 4)
    assert fid(model, real_batches()) == pytest.approx(first, rel=1e-6)
    model.measure_fid(lambda images: 2 * extractor(images), 4)
    assert fid(model, real_batches()) == pytest.approx(4 * first, rel=1e-4)


def test_evaluate_without_measure_fid_says_what_to_do():
    model = build()
    model.run_eagerly = True
    with pytest.raises(ValueError, match="call measure_fid"):
        model.evaluate(real_batches(), verbose=0)


def test_val_fid_drives_early_stopping_and_what_a_checkpoint_keeps(tmp_path):
    model, path = tiny_gan(), tmp_path / "best.weights.h5"
    only = {"mode": "min", "save_best_only": True, "save_weights_only": True}
    kept = keras.callbacks.ModelCheckpoint(path, "val_fid", **only)
    stop = keras.callbacks.EarlyStopping("val_fid", mode="min", patience=1)
    how = {"epochs": 30, "callbacks": [kept, stop], "validation_data": real_batches()}
    history = model.fit(real_batches(), **how, **QUIET).history
    distances = history["val_fid"]
    assert set(history) == {"val_fid", *(metric.name for metric in model.metrics)}
    rises = [later >= min(distances[: place + 1]) for place, later in enumerate(distances[1:])]
    assert rises == [False] * (len(rises) - 1) + [True] or len(distances) == 30
    again = tiny_gan()
    again.load_weights(path)
    assert fid(again, real_batches()) == pytest.approx(min(distances), rel=1e-4)


def test_checkpoints_do_not_hold_the_extractor(tmp_path):
    model, sizes = build(), []
    for name in ("without", "with"):
        model.save_weights(tmp_path / f"{name}.weights.h5")
        sizes.append((tmp_path / f"{name}.weights.h5").stat().st_size)
        model.measure_fid(*features.classifier_extractor())
    assert sizes[1] - sizes[0] < 600_000  # the metric's sums; the classifier would add 1.8 MB
