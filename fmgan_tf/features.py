"""Images to features, on which generators are measured: the shipped extractors, and how they are trained.

The classifier's features give FID-FMNIST. A distance is only as good as its features, so there are second
opinions: those of a network that has never seen a label, and of one that has never seen an image. Images of
another dtype or shape than expected, and missing or damaged models, are an InputError.
"""

import functools
import re
import sys
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from fmgan_tf import InputError, data, datasets, generation, models

SIZE = 28  # pixels, of the images that the extractors were trained on
CLASSIFIER_SETTINGS = {
    "filters": 32,  # depth of its first layer, see models.build_classifier
    "batch_size": 128,
    "epochs": 12,
    "learning_rate": 2e-3,  # of AdamW at its height; it rises over the first twelfth and falls as a cosine
    "weight_decay": 0.02,
    "shift": 1,  # pixels by which an image is moved, at most
}
OWN_STEPS = 1000  # of both extractors of another dataset
ENCODER_SETTINGS = {"features": 64, "batch_size": 128, "epochs": 12, "learning_rate": 2e-3}


@functools.cache
def classifier():
    """The shipped classifier, see train_classifier.

    Returns:
        keras.Model, float32 (batch, 28, 28, 1) in [-1, 1] -> logits (batch, 10). Its layer "features" gives
        (batch, 128).
    """
    return keras.models.load_model(generation.verified("classifier/classifier.keras"), compile=False)


@functools.cache
def label_free():
    """The shipped network that has seen no label, see train_encoder.

    Returns:
        keras.Model, float32 (batch, 28, 28, 1) in [-1, 1] -> (batch, 64).
    """
    return keras.models.load_model(generation.verified("label-free/encoder.keras"), compile=False)


@functools.cache
def random():
    """The control, whose weights are random, the same on every machine: it has seen no image at all.

    Returns:
        keras.Model, float32 (batch, 28, 28, 1) in [-1, 1] -> (batch, 64), averages over the image.
    """
    image = x = keras.Input((SIZE, SIZE, 1))
    numbers = np.random.default_rng(0)
    for filters in (32, 64, 64):
        shape = (4, 4, x.shape[-1], filters)
        layer = layers.Conv2D(filters, 4, strides=2, padding="same", use_bias=False, activation="relu")
        x = layer(x)
        # With this deviation the signal neither fades nor grows: He et al. 2015, arXiv 1502.01852
        layer.set_weights([numbers.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype("float32")])
    return keras.Model(image, layers.GlobalAveragePooling2D()(x))


@functools.cache
def _compiled(model):
    """What a network makes of a batch, compiled: a list, of a classifier its features and its logits."""
    outputs = model.outputs
    if model.name == "classifier":
        outputs = [model.get_layer("features").output, *outputs]
    network = functools.partial(keras.Model(model.input, outputs), training=False)
    return tf.function(network, reduce_retracing=True)


def _extract(model, images, progress):
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (images.shape[1],) * 2 + (1,):
        raise InputError(
            f"images are {images.dtype} {images.shape}, expected uint8 (N, height, width, 1), square, in "
            "[0, 255]; data.from_tanh_range and data.from_unit_range convert what a generator gives"
        )
    found = []
    for batch in data.in_batches(data.resize(images, SIZE), 500, progress):
        outputs = keras.tree.flatten(_compiled(model)(data.to_tanh_range(batch)))
        found.append([output.numpy() for output in outputs])
    return [np.concatenate(output) for output in zip(*found, strict=True)]


def classifier_features(images, progress="classifier features"):
    """Features and recognized classes of the shipped classifier.

    A Frechet distance on these features is called FID-FMNIST, never bare FID, which is one on Inception's.

    Args:
        images: uint8 (N, size, size, 1); other sizes than 28 are resized.
        progress: str, what the progress bar says.
    Returns:
        (features, labels): float32 (N, 128) and int64 (N,) in [0, 9].
    """
    features, logits = _extract(classifier(), images, progress)
    return features, logits.argmax(1)


