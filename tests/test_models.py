"""The networks: what goes in, what comes out, how many parameters, and what the course says of them."""

import functools
import re

import keras
import numpy as np
import pytest

from fmgan_tf import InputError, models

SIZES = (28, 32, 64)
GENERATORS = {  # latent_dim, and classes where it takes labels
    models.build_dcgan_generator: (100, None),
    models.build_deconv_generator: (100, None),
    models.build_cgan_generator: (64, 10),
    models.build_modulated_generator: (64, 10),
    models.build_dense_cgan_generator: (100, 2),
}
DISCRIMINATORS = {  # classes where it takes labels
    models.build_dcgan_discriminator: None,
    models.build_dense_discriminator: None,
    models.build_concatenating_discriminator: 10,
    models.build_label_map_discriminator: 10,
    models.build_projection_discriminator: 10,
    models.build_classifying_discriminator: 10,
    models.build_dense_cgan_discriminator: 2,
}
DENSE = "build_dense_discriminator", "build_dense_cgan_generator", "build_dense_cgan_discriminator"
RIVALS = [getattr(models, f"build_{name}") for name in ("tutorial_generator", "tutorial_discriminator")]
RIVALS += [getattr(models, f"build_{name}") for name in ("prototype_generator", "prototype_discriminator")]
NOISE = np.random.default_rng(0).standard_normal((10, 100), "float32")

each_size = pytest.mark.parametrize("size", SIZES)
each_generator = pytest.mark.parametrize("build", GENERATORS, ids=lambda build: build.__name__[6:])
each_discriminator = pytest.mark.parametrize("build", DISCRIMINATORS, ids=lambda build: build.__name__[6:])
each = pytest.mark.parametrize("build", [*GENERATORS, *DISCRIMINATORS], ids=lambda build: build.__name__[6:])


@functools.cache
def built(build, size=28):
    """One model for all tests, which change none."""
    return build(image_size=size)


def documented(build):
    return re.sub(r"\s+", " ", build.__doc__)


@each_size
@each_generator
def test_generators(build, size):
    generator, (latent_dim, classes) = built(build, size), GENERATORS[build]
    noise, few = NOISE[:, :latent_dim], classes or 10
    labels = [np.arange(10) % few] if classes else []
    assert [tensor.shape for tensor in generator.inputs] == [(None, latent_dim), (None,)][: 1 + len(labels)]

    def images(noise, labels, **how):
        return generator([noise, *labels] if classes else noise, **how).numpy()

    made = images(noise, labels)
    assert made.dtype == np.float32 and made.shape == (10, size, size, 1)
    one_label = [np.zeros(10, int)] if classes else []
    assert np.ptp(images(noise, one_label), axis=0).max() > 0, "the noise matters"
    if classes:
        one_noise = np.tile(noise[:1], (10, 1))
        assert np.ptp(images(one_noise, labels), axis=0).max() > 0, "the label matters"
    wild = images(1000 * noise, labels, training=True)
    assert wild.max() <= 1 and wild.min() >= (0 if build is models.build_dense_cgan_generator else -1)


@each_size
@each_discriminator
def test_discriminators(build, size):
    discriminator, classes = built(build, size), DISCRIMINATORS[build]
    count = classes or 5
    images = np.random.default_rng(0).uniform(-1, 1, (count, size, size, 1)).astype("float32")
    if classes:
        images[:] = images[:1]  # the label alone makes the difference

    def inputs(chosen):
        return [images[chosen], np.arange(count)[chosen]] if classes else images[chosen]

    logits_only = keras.Model(discriminator.inputs, discriminator.outputs[0])
    logits = logits_only(inputs(slice(None))).numpy()
    assert logits.dtype == np.float32 and logits.shape == (count, 1) and len(set(logits[:, 0])) == count
    alone = logits_only(inputs(slice(1, 2)))
    np.testing.assert_allclose(logits[1:2], alone, atol=1e-5)  # no image is judged by its neighbors
    probabilities = models.with_probability(discriminator)(inputs(slice(None))).numpy()
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-5)


