import re

import keras
import numpy as np
import pytest

from fmgan_tf import InputError, models

GENERATORS = (models.build_dcgan_generator, models.build_deconv_generator)
DISCRIMINATORS = (models.build_dcgan_discriminator, models.build_dense_discriminator)
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
    np.testing.assert_allclose(logits[2:3], discriminator(images[2:3]), atol=1e-5)  # no image judged by its neighbours
    probabilities = models.with_probability(discriminator)(images).numpy()
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-5)


@pytest.mark.parametrize("build", GENERATORS + DISCRIMINATORS)
def test_parameter_counts_are_those_of_the_docstring(build):
    for size in (28, 32, 64):
        assert f"{build(image_size=size).count_params():,} for {size}" in re.sub(r"\s+", " ", build.__doc__)


@pytest.mark.parametrize("build", GENERATORS + DISCRIMINATORS)
def test_kernels_are_divisible_by_strides(build):
    for size in (28, 32, 64):
        for layer in build(image_size=size).layers:
            if isinstance(layer, keras.layers.Conv2D | keras.layers.Conv2DTranspose):
                assert layer.kernel_size[0] % layer.strides[0] == 0


@pytest.mark.parametrize("build", GENERATORS + DISCRIMINATORS)
def test_other_sizes_are_refused(build):
    with pytest.raises(InputError, match="image_size is 30, expected one of 28, 32 or 64"):
        build(image_size=30)


def test_deconv_gan_is_what_the_course_says():
    generator = models.build_deconv_generator()
    kinds = [type(layer).__name__ for layer in generator.layers]
    assert kinds == ["InputLayer", "Dense", "Reshape", *["Conv2DTranspose"] * 3, "Conv2D"]
    assert all(layer.activation is keras.activations.relu for layer in generator.layers[3:6])
    kinds = [type(layer).__name__ for layer in models.build_dense_discriminator().layers]
    assert kinds == ["InputLayer", "Flatten", "Dense", "Dense", "Dense"]
