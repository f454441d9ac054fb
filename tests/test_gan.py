import keras
import numpy as np
import pytest
import tensorflow as tf

from fmgan_tf import data, gan, losses, recipes
from fmgan_tf.runs import training

IMAGES = np.random.default_rng(0).uniform(-1, 1, (8, 28, 28, 1)).astype("float32")


def copies(network):
    return [weight.numpy().copy() for weight in network.weights]


LABELS = tf.range(8) % 2


def build(name="dcgan", **settings):
    return training.build_gan(recipes.override(recipes.get(name), settings))


def batch_for(model):
    images = tf.constant(IMAGES)
    return (images, LABELS) if isinstance(model, gan.ConditionalGAN) else images


each_recipe = pytest.mark.parametrize("name", recipes.RECIPES)


@each_recipe
def test_one_step_changes_both_networks_and_the_average(name):
    # Not the hinge loss: within its margin the pulls of real and generated images on the last bias cancel at
    # first
    model = build(name, loss="non_saturating")
    before = {
        name: copies(getattr(model, name)) for name in ("generator", "discriminator", "averaged_generator")
    }
    model.train_step(batch_for(model))
    for name, old in before.items():
        for weight, value in zip(getattr(model, name).weights, old, strict=True):
            assert not np.array_equal(weight.numpy(), value), f"{name} {weight.path}"


@pytest.mark.parametrize("frozen, learning", [("generator", "discriminator"), ("discriminator", "generator")])
def test_a_network_without_a_learning_rate_stays_as_it_is(frozen, learning):
    model = build()
    getattr(model, f"{frozen}_optimizer").learning_rate = 0.0
    before = {name: copies(getattr(model, name)) for name in (frozen, learning)}
    model.train_step(tf.constant(IMAGES))
    trainable = {weight.path for weight in getattr(model, frozen).trainable_weights}
    for weight, value in zip(getattr(model, frozen).weights, before[frozen], strict=True):
        if weight.path in trainable:
            np.testing.assert_array_equal(weight.numpy(), value)
    assert not np.array_equal(copies(getattr(model, learning))[0], before[learning][0])


def test_the_losses_are_those_of_the_step():
    model = build()
    generated = model.generator(model.noise(8), training=True)
    real_logits, generated_logits = model.discriminator(IMAGES), model.discriminator(generated)
    values = model.train_step(tf.constant(IMAGES))
    loss = losses.LOSSES["non_saturating"]
    assert float(values["discriminator_loss"]) == pytest.approx(
        float(loss.discriminator(real_logits, generated_logits)), rel=1e-4
    )
    assert float(values["generator_loss"]) == pytest.approx(float(loss.generator(generated_logits)), rel=1e-4)
    assert float(values["real_probability"]) == pytest.approx(
        float(tf.reduce_mean(tf.sigmoid(real_logits))), rel=1e-4
    )


def test_the_average_is_that_of_its_formula():
    model = build(ema_decay=0.3)
    weights = lambda network: np.concatenate([weight.numpy().ravel() for weight in network.weights])  # noqa: E731
    expected = weights(model.generator).astype("float64")
    for step in range(1, 5):
        model.train_step(tf.constant(IMAGES))
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights(model.generator)
        np.testing.assert_allclose(weights(model.averaged_generator), expected, atol=1e-6)
    assert decay == 0.3  # the ramp has ended, so both sides of the minimum were seen


def test_no_average():
    model = build(ema_decay=0.0)
    model.train_step(tf.constant(IMAGES))
    for average, weight in zip(model.averaged_generator.weights, model.generator.weights, strict=True):
        np.testing.assert_allclose(average.numpy(), weight.numpy(), atol=1e-6)


