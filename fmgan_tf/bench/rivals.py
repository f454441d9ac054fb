"""What the course's recipes race against: the network of a well-known tutorial, the prototype that cgan grew
from, and the ladder of changes that lead from the one to cgan. Images are float32 (batch, 28, 28, 1) in
[-1, 1], noise (batch, latent_dim), logits (batch, 1), labels int32 (batch,); image_size is 28.
"""

import dataclasses

import keras
from keras import layers

from fmgan_tf import models, recipes


def build_tutorial_generator(latent_dim=100, image_size=28):
    """noise -> image: the generator of the well-known DCGAN tutorial, 2,330,944 parameters.
    Source: https://www.tensorflow.org/tutorials/generative/dcgan, its layers in our own words."""
    noise = keras.Input((latent_dim,), name="noise")
    x = layers.Dense(7 * 7 * 256, use_bias=False)(noise)
    x = layers.LeakyReLU(negative_slope=0.3)(layers.BatchNormalization()(x))
    x = layers.Reshape((7, 7, 256))(x)
    for filters, strides in ((128, 1), (64, 2)):
        x = layers.Conv2DTranspose(filters, 5, strides=strides, padding="same", use_bias=False)(x)
        x = layers.LeakyReLU(negative_slope=0.3)(layers.BatchNormalization()(x))
    last = {"padding": "same", "use_bias": False, "activation": "tanh", "name": "image"}
    image = layers.Conv2DTranspose(1, 5, strides=2, **last)(x)
    return keras.Model(noise, image, name="tutorial_generator")


def build_tutorial_discriminator(image_size=28):
    """image -> logit: the discriminator of the same tutorial, 212,865 parameters."""
    image = x = keras.Input((28, 28, 1), name="image")
    for filters in (64, 128):
        x = layers.Conv2D(filters, 5, strides=2, padding="same")(x)
        x = layers.Dropout(0.3)(layers.LeakyReLU(negative_slope=0.3)(x))
    logit = layers.Dense(1, name="logit")(layers.Flatten()(x))
    return keras.Model(image, logit, name="tutorial_discriminator")


def build_prototype_generator(latent_dim=64, image_size=28, classes=10):
    """[noise, label] -> image: the first small conditional network that was fast on two cores, cgan's with
    ReLU and with label vectors as quiet as Keras makes them. 342,929 parameters."""
    noise = keras.Input((latent_dim,), name="noise")
    label = keras.Input((), dtype="int32", name="label")
    x = layers.Concatenate()([noise, models.embed_label(label, classes, 32, 0.03)])
    x = layers.Reshape((7, 7, 64))(layers.Dense(7 * 7 * 64, use_bias=False)(x))
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    for filters in (32, 16):
        x = layers.Conv2DTranspose(filters, 4, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    image = layers.Conv2D(1, 3, padding="same", activation="tanh", name="image")(x)
    return keras.Model([noise, label], image, name="prototype_generator")


def build_prototype_discriminator(image_size=28, classes=10):
    """[image, label] -> logit: strided convolutions, a dense layer, projection. 370,913 parameters."""
    image = x = keras.Input((28, 28, 1), name="image")
    label = keras.Input((), dtype="int32", name="label")
    for filters, size in ((32, 4), (64, 4), (128, 3)):
        x = layers.LeakyReLU(negative_slope=0.2)(layers.Conv2D(filters, size, strides=2, padding="same")(x))
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Dense(128)(layers.Flatten()(x)))
    agreement = layers.Dot(axes=1)([models.embed_label(label, classes, 128, 0.03), x])
    logit = layers.Add(name="logit")([layers.Dense(1)(x), agreement])
    return keras.Model([image, label], logit, name="prototype_discriminator")


def _rates(rate):
    return {"generator_learning_rate": rate, "discriminator_learning_rate": rate}


TUTORIAL = recipes.Recipe(
    name="tutorial",
    summary="the network of the well-known DCGAN tutorial with its own optimizers",
    generator="build_tutorial_generator",
    discriminator="build_tutorial_discriminator",
    batch_size=256,
    beta_1=0.9,
    beta_2=0.999,
    ema_decay=0.0,
    **_rates(1e-4),
)
PROTOTYPE = recipes.Recipe(
    name="prototype",
    summary="the small conditional network that cgan grew from",
    generator="build_prototype_generator",
    discriminator="build_prototype_discriminator",
    conditional=True,
    loss="hinge",
    latent_dim=64,
    **_rates(4e-4),
)
RIVALS = {"tutorial": TUTORIAL, "prototype": PROTOTYPE}


def _ladder():
    """From the tutorial to modulate, one change or one bundle at a time, and then modulate without one of
    them. What cgan has beyond modulate is in notebook 07."""
    rungs, changed = [TUTORIAL], {}

    def climb(name, summary, **changes):
        changed[name] = {field: (getattr(rungs[-1], field), value) for field, value in changes.items()}
        rungs.append(dataclasses.replace(rungs[-1], name=name, summary=summary, **changes))

    adam = {"beta_1": 0.5, "beta_2": 0.99}
    climb("settings", "Adam at 8e-4 with 0.5 and 0.99, batches of 64", batch_size=64, **adam, **_rates(8e-4))
    networks = {"generator": "build_dcgan_generator", "discriminator": "build_dcgan_discriminator"}
    climb("narrow", "networks a quarter to half as wide, kernels of 4", **networks)
    climb("average", "the moving average of the generator", ema_decay=0.995)
    networks = {"generator": "build_cgan_generator", "discriminator": "build_projection_discriminator"}
    label = "the label, by projection, and with it a discriminator of one more convolution and a dense layer"
    climb("labels", label, **networks, conditional=True, latent_dim=64)
    climb("hinge", "the hinge loss", loss="hinge")
    climb("batch-32", "batches of 32", batch_size=32)
    climb("shift", "the discriminator sees images moved by up to one pixel", shift=1)
    classifying = {"discriminator": "build_classifying_discriminator", "label_weight": 1.0}
    climb("recognize", "a discriminator that also names the class, of half the weights", **classifying)
    speaking = "a generator whose noise and label speak in every stage"
    climb("modulate", speaking, generator="build_modulated_generator")
    top = rungs[-1]
    for name in ("settings", "average", "hinge", "batch-32", "shift", "recognize"):
        undone = {
            field: before
            for field, (before, after) in changed[name].items()
            if getattr(top, field) == after  # and no later rung has changed it again
        }
        summary = f"modulate without what {name} brought"
        rungs.append(dataclasses.replace(top, name=f"without-{name}", summary=summary, **undone))
    return {rung.name: rung for rung in rungs[1:]}


LADDER = _ladder()
