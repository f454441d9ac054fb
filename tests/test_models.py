import re

import keras
import numpy as np
import pytest

from fmgan_tf import InputError, models

GENERATORS = (models.build_dcgan_generator, models.build_deconv_generator)
DISCRIMINATORS = (models.build_dcgan_discriminator, models.build_dense_discriminator)
CONDITIONAL_GENERATORS = {
    models.build_cgan_generator: (64, 10),
    models.build_modulated_generator: (64, 10),
    models.build_dense_cgan_generator: (100, 2),
}
CONDITIONAL_DISCRIMINATORS = {
    models.build_concatenating_discriminator: 10,
    models.build_label_map_discriminator: 10,
    models.build_projection_discriminator: 10,
    models.build_classifying_discriminator: 10,
    models.build_dense_cgan_discriminator: 2,
}
ALL = (*GENERATORS, *DISCRIMINATORS, *CONDITIONAL_GENERATORS, *CONDITIONAL_DISCRIMINATORS)
NOISE = np.random.default_rng(0).standard_normal((5, 100), "float32")


@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("build", GENERATORS)
def test_generators(build, size):
    generator = build(image_size=size)
    assert generator.input_shape == (None, 100) and generator.output_shape == (None, size, size, 1)
    images = generator(NOISE).numpy()
    assert images.dtype == np.float32 and images.shape == (5, size, size, 1)
    assert np.abs(generator(1000 * NOISE, training=True)).max() <= 1
    assert np.ptp(images, axis=0).max() > 0  # the noise matters
    assert (
        isinstance(generator.layers[-1], keras.layers.Conv2D)
        and generator.layers[-1].activation is keras.activations.tanh
    )
    assert build(latent_dim=7, image_size=size).input_shape == (None, 7)


@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("build", DISCRIMINATORS)
def test_discriminators(build, size):
    discriminator = build(image_size=size)
    images = np.random.default_rng(0).uniform(-1, 1, (5, size, size, 1)).astype("float32")
    logits = discriminator(images).numpy()
    assert logits.dtype == np.float32 and logits.shape == (5, 1)
    np.testing.assert_allclose(
        logits[2:3], discriminator(images[2:3]), atol=1e-5
    )  # no image judged by its neighbors
    probabilities = models.with_probability(discriminator)(images).numpy()
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-5)


@pytest.mark.parametrize("build", ALL)
def test_parameter_counts_are_those_of_the_docstring(build):
    for size in (28, 32, 64):
        assert f"{build(image_size=size).count_params():,} for {size}" in re.sub(r"\s+", " ", build.__doc__)


@pytest.mark.parametrize("build", ALL)
def test_kernels_are_divisible_by_strides(build):
    for size in (28, 32, 64):
        for layer in build(image_size=size).layers:
            if isinstance(layer, keras.layers.Conv2D | keras.layers.Conv2DTranspose):
                assert layer.kernel_size[0] % layer.strides[0] == 0


@pytest.mark.parametrize("build", ALL)
def test_other_sizes_are_refused(build):
    with pytest.raises(InputError, match="image_size is 30, expected one of 28, 32 or 64"):
        build(image_size=30)


@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("build", CONDITIONAL_GENERATORS)
def test_conditional_generators(build, size):
    latent_dim, classes = CONDITIONAL_GENERATORS[build]
    generator = build(image_size=size)
    assert [tensor.shape for tensor in generator.inputs] == [(None, latent_dim), (None,)]
    noise = np.tile(NOISE[:1, :latent_dim], (classes, 1))
    images = generator([noise, np.arange(classes)]).numpy()
    assert images.dtype == np.float32 and images.shape == (classes, size, size, 1)
    assert np.ptp(images, axis=0).max() > 0  # the label matters
    assert (
        np.abs(generator([NOISE[:, :latent_dim], np.zeros(5, int)]).numpy().std(axis=0)).max() > 0
    )  # and so does the noise
    wild = generator([1000 * noise, np.arange(classes)], training=True).numpy()
    assert wild.max() <= 1 and wild.min() >= (0 if build is models.build_dense_cgan_generator else -1)