def label_free_features(images, progress="label-free features"):
    """Features, float32 (N, 64), that no label has shaped, of images as in classifier_features."""
    return _extract(label_free(), images, progress)[0]


def random_features(images, progress="random features"):
    """Features, float32 (N, 64), of a network with random weights, of images as in classifier_features."""
    return _extract(random(), images, progress)[0]


class Extractors(NamedTuple):
    """The networks on whose features images are measured, and the dataset that they were trained on."""

    classifier: keras.Model | None  # as classifier(), None where the dataset has no labels
    encoder: keras.Model  # as label_free()
    dataset: str

    @classmethod
    def shipped(cls):
        """Those of Fashion-MNIST."""
        return cls(classifier(), label_free(), datasets.NAME)

    @property
    def dimensions(self):
        """How many features an image has."""
        return self.encoder.output_shape[-1] if self.classifier is None else self.logits.input.shape[-1]

    @property
    def logits(self):
        """The classifier's last layer."""
        return self.classifier.get_layer("logits")

    @property
    def distance(self):
        """What the Frechet distance on these features is called."""
        named = "FID-FMNIST" if self.dataset == datasets.NAME else f"FID-{self.dataset}"
        return "label-free distance" if self.classifier is None else named

    @property
    def key(self):
        """The same as JSON and CSV have it."""
        return re.sub(r"\W+", "_", self.distance.lower())

    def features(self, images, progress="features"):
        """(features, recognized classes) as classifier_features(); without labels the encoder's, and 0."""
        if self.classifier is None:
            return self.label_free(images, progress), np.zeros(len(images), "int64")
        found, logits = _extract(self.classifier, images, progress)
        return found, logits.argmax(1)

    def label_free(self, images, progress="label-free features"):
        """As label_free_features()."""
        return _extract(self.encoder, images, progress)[0]

    def recognized_among(self, classes, found):
        """Which of some classes, int64 (N,), the classifier recognizes in features (N, dimensions)."""
        classes = np.asarray(classes)
        return classes[self.logits(found).numpy()[:, classes].argmax(1)]