# deconv-gan-tuned has the networks and the loss of deconv-gan
@pytest.mark.parametrize("name", [name for name in recipes.RECIPES if name != "deconv-gan-tuned"])
def test_compiled_by_xla_the_step_gives_the_same_losses(name, monkeypatch):
    """GPUs compile the step by default, CPUs do not. XLA draws other noise from the same seed, so it is given
    here; and other shifts, so there are none."""
    noise = tf.constant(np.random.default_rng(0).standard_normal((8, 100), "float32"))
    monkeypatch.setattr(gan.GAN, "noise", lambda self, count: noise[:, : self.latent_dim])
    values = []
    for jit_compile in (False, True):
        model = build(name, shift=0)
        step = tf.function(model.train_step, jit_compile=jit_compile)
        values.append([[float(value) for value in step(batch_for(model)).values()] for _ in range(3)])
    # Rounding differs, and three steps of Adam amplify it; hinge's generator loss is near 0
    np.testing.assert_allclose(values[0], values[1], rtol=1e-3, atol=1e-3)


def test_fit_reports_the_mean_over_the_epoch_and_callbacks_see_every_step():
    model = build()
    steps = []
    seen = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(float(logs["generator_loss"]))
    )
    dataset = data.batches(IMAGES, 4)
    history = model.fit(
        dataset, steps_per_epoch=5, epochs=2, verbose=0, shuffle=False, callbacks=[seen]
    ).history
    assert len(set(steps)) == 10
    np.testing.assert_allclose(history["generator_loss"], [np.mean(steps[:5]), np.mean(steps[5:])], rtol=1e-5)


def test_weights_files_hold_everything(tmp_path):
    """Both networks, the average and both optimizers: the next step, noise included, is the same."""
    model = build()
    for _ in range(3):
        model.train_step(tf.constant(IMAGES))
    model.save_weights(tmp_path / "all.weights.h5")
    other = training.build_gan(recipes.get("dcgan"))
    other.load_weights(tmp_path / "all.weights.h5")
    assert int(other.generator_optimizer.iterations) == int(other.discriminator_optimizer.iterations) == 3
    for name in ("generator", "discriminator", "averaged_generator"):
        for mine, theirs in zip(getattr(model, name).weights, getattr(other, name).weights, strict=True):
            np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    first, second = (next_model.train_step(tf.constant(IMAGES)) for next_model in (model, other))
    for key in first:
        np.testing.assert_allclose(first[key], second[key], rtol=1e-5)


@pytest.mark.parametrize("image_size", [28, 32, 64])
def test_image_sizes_train(image_size):
    model = build(image_size=image_size)
    images = tf.zeros((4, image_size, image_size, 1))
    assert np.isfinite(list(map(float, model.train_step(images).values()))).all()
    assert model.generate(tf.zeros((2, 100))).shape == (2, image_size, image_size, 1)


def test_noise():
    model = build()
    first = model.noise(1000).numpy()
    assert first.dtype == np.float32 and first.shape == (1000, 100)
    assert abs(first.mean()) < 0.02 and abs(first.std() - 1) < 0.02
    np.testing.assert_array_equal(first, model.noise(1000))
    model.train_step(tf.constant(IMAGES))
    assert np.abs(first - model.noise(1000)).mean() > 1  # another step, other noise
    assert np.abs(first - training.build_gan(recipes.get("dcgan"), seed=1).noise(1000)).mean() > 1


def test_the_label_reaches_both_networks():
    """Other labels, other losses: each network is asked with all else equal."""
    model = build("cgan")
    noise = model.noise(8)
    first, second = (model.generator([noise, tf.fill([8], label)], training=False) for label in (3, 4))
    assert np.abs(first - second).max() > 1e-3
    first, second = (model.discriminator([tf.constant(IMAGES), tf.fill([8], label)])[0] for label in (3, 4))
    assert np.abs(first - second).max() > 1e-3


def test_generated_images_get_the_labels_of_the_real_ones():
    """And whoever made an image pays for what its class costs: weight * -log p(label)."""
    model = build("cgan", shift=0, label_weight=0.5)
    generated = model.generator([model.noise(8), LABELS], training=True)
    loss = losses.LOSSES[recipes.get("cgan").loss]
    (real_logits, real_classes), (generated_logits, generated_classes) = (
        model.discriminator([images, LABELS]) for images in (tf.constant(IMAGES), generated)
    )
    real_cost, generated_cost = (
        -0.5 * np.mean(np.log(tf.nn.softmax(logits).numpy()[np.arange(8), LABELS]))
        for logits in (real_classes, generated_classes)
    )
    values = model.train_step((tf.constant(IMAGES), LABELS))
    expected = float(loss.discriminator(real_logits, generated_logits)) + real_cost
    assert float(values["discriminator_loss"]) == pytest.approx(expected, rel=1e-4)
    expected = float(loss.generator(generated_logits)) + generated_cost
    assert float(values["generator_loss"]) == pytest.approx(expected, rel=1e-4)


