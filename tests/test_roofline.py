import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from fmgan_tf import recipes
from fmgan_tf.__main__ import main
from fmgan_tf.bench import race, roofline


def spec(*shape):
    return tf.TensorSpec(shape, tf.float32)


def flops(function, *inputs, kinds=None):
    found = roofline.operations(function, *inputs)
    return sum(operation.flops for operation in found if kinds is None or operation.kind in kinds)


def test_closed_forms():
    """Two FLOPs for every multiplication: of a dense layer, a convolution, and a transposed one."""
    cases = (
        (layers.Dense(7, use_bias=False), (5, 11), 2 * 5 * 11 * 7),
        (
            layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
            (4, 28, 28, 3),
            2 * 4 * 14 * 14 * 8 * 3 * 9,
        ),
        (
            layers.Conv2DTranspose(6, 4, strides=2, padding="same", use_bias=False),
            (4, 7, 7, 5),
            2 * 4 * 49 * 5 * 6 * 16,
        ),
    )
    for layer, shape, expected in cases:
        layer.build(shape)
        assert flops(layer, spec(*shape), kinds=("MatMul", "Conv2D", "Conv2DBackpropInput")) == expected
    (product,) = roofline.operations(tf.matmul, spec(5, 11), spec(11, 7))
    assert product.bytes == 4 * (5 * 11 + 11 * 7 + 5 * 7)
    (added,) = roofline.operations(lambda x: x + x, spec(6, 7))
    assert (added.flops, added.bytes) == (42, 3 * 4 * 42)
    variable = tf.Variable(tf.zeros(100))

    def assign(x):
        variable.assign_add(x, read_value=False)

    (assigned,) = roofline.operations(assign, spec(100))
    assert (assigned.flops, assigned.bytes) == (100, 3 * 400)


def test_what_nobody_needs_is_not_counted():
    """The gradient for the image is not wanted, so the first layer's share of it is never computed."""
    layer = layers.Conv2D(8, 3, padding="same", use_bias=False)
    layer.build((4, 28, 28, 1))

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(layer(x))
        return tape.gradient(y, [layer.kernel])

    kinds = [operation.kind for operation in roofline.operations(gradients, spec(4, 28, 28, 1))]
    assert "Conv2DBackpropFilter" in kinds and "Conv2DBackpropInput" not in kinds


@pytest.mark.parametrize("name", ["cgan", "dcgan", "tutorial", "prototype"])
def test_convolutions_and_products_are_those_of_tensorflows_own_profiler(name):
    recipe = race.contender(name)
    model = race.build(recipe, 0)
    inputs = spec(recipe.batch_size, 28, 28, 1)
    if recipe.conditional:
        inputs = inputs, tf.TensorSpec((recipe.batch_size,), tf.int32)
    graph = tf.function(model.train_step).get_concrete_function(inputs).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder
    options = options(options.float_operation()).with_empty_output().build()
    profile = tf.compat.v1.profiler.profile(graph, options=options, cmd="scope")
    theirs = {node.name: node.total_float_ops for node in _leaves(profile)}
    compared = 0
    for operation in roofline.operations(model.train_step, inputs):
        if operation.kind in ("MatMul", "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"):
            ratio = operation.flops / theirs[operation.name]
            # Of 7 pixels at stride 2 they count 7 on the way back, 8 on the way there; here it is 8 both ways
            assert ratio == 1 or ("Backprop" in operation.kind and ratio == pytest.approx((8 / 7) ** 2)), (
                operation
            )
            compared += ratio == 1
    assert compared > 20


def _leaves(node):
    if not node.children:
        yield node
    for child in node.children:
        yield from _leaves(child)


def test_the_roof():
    """Peak 100 FLOP/s, 10 bytes/s: the ridge is at 10 FLOP a byte."""
    slow = roofline.Operation("a", "Add", flops=10, bytes=40)  # 4 s for its bytes
    fast = roofline.Operation("b", "MatMul", flops=200, bytes=10)  # 2 s for its arithmetic, 1 s for its bytes
    view = roofline.View("x", 2, [slow, fast], 12.0, 100.0, 10.0)
    assert (
        view.flops == 210 and view.least == pytest.approx(6.0) and view.memory_bound == pytest.approx(4 / 6)
    )
    line = roofline.table([view]).splitlines()[-1].split()
    assert line == ["x", "0.0", "0.00", "0", "0.0", "17.5%", "6000.0", "12000.0", "67%"]


def test_the_command(blobs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fmgan_tf.fashion_mnist.load", lambda: blobs)
    monkeypatch.setattr(roofline, "measure_peak", lambda: 1e11)
    monkeypatch.setattr(roofline, "measure_bandwidth", lambda: 1e10)
    seconds = roofline._seconds
    monkeypatch.setattr(roofline, "_seconds", lambda function, least: seconds(function, 0.1))
    recipe = recipes.override(recipes.get("cgan"), {"batch_size": 8})
    monkeypatch.setattr(recipes, "RECIPES", {"cgan": recipe})
    picture = tmp_path / "new" / "roofline.png"
    assert main(["roofline", "--recipes", "cgan", "--output", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "ridge at 10 FLOP/byte" in printed and picture.stat().st_size > 5000
    assert main(["roofline", "--output", str(tmp_path / "roofline.jpg")]) == 2
    assert "expected .png" in capsys.readouterr().err
    assert main(["roofline", "--recipes", "cgn"]) == 2
    assert "Did you mean 'cgan'" in capsys.readouterr().err


def test_the_roofs_are_measured():
    """Nothing but that they are of this world: between a slow and an impossible processor."""
    assert 1e9 < roofline.measure_peak(256) < 1e15
    assert 1e8 < roofline.measure_bandwidth(4) < 1e13


def test_a_train_step_is_at_most_three_and_seven_passes():
    """Forward, and back to weights and inputs: the generator once each; the discriminator forward on real and
    generated images, back twice each, and once more for the generator."""
    model = race.build(recipes.get("dcgan"), 0)
    kinds = ("MatMul", "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter")
    networks = model.generator, model.discriminator
    forward = [flops(network, spec(64, *network.input.shape[1:]), kinds=kinds) for network in networks]
    whole = flops(model.train_step, spec(64, 28, 28, 1), kinds=kinds)
    assert np.dot(forward, (2, 5)) < whole < np.dot(forward, (3, 7))