def train_extractors(dataset, folder, steps=None):
    """The Extractors of a dataset of one's own, kept in a folder (pathlib.Path): trained there once, on the
    training images at 28 pixels, for so many steps each, by default OWN_STEPS."""
    small, found = dataset._replace(train_images=data.resize(dataset.train_images, SIZE)), {}
    size = min(128, len(small.train_images))
    settings = {"batch_size": size, "epochs": max(1, (steps or OWN_STEPS) * size // len(small.train_images))}
    for name, train, more in (
        ("classifier", train_classifier, {"filters": 16}),
        ("encoder", train_encoder, {}),
    ):
        path = folder / f"{name}-{dataset.fingerprint[:12]}.keras"
        if path.exists():
            found[name] = generation.load_model(path)
        elif name == "encoder" or dataset.is_labeled:
            print(f"training the {name} of {dataset.name}, to measure by...", file=sys.stderr, flush=True)
            found[name], _ = train(small, verbose=0, **settings, **more)
            folder.mkdir(parents=True, exist_ok=True)
            found[name].save(path)
    return Extractors(found.get("classifier"), found["encoder"], dataset.name)


def classifier_extractor(pixels="tanh"):
    """The classifier's features within TensorFlow's graph, for gan.GAN.measure_fid.

    Args:
        pixels: range of the images, "tanh" ([-1, 1]) or "unit" ([0, 1]).
    Returns:
        (function of float32 images (batch, height, width, 1) that returns (batch, 128), 128).
    """
    model = classifier()
    layer = model.get_layer("features")
    network = keras.Model(model.input, layer.output)

    def extractor(images):
        images = tf.cast(images, "float32")
        if pixels == "unit":  # the classifier was trained on [-1, 1]
            images = 2.0 * images - 1.0
        if images.shape[1:3] != (SIZE, SIZE):  # tf.image.resize cannot be compiled by XLA
            weights = data.resizing_weights(images.shape[1], SIZE)
            images = tf.einsum("ij,bjkc,lk->bilc", weights, images, weights)
        return network(images, training=False)

    return extractor, layer.output.shape[-1]


def train_classifier(dataset, seed=0, verbose=2, **changes):
    """Trains a classifier on the training images alone, moved by up to a pixel each way. None is mirrored:
    shoes point one way in Fashion-MNIST, and the features must see when they do not.

    Args:
        dataset: datasets.Dataset of images of 28 x 28.
        seed: int, of weights, shifts and order.
        changes: other values than those of CLASSIFIER_SETTINGS.
    Returns:
        (keras.Model as classifier(), dict of lists by epoch: loss, accuracy).
    """
    settings, classes = CLASSIFIER_SETTINGS | changes, len(dataset.class_names)
    images, size = data.to_tanh_range(dataset.train_images), settings["batch_size"]
    steps, peak = settings["epochs"] * (len(images) // size), settings["learning_rate"]
    keras.utils.set_random_seed(seed)
    model = models.build_classifier(settings["filters"], classes)
    warmup = {"warmup_target": peak, "warmup_steps": steps // 12}
    rate = keras.optimizers.schedules.CosineDecay(0.1 * peak, steps - steps // 12, **warmup)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=settings["weight_decay"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])

    def move(batch, labels):
        reach = settings["shift"]
        return data.shift(batch, tf.random.uniform((size, 2), -reach, reach + 1, tf.int32), reach), labels

    stream = tf.data.Dataset.from_tensor_slices((images, dataset.train_labels))
    stream = stream.shuffle(len(images), seed=seed).batch(size, drop_remainder=True).map(move).prefetch(2)
    history = model.fit(stream, epochs=settings["epochs"], shuffle=False, verbose=verbose).history
    bare = models.build_classifier(settings["filters"], classes)  # without optimizer, which doubles the file
    bare.set_weights(model.get_weights())
    return bare, history


def build_autoencoder(features=64):
    """An encoder that squeezes an image to features, and what rebuilds the image from them.

    Returns:
        (encoder, autoencoder): keras.Model, float32 (batch, 28, 28, 1) in [-1, 1] -> (batch, features), of
        164,576 parameters, and -> images like these.
    """
    image = x = keras.Input((SIZE, SIZE, 1), name="image")
    for filters in (32, 64, 64):
        x = layers.Conv2D(filters, 4, strides=2, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    code = layers.Dense(features, name="features")(layers.Flatten()(x))
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Dense(7 * 7 * 64)(code))
    x = layers.Reshape((7, 7, 64))(x)
    for filters in (32, 16):
        x = layers.Conv2DTranspose(filters, 4, strides=2, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    rebuilt = layers.Conv2D(1, 3, padding="same", activation="tanh")(x)
    return keras.Model(image, code, name="encoder"), keras.Model(image, rebuilt, name="autoencoder")


def train_encoder(dataset, seed=0, verbose=2, **changes):
    """Trains an autoencoder to rebuild the training images from few numbers, with the mean squared error of
    pixels. No label is used and no image is moved or mirrored. Arguments as in train_classifier.

    Returns:
        (keras.Model as label_free(), dict of lists by epoch: loss).
    """
    settings, images = ENCODER_SETTINGS | changes, data.to_tanh_range(dataset.train_images)
    keras.utils.set_random_seed(seed)
    encoder, autoencoder = build_autoencoder(settings["features"])
    steps = settings["epochs"] * -(-len(images) // settings["batch_size"])
    rate = keras.optimizers.schedules.CosineDecay(settings["learning_rate"], steps)
    autoencoder.compile(keras.optimizers.Adam(rate), "mse")
    sizes = {"batch_size": settings["batch_size"], "epochs": settings["epochs"]}
    history = autoencoder.fit(images, images, verbose=verbose, **sizes).history
    return encoder, history