def test_what_the_class_costs_falls_with_the_steps():
    """cost(t) = label_weight / (1 + label_decay t) * -log p(label), for a discriminator that says the same
    for ever."""
    model = build("cgan", label_weight=2.0, label_decay=0.25)
    logits = tf.constant(np.eye(10, dtype="float32")[:8])
    model.discriminator = lambda inputs, training: (tf.zeros((8, 1)), logits)
    model.discriminator.outputs = [None, None]
    entropy = float(np.mean(np.log(np.exp(logits).sum(1)) - logits.numpy()[np.arange(8), LABELS]))
    for steps, weight in ((0, 2.0), (4, 1.0), (12, 0.5)):
        model.generator_optimizer.iterations.assign(steps)
        _, cost = model.judge(tf.constant(IMAGES), LABELS)
        assert float(cost) == pytest.approx(weight * entropy, rel=1e-5)


def test_without_weight_the_class_costs_nothing_and_the_class_head_stays_as_it_is():
    model = build("cgan", label_weight=0.0)
    head = model.discriminator.get_layer("class_logits")
    before = head.get_weights()
    values = model.train_step((tf.constant(IMAGES), LABELS))
    assert all(np.isfinite(float(value)) for value in values.values())
    for old, new in zip(before, head.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_discriminator_sees_images_moved_by_at_most_the_shift():
    """Images with one bright pixel, and a discriminator that notes where it saw it."""
    model = build("cgan", batch_size=64, shift=1)
    images = np.full((64, 28, 28, 1), -1, "float32")
    images[:, 10, 12] = 1
    seen = []

    def note(inputs, training):
        seen.append(inputs[0].numpy()[..., 0])
        return tf.zeros((64, 1)), tf.zeros((64, 10))

    note.outputs = [None, None]
    model.discriminator = note
    model.judge(tf.constant(images), tf.zeros(64, "int32"))
    model.judge(tf.constant(images), tf.zeros(64, "int32"))
    places = {tuple(np.argwhere(image == 1)[0]) for image in seen[0]}
    assert places == {(row, column) for row in (9, 10, 11) for column in (11, 12, 13)}
    np.testing.assert_array_equal(
        seen[0], seen[1]
    )  # they depend on seed and step alone, so a resumed run repeats them
    model.generator_optimizer.iterations.assign(1)
    model.judge(tf.constant(images), tf.zeros(64, "int32"))
    assert (seen[0] != seen[2]).any()


def test_a_conditional_gan_is_measured_on_images_of_the_labels_asked_for():
    """With a generator that paints the label as brightness, equal labels on both sides give a distance of
    zero."""
    noise, label = keras.Input((4,)), keras.Input((), dtype="int32")
    gray = keras.layers.Reshape((1,))(keras.ops.cast(label, "float32") / 10.0) + 0.0 * noise[:, :1]
    image = keras.layers.Reshape((28, 28, 1))(keras.layers.RepeatVector(784)(gray))
    generator = keras.Model([noise, label], image)
    model = gan.ConditionalGAN(generator, build("cgan").discriminator)
    model.compile(keras.optimizers.Adam(), keras.optimizers.Adam(), losses.LOSSES["non_saturating"])
    model.measure_fid(lambda images: tf.reduce_mean(images, (1, 2)), 1)
    labels = np.arange(20) % 10
    painted = np.ones((20, 28, 28, 1), "float32") * labels[:, None, None, None] / 10
    for asked, low, high in ((labels, 0, 1e-6), (labels // 5, 0.01, 1)):
        dataset = tf.data.Dataset.from_tensor_slices((painted, asked)).batch(10)
        assert low <= model.evaluate(dataset, verbose=0, return_dict=True)["fid"] <= high