@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("build", CONDITIONAL_DISCRIMINATORS)
def test_conditional_discriminators(build, size):
    classes = CONDITIONAL_DISCRIMINATORS[build]
    discriminator = build(image_size=size)
    image = np.random.default_rng(0).uniform(-1, 1, (1, size, size, 1)).astype("float32")
    images, labels = np.tile(image, (classes, 1, 1, 1)), np.arange(classes)
    logits_only = keras.Model(discriminator.inputs, discriminator.outputs[0])
    logits = logits_only([images, labels]).numpy()
    assert logits.dtype == np.float32 and logits.shape == (classes, 1) and len(set(logits[:, 0])) == classes
    np.testing.assert_allclose(logits[1:2], logits_only([image, labels[1:2]]), atol=1e-5)
    probabilities = models.with_probability(discriminator)([images, labels]).numpy()
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-5)


def test_the_classifying_discriminator_names_a_class_whatever_it_was_told():
    images = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 1)).astype("float32")
    discriminator = models.build_classifying_discriminator()
    (first, named), (second, again) = (discriminator([images, np.full(3, label)]) for label in (2, 7))
    assert named.shape == (3, 10) and np.abs(first - second).max() > 0
    np.testing.assert_array_equal(named, again)


def test_modulation_starts_as_plain_batch_normalization_and_a_shift():
    """Every scale is 1 at first, whatever noise and label; the shifts are not."""
    generator = models.build_modulated_generator()
    stages = [layer for layer in generator.layers if isinstance(layer, keras.layers.Multiply)]
    assert len(stages) == 3
    scales = keras.Model(generator.inputs, [stage.input[1] for stage in stages])(
        [NOISE[:, :64], np.arange(5)]
    )
    for scale, filters in zip(scales, (64, 32, 8), strict=True):
        np.testing.assert_array_equal(scale, np.ones((5, 1, 1, filters)))


def test_projection_is_that_of_its_formula():
    discriminator = models.build_projection_discriminator()
    image = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 1)).astype("float32")
    features = discriminator.get_layer("judge")(image).numpy()
    layers = [layer for layer in discriminator.layers if layer.weights and layer.name != "judge"]
    vectors = next(layer.embeddings.numpy() for layer in layers if isinstance(layer, keras.layers.Embedding))
    dense = next(layer for layer in layers if isinstance(layer, keras.layers.Dense))
    expected = (
        features @ dense.kernel.numpy() + dense.bias.numpy() + (features * vectors[[7, 0, 3]]).sum(1)[:, None]
    )
    np.testing.assert_allclose(discriminator([image, np.array([7, 0, 3])]), expected, atol=1e-5)


def test_dense_cgan_is_what_the_course_says():
    units = [
        layer.units
        for layer in models.build_dense_cgan_generator().layers
        if isinstance(layer, keras.layers.Dense)
    ]
    assert units == [128, 256, 512, 1024, 784]
    discriminator = models.build_dense_cgan_discriminator()
    units = [layer.units for layer in discriminator.layers if isinstance(layer, keras.layers.Dense)]
    assert units == [512, 1024, 1024, 512, 1]


def test_deconv_gan_is_what_the_course_says():
    generator = models.build_deconv_generator()
    kinds = [type(layer).__name__ for layer in generator.layers]
    assert kinds == ["InputLayer", "Dense", "Reshape", *["Conv2DTranspose"] * 3, "Conv2D"]
    assert all(layer.activation is keras.activations.relu for layer in generator.layers[3:6])
    kinds = [type(layer).__name__ for layer in models.build_dense_discriminator().layers]
    assert kinds == ["InputLayer", "Flatten", "Dense", "Dense", "Dense"]