@each
def test_parameter_counts_are_those_of_the_docstring(build):
    for size in SIZES:
        assert f"{built(build, size).count_params():,} for {size}" in documented(build)


@pytest.mark.parametrize("build", [*RIVALS, models.build_classifier])
def test_parameter_counts_of_networks_of_one_size(build):
    assert f"{build().count_params():,} parameters" in documented(build)


def convolutions(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from convolutions(layer)
        elif isinstance(layer, keras.layers.Conv2D | keras.layers.Conv2DTranspose):
            yield layer


@each
def test_kernels_are_divisible_by_strides(build):
    for size in SIZES:
        found = list(convolutions(built(build, size)))
        assert bool(found) != (build.__name__ in DENSE)
        for layer in found:
            assert layer.kernel_size[0] % layer.strides[0] == 0, layer.name


@each
def test_other_sizes_are_refused(build):
    with pytest.raises(InputError, match="image_size is 30, expected one of 28, 32 or 64"):
        build(image_size=30)


@each_generator
def test_generators_take_noise_of_any_size(build):
    assert build(latent_dim=7).inputs[0].shape == (None, 7)


def test_the_classifying_discriminator_names_a_class_whatever_it_was_told():
    images = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 1)).astype("float32")
    discriminator = built(models.build_classifying_discriminator)
    (first, named), (second, again) = (discriminator([images, np.full(3, label)]) for label in (2, 7))
    assert named.shape == (3, 10) and np.abs(first - second).max() > 0
    np.testing.assert_array_equal(named, again)


def test_modulation_starts_as_plain_batch_normalization_and_a_shift():
    """Every scale is 1 at first, whatever noise and label."""
    generator = built(models.build_modulated_generator)
    stages = [layer for layer in generator.layers if isinstance(layer, keras.layers.Multiply)]
    scales = keras.Model(generator.inputs, [stage.input[1] for stage in stages])
    found = scales([NOISE[:, :64], np.arange(10)])
    for scale, filters in zip(found, (64, 32, 8), strict=True):
        np.testing.assert_array_equal(scale, np.ones((10, 1, 1, filters)))


def test_projection_is_that_of_its_formula():
    discriminator = built(models.build_projection_discriminator)
    image = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 1)).astype("float32")
    features = discriminator.get_layer("image_features")(image).numpy()
    (vectors,) = (x.embeddings.numpy() for x in discriminator.layers if isinstance(x, keras.layers.Embedding))
    (dense,) = (layer for layer in discriminator.layers if isinstance(layer, keras.layers.Dense))
    agreement = (features * vectors[[7, 0, 3]]).sum(1)[:, None]
    expected = features @ dense.kernel.numpy() + dense.bias.numpy() + agreement
    np.testing.assert_allclose(discriminator([image, np.array([7, 0, 3])]), expected, atol=1e-5)


def kinds(build):
    return [type(layer).__name__ for layer in built(build).layers]


def test_the_networks_are_what_the_course_says():
    dense = built(models.build_dense_cgan_generator), built(models.build_dense_cgan_discriminator)
    units = [[x.units for x in network.layers if isinstance(x, keras.layers.Dense)] for network in dense]
    assert units == [[128, 256, 512, 1024, 784], [512, 1024, 1024, 512, 1]]
    expected = ["InputLayer", "Dense", "Reshape", *["Conv2DTranspose"] * 3, "Conv2D"]
    assert kinds(models.build_deconv_generator) == expected
    assert kinds(models.build_dense_discriminator) == ["InputLayer", "Flatten", *["Dense"] * 3]
    for layer in built(models.build_deconv_generator).layers[3:6]:
        assert layer.activation is keras.activations.relu
    last = built(models.build_dcgan_generator).layers[-1]
    assert isinstance(last, keras.layers.Conv2D) and last.activation is keras.activations.tanh
