"""Flow matching: its velocity, its sampler, and a run of its recipe."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import squares

from fmgan_tf import InputError, data, gan, generation, models, recipes
from fmgan_tf.__main__ import main
from fmgan_tf.runs import export, page, sources, training

IMAGES = np.random.default_rng(0).uniform(-1, 1, (8, 28, 28, 1)).astype("float32")
LABELS = tf.range(8) % 10


def velocity_of(function):
    """A network whose velocity is a function of the point and the time, (batch, 1, 1, 1)."""
    point, time = keras.Input((28, 28, 1)), keras.Input((1,))
    label = keras.Input((), dtype="int32")
    out = function(point, keras.ops.reshape(time, (-1, 1, 1, 1))) + 0.0 * keras.ops.cast(
        keras.ops.reshape(label, (-1, 1, 1, 1)), "float32"
    )
    return keras.Model([point, time, label], out, name="velocity")


def sampled(velocity, noise, **settings):
    return models.build_sampler(velocity, 10, **settings)([tf.constant(noise), LABELS[: len(noise)]]).numpy()


def test_straight_lines_take_one_step():
    """Where all lines lead to one image x, the velocity at z + t (x - z) is (x - point) / (1 - t)."""
    to_zero = velocity_of(lambda point, time: -point / (1.0 - time))
    noise = generation.sample_noise(0, 4, 784)
    for steps in (1, 3):
        assert np.abs(sampled(to_zero, noise, steps=steps, guidance=0.0)).max() < 1e-5


def test_heuns_method_is_of_second_order():
    """dx/dt = t has the solution x + t² / 2, which it meets but for the last step, one of Euler's."""
    grows, noise = velocity_of(lambda point, time: time + 0.0 * point), np.zeros((1, 784), "float32")
    for steps in (2, 4):
        last = (1 - 1 / steps) / steps
        exact = (1 - 1 / steps) ** 2 / 2 + last
        np.testing.assert_allclose(sampled(grows, noise, steps=steps, guidance=0.0), exact, rtol=1e-5)


def test_guidance_goes_further_along_what_the_label_changes():
    point, time, label = keras.Input((28, 28, 1)), keras.Input((1,)), keras.Input((), dtype="int32")
    known = keras.ops.cast(keras.ops.reshape(label, (-1, 1, 1, 1)) < 10, "float32")
    velocity = keras.Model([point, time, label], 0.1 * known + 0.0 * point, name="velocity")
    noise = np.zeros((1, 784), "float32")
    for guidance in (0.0, 1.0, 3.0):
        found = sampled(velocity, noise, guidance=guidance)
        np.testing.assert_allclose(found, 0.1 * (1 + guidance), rtol=1e-5)


def test_the_loss_is_that_of_a_velocity_by_hand():
    """The network begins at 0, as its last layer does: the loss is the mean square of image - noise."""
    model = gan.build(recipes.get("flow"))
    noise = model.noise(8).numpy().reshape(IMAGES.shape)
    expected = np.mean((IMAGES - noise) ** 2)
    before = [weight.numpy() for weight in model.velocity.trainable_variables]
    found = model.train_step((tf.constant(IMAGES), LABELS))
    assert float(found["velocity_loss"]) == pytest.approx(expected, rel=1e-5)
    assert int(model.step) == 1 and len(model.averaged_generator.weights) == len(before)
    changed = [
        not np.array_equal(old, weight)
        for old, weight in zip(before, model.velocity.trainable_variables, strict=True)
    ]
    assert changed[-1] and changed[-2]  # of the last layer: behind it, all gradients are still 0


@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_learns_goes_on_where_it_was_and_is_saved_whole(jit_compile, tmp_path):
    recipe, losses = recipes.get("flow"), []
    straight, before, after = (gan.build(recipe) for _ in range(3))

    def fit(model, steps, first=0):
        model.jit_compile = jit_compile
        stream = data.batches(IMAGES, 4, 0, first, LABELS.numpy())
        return model.fit(stream, steps_per_epoch=steps, shuffle=False, verbose=0).history["velocity_loss"]

    losses += fit(straight, 4)
    fit(before, 2)
    before.save_weights(tmp_path / "some.weights.h5")
    after.load_weights(tmp_path / "some.weights.h5")
    fit(after, 2, first=2)
    for one, other in zip(straight.get_weights(), after.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert losses[0] < 1.5 and len({id(model.step) for model in (straight, after)}) == 2
    after.averaged_generator.save(tmp_path / "generator.keras")
    loaded = generation.load_model(tmp_path / "generator.keras")
    inputs = [generation.sample_noise(0, 3, 784), np.arange(3)]
    np.testing.assert_array_equal(loaded(inputs), after.generate(inputs))
    assert loaded.count_params() == 335_652


@pytest.mark.parametrize("size, parameters", [(32, 335_652), (64, 335_652)])
def test_other_sizes_begin_at_as_many_values(size, parameters):
    settings = {"image_size": size, "latent_dim": size**2}
    model = gan.build(recipes.override(recipes.get("flow"), settings))
    assert model.generator.count_params() == parameters
    with pytest.raises(InputError, match=f"--set latent_dim={size**2}"):
        gan.build(recipes.override(recipes.get("flow"), {"image_size": size}))


def test_settings_of_a_game_are_refused_and_not_listed(capsys):
    for name in ("loss=hinge", "second_epoch=3", "discriminator_learning_rate=1e-4", "shift=1"):
        with pytest.raises(InputError, match="flow"):
            recipes.override(recipes.get("flow"), dict([name.split("=")]))
    assert recipes.override(recipes.get("flow"), {"learning_rate": 1e-3}).generator_learning_rate == 1e-3
    assert main(["list"]) == 0
    listed = capsys.readouterr().out.split("flow matching")[1]
    assert "generator_learning_rate=0.002" in listed and "loss=" not in listed


def test_a_page_takes_one_pass_and_a_card_says_what_it_is(tmp_path):
    small = recipes.override(recipes.get("flow"), {"steps_per_epoch": 1, "batch_size": 4})
    record = training.train(small, squares(), output=tmp_path / "run", epochs=1, verbose=False)
    assert record["steps"] == 1 and (tmp_path / "run" / "losses.png").exists()
    assert record["parameters"] == [335_652]
    source = sources.open(tmp_path / "run")
    with pytest.raises(InputError, match="several passes"):
        page.write(source, tmp_path / "page.html")
    assert "by flow matching" in export.card(tmp_path / "run")


def test_one_label_in_ten_is_hidden():
    model, seen = gan.build(recipes.get("flow")), []
    network = model.velocity
    model.velocity = lambda inputs, training: seen.append(inputs[2]) or network(inputs, training=training)
    model.velocity.trainable_variables = network.trainable_variables
    images, labels = tf.zeros((2000, 28, 28, 1)), tf.zeros((2000,), "int32")
    model.train_step((images, labels))
    assert 0.07 < np.mean(seen[0] == 10) < 0.13 and set(np.unique(seen[0])) == {0, 10}
