"""Images to features, on which generators are measured.

The shipped classifier's give FID-FMNIST. A distance is only as good as its features, so there are second
opinions: those of a shipped network that has never seen a label, of one that has never seen an image, and
InceptionV3's. Images of another dtype or shape than expected, and missing or damaged models, are an
InputError.
"""

import contextlib
import functools
import sys

import keras
import numpy as np
import tensorflow as tf

from fmgan_tf import InputError, data, pretrained

INCEPTION_NOTE = (
    "InceptionV3 here has the ImageNet weights of keras.applications, not the 2015 weights of the papers: do "
    "not set this distance beside published ones."
)


def _check(images):
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (images.shape[1],) * 2 + (1,):
        raise InputError(
            f"images are {images.dtype} {images.shape}, expected uint8 (N, height, width, 1), square, in "
            "[0, 255]; data.from_tanh_range and data.from_unit_range convert what a generator gives"
        )
    return images


@functools.cache
def classifier():
    """The shipped classifier; fmgan_tf.bench.classifier made it, from the training images alone.

    Returns:
        keras.Model, float32 (batch, 28, 28, 1) in [-1, 1] -> logits (batch, 10). Its layer "features" gives
        (batch, 128).
    """
    return keras.models.load_model(pretrained.verified("classifier/classifier.keras"), compile=False)


@functools.cache
def label_free():
    """The shipped network that has seen no label; fmgan_tf.bench.label_free made it, and says how.

    Returns:
        keras.Model, float32 (batch, 28, 28, 1) in [-1, 1] -> (batch, 64).
    """
    return keras.models.load_model(pretrained.verified("label-free/encoder.keras"), compile=False)


@functools.cache
def random():
    """The control, whose weights are random, the same on every machine: it has seen no image at all.

    Returns:
        keras.Model, float32 (batch, 28, 28, 1) in [-1, 1] -> (batch, 64), averages over the image.
    """
    image = x = keras.Input((28, 28, 1))
    generator = np.random.default_rng(0)
    for filters in (32, 64, 64):
        layer = keras.layers.Conv2D(filters, 4, strides=2, padding="same", use_bias=False, activation="relu")
        shape = (4, 4, x.shape[-1], filters)
        x = layer(x)
        # With this deviation the signal neither fades nor grows: He et al. 2015, arXiv 1502.01852
        deviation = np.sqrt(2 / np.prod(shape[:-1]))
        layer.set_weights([generator.normal(0, deviation, shape).astype("float32")])
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))


@functools.cache
def _outputs(name):
    """What a network makes of a batch, compiled: a list, of the classifier its features and its logits."""
    model = {"classifier": classifier, "label-free": label_free, "random": random}[name]()
    outputs = model.outputs
    if name == "classifier":
        outputs = [model.get_layer("features").output, *outputs]
    return tf.function(
        functools.partial(keras.Model(model.input, outputs), training=False), reduce_retracing=True
    )


def _extract(name, images, label, batch_size=500):
    images, found = data.resize(_check(images), 28), []
    for batch in data.in_batches(images, batch_size, label):
        outputs = keras.tree.flatten(_outputs(name)(data.to_tanh_range(batch)))
        found.append([output.numpy() for output in outputs])
    return [np.concatenate(output) for output in zip(*found, strict=True)]


def classifier_features(images, batch_size=500, label="classifier features"):
    """Features and recognized classes of the shipped classifier.

    A Frechet distance on these features is called FID-FMNIST, never bare FID, which is one on Inception's.

    Args:
        images: uint8 (N, size, size, 1); other sizes than 28 are resized.
        label: str, for the progress bar.
    Returns:
        (features, labels): float32 (N, 128) and int64 (N,) in [0, 9].
    """
    features, logits = _extract("classifier", images, label, batch_size)
    return features, logits.argmax(1)


def label_free_features(images, label="label-free features"):
    """Features, float32 (N, 64), that no label has shaped, of images as in classifier_features."""
    return _extract("label-free", images, label)[0]


def random_features(images, label="random features"):
    """Features, float32 (N, 64), of a network with random weights, of images as in classifier_features."""
    return _extract("random", images, label)[0]


def recognized_among(classes, features):
    """Which of some classes, int64 (N,), the shipped classifier recognizes in features (N, 128)."""
    classes = np.asarray(classes)
    logits = classifier().get_layer("logits")(features).numpy()
    return classes[logits[:, classes].argmax(1)]


def classifier_extractor(pixels="tanh"):
    """The classifier's features within TensorFlow's graph, for gan.GAN.measure_fid.

    Args:
        pixels: range of the images, "tanh" ([-1, 1]) or "sigmoid" ([0, 1]).
    Returns:
        (function of float32 images (batch, height, width, 1) that returns (batch, 128), 128).
    """
    model = classifier()
    layer = model.get_layer("features")
    network = keras.Model(model.input, layer.output)

    def extractor(images):
        if pixels == "sigmoid":  # the classifier was trained on [-1, 1]
            images = 2.0 * images - 1.0
        if images.shape[1:3] != (28, 28):
            images = tf.image.resize(images, (28, 28), antialias=True)
        return network(images, training=False)

    return extractor, layer.output.shape[-1]


def inception(weights="imagenet"):
    """InceptionV3 up to its pooled features: (batch, 299, 299, 3) in [-1, 1] -> (batch, 2048).

    Args:
        weights: "imagenet" (Keras's cache, else a download of 88 MB), the path of a file with the weights of
            keras.applications.InceptionV3 without its top, or None for random ones.
    Raises:
        InputError: the weights are not available.
    Source: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567.
    """
    options = {"include_top": False, "input_shape": (299, 299, 3), "pooling": "avg"}
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras reports a download, --json has stdout
            return keras.applications.InceptionV3(weights=weights and str(weights), **options)
    except Exception as error:  # urllib, h5py and Keras each have exceptions of their own
        problem = f"{weights} does not hold InceptionV3's weights without its top"
        fix = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5 from keras.applications is expected"
        if weights == "imagenet":
            problem = "InceptionV3's weights are not in Keras's cache and could not be downloaded"
            fix = "name a file that holds them (--inception-weights), or take --extractor classifier"
        raise InputError(f"{problem} ({' '.join(str(error).split())}); {fix}") from error


def inception_features(images, batch_size=50, weights="imagenet", label="InceptionV3 features", model=None):
    """Pooled InceptionV3 features, float32 (N, 2048), of images as in classifier_features.

    Three equal channels, resized to 299 pixels, antialiased; two cores take about 10 images a second. `model`
    is what inception() returned, to load it once for several calls.
    """
    images, model = _check(images), model or inception(weights)

    @tf.function(reduce_retracing=True)
    def extract(batch):
        batch = tf.image.resize(tf.cast(batch, tf.float32) / 127.5 - 1.0, (299, 299), antialias=True)
        return model(tf.repeat(batch, 3, axis=-1), training=False)

    return np.concatenate([extract(batch).numpy() for batch in data.in_batches(images, batch_size, label)])
