"""Builders of the networks: plain functional Keras models, no training code.

Generators turn noise, float32 (batch, latent_dim), into images, float32 (batch, image_size, image_size, 1) in
[-1, 1], the range of their tanh, unless their docstring says otherwise. Discriminators turn such images into
logits, float32 (batch, 1); with_probability puts the sigmoid on top. The conditional ones of either kind take
a list, the second input being the labels, int32 (batch,) in [0, classes). An image_size other than 28, 32 or
64 pixels is an InputError. Parameters are counted for these three, and the defaults of the other arguments.

Conditional networks after Mirza and Osindero 2014, https://arxiv.org/abs/1411.1784; the convolutional ones
after Radford et al. 2016, https://arxiv.org/abs/1511.06434, much narrower.
"""

import keras
import numpy as np
from keras import layers

from fmgan_tf import InputError

HEUN_STEPS, GUIDANCE = 4, 0.0  # of build_sampler

# image size: (size where the generator starts, number of doublings)
STAGES = {28: (7, 2), 32: (8, 2), 64: (8, 3)}


def stages_of(image_size):
    if image_size not in STAGES:
        raise InputError(f"image_size is {image_size!r}, expected one of 28, 32 or 64")
    return STAGES[image_size]


def build_dcgan_generator(latent_dim=100, image_size=28):
    """Noise to image: a dense layer, then transposed convolutions that double the size and halve the depth.

    Kernels are 4 x 4 at stride 2: a kernel that the stride divides covers every output pixel equally often,
    which avoids the checkerboards of Odena et al. 2016 (https://distill.pub/2016/deconv-checkerboard/).
    Parameters: 355,153 for 28, 451,153 for 32, 992,337 for 64.
    """
    size, doublings = stages_of(image_size)
    filters = 16 * 2**doublings
    noise = keras.Input((latent_dim,), name="noise")
    x = layers.Dense(size * size * filters, use_bias=False)(noise)
    x = layers.Reshape((size, size, filters))(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    for _ in range(doublings):
        filters //= 2
        x = layers.Conv2DTranspose(filters, 4, strides=2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    image = layers.Conv2D(1, 3, padding="same", activation="tanh", name="image")(x)
    return keras.Model(noise, image, name="dcgan_generator")


def build_dcgan_discriminator(image_size=28):
    """Image to logit: strided convolutions that halve the size and double the depth, then one dense unit. No
    batch normalization, which would let the verdict on one image depend on the others of its batch.
    Parameters: 36,513 for 28, 37,473 for 32, 172,769 for 64."""
    _, halvings = stages_of(image_size)
    image = keras.Input((image_size, image_size, 1), name="image")
    x = image
    filters = 32
    for _ in range(halvings):
        x = layers.Conv2D(filters, 4, strides=2, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
        filters *= 2
    x = layers.Flatten()(x)
    logit = layers.Dense(1, name="logit")(x)
    return keras.Model(image, logit, name="dcgan_discriminator")


def build_deconv_generator(latent_dim=100, image_size=28):
    """Noise to image: a dense layer, three transposed convolutions with ReLU, a final convolution with tanh.
    Parameters: 394,817 for 28, 491,777 for 32, 520,449 for 64."""
    size, doublings = stages_of(image_size)
    strides = [1] * (3 - doublings) + [2] * doublings  # three transposed convolutions; the cheap one first
    noise = keras.Input((latent_dim,), name="noise")
    x = layers.Dense(size * size * 64, activation="relu")(noise)
    x = layers.Reshape((size, size, 64))(x)
    for filters, stride in zip((64, 32, 16), strides, strict=True):
        kernel = 4 if stride == 2 else 3
        x = layers.Conv2DTranspose(filters, kernel, strides=stride, padding="same", activation="relu")(x)
    image = layers.Conv2D(1, 3, padding="same", activation="tanh", name="image")(x)
    return keras.Model(noise, image, name="deconv_generator")


def build_dense_discriminator(image_size=28):
    """Image to logit: flatten, two dense layers with ReLU, one dense unit.
    Parameters: 533,505 for 28, 656,385 for 32, 2,229,249 for 64."""
    stages_of(image_size)
    image = keras.Input((image_size, image_size, 1), name="image")
    x = layers.Flatten()(image)
    x = layers.Dense(512, activation="relu")(x)
    x = layers.Dense(256, activation="relu")(x)
    logit = layers.Dense(1, name="logit")(x)
    return keras.Model(image, logit, name="dense_discriminator")


def embed_label(label, classes, size, spread):
    """A vector for every class, learned, which starts with that standard deviation: too small, and the
    networks hardly see the label; too large, and they hardly see the noise. Keras's default is 0.03."""
    start = keras.initializers.RandomNormal(stddev=spread)
    return layers.Embedding(classes, size, embeddings_initializer=start)(label)


def build_cgan_generator(latent_dim=64, image_size=28, classes=10):
    """Noise and label to image: an embedding of the label joins the noise, then the generator of dcgan.
    Parameters: 342,929 for 28, 435,089 for 32, 959,889 for 64."""
    noise = keras.Input((latent_dim,), name="noise")
    label = keras.Input((), dtype="int32", name="label")
    x = layers.Concatenate()([noise, embed_label(label, classes, 32, 0.1)])
    image = build_dcgan_generator(latent_dim + 32, image_size)(x)
    return keras.Model([noise, label], image, name="cgan_generator")


def build_image_features(channels, image_size, features=128):
    """The part that the conditional discriminators share: image (and label maps) to features."""
    _, halvings = stages_of(image_size)
    image = x = keras.Input((image_size, image_size, channels))
    filters = 32
    for _ in range(halvings + 1):
        x = layers.Conv2D(filters, 4, strides=2, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
        filters *= 2
    x = layers.Dense(features)(layers.Flatten()(x))
    return keras.Model(image, layers.LeakyReLU(negative_slope=0.2)(x), name="image_features")


def image_and_label(image_size):
    """The two inputs of a conditional discriminator: image and label."""
    image = keras.Input((image_size, image_size, 1), name="image")
    label = keras.Input((), dtype="int32", name="label")
    return image, label


def build_concatenating_discriminator(image_size=28, classes=10):
    """Image and label to logit: an embedding of the label joins the image's features before two dense layers.
    Parameters: 447,905 for 28, 447,905 for 32, 1,234,593 for 64."""
    image, label = image_and_label(image_size)
    x = layers.Concatenate()(
        [build_image_features(1, image_size)(image), embed_label(label, classes, 32, 1.0)]
    )
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Dense(128)(x))
    return keras.Model([image, label], layers.Dense(1, name="logit")(x), name="concatenating_discriminator")


def build_label_map_discriminator(image_size=28, classes=10):
    """Image and label to logit: a map for every class joins the image as a channel, the label's 1, others 0.
    Parameters: 432,097 for 28, 432,097 for 32, 1,218,785 for 64."""
    image, label = image_and_label(image_size)
    one_hot = layers.CategoryEncoding(classes, output_mode="one_hot")(layers.Reshape((1,))(label))
    maps = layers.RepeatVector(image_size * image_size)(one_hot)  # (batch, pixels, classes)
    maps = layers.Reshape((image_size, image_size, classes))(maps)
    x = build_image_features(1 + classes, image_size)(layers.Concatenate()([image, maps]))
    return keras.Model([image, label], layers.Dense(1, name="logit")(x), name="label_map_discriminator")


def build_projection_discriminator(image_size=28, classes=10):
    """Image and label to logit: how real, plus how well the image's features agree with the label's vector.

    logit = v . f(image) + b + w[label] . f(image).
    Parameters: 428,257 for 28, 428,257 for 32, 1,214,945 for 64.

    Source: Miyato and Koyama 2018, equation 3, https://arxiv.org/abs/1802.05637.
    """
    image, label = image_and_label(image_size)
    features = build_image_features(1, image_size)(image)
    agreement = layers.Dot(axes=1)([embed_label(label, classes, 128, 0.2), features])  # (batch, 1)
    logit = layers.Add(name="logit")([layers.Dense(1)(features), agreement])
    return keras.Model([image, label], logit, name="projection_discriminator")


def build_modulated_generator(latent_dim=64, image_size=28, classes=10):
    """Noise and label to image: in every stage, both scale and shift what batch normalization leaves.

    The last stage, at full size, where a channel costs most, has 8 of them. Parameters: 358,697 for 28,
    450,857 for 32, 1,000,233 for 64.

    Source: self-modulation, Chen et al. 2019, https://arxiv.org/abs/1810.01365.
    """
    size, doublings = stages_of(image_size)
    noise = keras.Input((latent_dim,), name="noise")
    label = keras.Input((), dtype="int32", name="label")
    style = layers.Concatenate()([noise, embed_label(label, classes, 32, 0.1)])

    def modulate(x):
        filters = x.shape[-1]
        scale = layers.Dense(filters, kernel_initializer="zeros", bias_initializer="ones")(style)
        shift = layers.Dense(filters, kernel_initializer=keras.initializers.RandomNormal(stddev=0.02))(style)
        x = layers.BatchNormalization(momentum=0.9, center=False, scale=False)(x)
        x = layers.Multiply()([x, layers.Reshape((1, 1, filters))(scale)])
        x = layers.Add()([x, layers.Reshape((1, 1, filters))(shift)])
        return layers.LeakyReLU(negative_slope=0.2)(x)

    filters = 16 * 2**doublings
    x = layers.Dense(size * size * filters, use_bias=False)(style)
    x = modulate(layers.Reshape((size, size, filters))(x))
    for stage in range(1, doublings + 1):
        filters = 8 if stage == doublings else filters // 2
        x = modulate(layers.Conv2DTranspose(filters, 4, strides=2, padding="same", use_bias=False)(x))
    image = layers.Conv2D(1, 3, padding="same", activation="tanh", name="image")(x)
    return keras.Model([noise, label], image, name="modulated_generator")


def build_classifying_discriminator(image_size=28, classes=10):
    """As build_projection_discriminator, and beside its logits those of all classes, (batch, classes).

    Parameters: 232,875 for 28, 232,875 for 32, 298,475 for 64.
    Source: Odena et al. 2017, https://arxiv.org/abs/1610.09585.
    """
    _, halvings = stages_of(image_size)
    image, label = image_and_label(image_size)
    x = image
    for filters in (32, 64, 64, 64)[: halvings + 1]:
        x = layers.Conv2D(filters, 4, strides=2, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    features = layers.LeakyReLU(negative_slope=0.2)(layers.Dense(128)(layers.Flatten()(x)))
    agreement = layers.Dot(axes=1)([embed_label(label, classes, 128, 0.2), features])  # (batch, 1)
    logit = layers.Add(name="logit")([layers.Dense(1)(features), agreement])
    class_logits = layers.Dense(classes, name="class_logits")(features)
    return keras.Model([image, label], [logit, class_logits], name="classifying_discriminator")


def build_larger_discriminator(image_size=28, classes=10):
    """As build_classifying_discriminator, wider, with dropout and a first layer that sees every pixel at full
    size. It takes over where a smaller one has nothing left to teach, and a step takes three times as long.
    Parameters: 824,075 for 28, 824,075 for 32, 1,217,291 for 64."""
    _, halvings = stages_of(image_size)
    image, label = image_and_label(image_size)
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Conv2D(32, 3, padding="same")(image))
    for filters in (64, 128, 128, 128)[: halvings + 1]:
        x = layers.Conv2D(filters, 4, strides=2, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Dense(192)(layers.Dropout(0.3)(layers.Flatten()(x)))
    features = layers.Dropout(0.3)(layers.LeakyReLU(negative_slope=0.2)(x))
    agreement = layers.Dot(axes=1)([embed_label(label, classes, 192, 0.2), features])  # (batch, 1)
    logit = layers.Add(name="logit")([layers.Dense(1)(features), agreement])
    class_logits = layers.Dense(classes, name="class_logits")(features)
    return keras.Model([image, label], [logit, class_logits], name="larger_discriminator")


def build_velocity(image_size=28, classes=10):
    """Where an image lies from noise: a small U-Net, for gan.Flow.

    It works on squares of 2 x 2 pixels, for at full size a channel costs most. Parameters: 335,652 for 28.

    Returns:
        keras.Model, [points (batch, image_size, image_size, 1), times (batch, 1) in [0, 1], int32 labels
        (batch,), `classes` for any] -> velocities, of the shape of the points.
    Source of the kind of network: Ho et al. 2020, https://arxiv.org/abs/2006.11239.
    """
    stages_of(image_size)
    half = image_size // 2
    point = keras.Input((image_size, image_size, 1), name="point")
    time = keras.Input((1,), name="time")
    label = keras.Input((), dtype="int32", name="label")
    angles = keras.ops.multiply(time, np.geomspace(1, 100, 16, dtype="float32")[None])
    waves = layers.Concatenate()([keras.ops.sin(angles), keras.ops.cos(angles)])
    style = layers.Add()([layers.Dense(128)(waves), embed_label(label, classes + 1, 128, 0.05)])
    style = layers.Dense(128, activation="silu")(layers.Activation("silu")(style))

    def normalized(x):
        return layers.Activation("silu")(layers.LayerNormalization(center=False, scale=False)(x))

    def block(x, filters):
        scale, shift = (layers.Reshape((1, 1, filters))(layers.Dense(filters)(style)) for _ in range(2))
        y = layers.Conv2D(filters, 3, padding="same")(normalized(x))
        y = layers.LayerNormalization(center=False, scale=False)(y)
        y = layers.Activation("silu")(layers.Add()([y, layers.Multiply()([y, scale]), shift]))
        y = layers.Conv2D(filters, 3, padding="same")(y)
        x = x if x.shape[-1] == filters else layers.Conv2D(filters, 1)(x)
        return layers.Add()([x, y])

    x = layers.Reshape((half, half, 4))(
        layers.Permute((1, 3, 2, 4))(layers.Reshape((half, 2, half, 2))(point))
    )
    x = wide = block(layers.Conv2D(32, 3, padding="same")(x), 32)
    x = layers.Conv2D(64, 4, strides=2, padding="same")(x)
    x = block(block(x, 64), 64)
    x = layers.Conv2DTranspose(32, 4, strides=2, padding="same")(x)
    x = block(layers.Concatenate()([x, wide]), 32)
    x = layers.Conv2D(4, 3, padding="same", kernel_initializer="zeros")(normalized(x))
    x = layers.Permute((1, 3, 2, 4))(layers.Reshape((half, half, 2, 2))(x))
    velocity = layers.Reshape((image_size, image_size, 1))(x)
    return keras.Model([point, time, label], velocity, name="velocity")


def build_sampler(velocity, classes=10, steps=HEUN_STEPS, guidance=GUIDANCE):
    """Noise and label to image, along the velocity, by Heun's method: 2 * steps - 1 evaluations.

    Args:
        velocity: keras.Model of build_velocity with as many classes; the sampler shares its weights.
        guidance: float, by how much of what the label changes the velocity is changed further; 0 saves an
            evaluation in two. Source: Ho and Salimans 2022, https://arxiv.org/abs/2207.12598.
    """
    image_size = velocity.inputs[0].shape[1]
    noise = keras.Input((image_size**2,), name="noise")
    label = keras.Input((), dtype="int32", name="label")
    any_class = keras.ops.full_like(label, classes)

    def at(x, moment):
        time = keras.ops.full_like(noise[:, :1], moment)
        of_class = velocity([x, time, label])
        if not guidance:
            return of_class
        return of_class + guidance * (of_class - velocity([x, time, any_class]))

    x = layers.Reshape((image_size, image_size, 1))(noise)
    for step in range(steps):
        first = at(x, step / steps)
        x, euler = x, x + first / steps
        x = euler if step == steps - 1 else x + (first + at(euler, (step + 1) / steps)) / (2 * steps)
    return keras.Model([noise, label], keras.ops.clip(x, -1.0, 1.0), name="sampler")


def build_flow_generator(latent_dim=784, image_size=28, classes=10):
    """Noise and label to image: build_sampler of a build_velocity. Noise has as many values as the image."""
    if latent_dim != image_size**2:
        expected = f"expected {image_size**2}, for a flow begins at an image of noise"
        raise InputError(f"latent_dim is {latent_dim}, {expected}: --set latent_dim={image_size**2}")
    return build_sampler(build_velocity(image_size, classes), classes)


def build_dense_cgan_generator(latent_dim=100, image_size=28, classes=2):
    """Noise and label to image, in [0, 1], through dense layers alone.
    Parameters: 1,507,748 for 28, 1,753,748 for 32, 4,902,548 for 64."""
    stages_of(image_size)
    noise = keras.Input((latent_dim,), name="noise")
    label = keras.Input((), dtype="int32", name="label")
    x = layers.Concatenate()([noise, embed_label(label, classes, 10, 1.0)])
    for units in (128, 256, 512, 1024):
        x = layers.LeakyReLU(negative_slope=0.2)(layers.Dense(units)(x))
    pixels = layers.Dense(image_size * image_size, activation="sigmoid")(x)
    image = layers.Reshape((image_size, image_size, 1), name="image")(pixels)
    return keras.Model([noise, label], image, name="dense_cgan_generator")


def build_dense_cgan_discriminator(image_size=28, classes=2):
    """Image, in [0, 1], and label to logit through dense layers alone.
    Parameters: 2,507,285 for 28, 2,630,165 for 32, 4,203,029 for 64."""
    stages_of(image_size)
    image, label = image_and_label(image_size)
    x = layers.Concatenate()([layers.Flatten()(image), embed_label(label, classes, 10, 1.0)])
    for units in (512, 1024, 1024, 512):
        x = layers.LeakyReLU(negative_slope=0.2)(layers.Dense(units)(x))
    return keras.Model([image, label], layers.Dense(1, name="logit")(x), name="dense_cgan_discriminator")


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
    x = layers.Concatenate()([noise, embed_label(label, classes, 32, 0.03)])
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
    agreement = layers.Dot(axes=1)([embed_label(label, classes, 128, 0.03), x])
    logit = layers.Add(name="logit")([layers.Dense(1)(x), agreement])
    return keras.Model([image, label], logit, name="prototype_discriminator")


def with_probability(discriminator):
    """The discriminator with the sigmoid on top, 0 = generated, 1 = real: (batch, 1). It shares the weights;
    class logits are left out."""
    probability = layers.Activation("sigmoid", name="probability")(discriminator.outputs[0])
    return keras.Model(discriminator.input, probability, name=discriminator.name)


def build_classifier(filters=32, classes=10):
    """Image to class: residual convolutions, their averages as features, one dense layer.

    Returns:
        keras.Model, float32 (batch, 28, 28, 1) in [-1, 1] -> logits (batch, classes), of 427,690 parameters.
        The layer "features" gives (batch, 4 * filters).
    Source: residual connections after He et al. 2016, https://arxiv.org/abs/1512.03385.
    """

    def convolution(x, filters, strides=1):
        x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    image = keras.Input((28, 28, 1), name="image")
    x = convolution(image, filters)
    x = convolution(x, 2 * filters, strides=2)
    x = layers.Add()([x, convolution(x, 2 * filters)])
    x = convolution(x, 4 * filters, strides=2)
    x = layers.Add()([x, convolution(x, 4 * filters)])
    x = layers.Add()([x, convolution(x, 4 * filters)])
    x = layers.GlobalAveragePooling2D(name="features")(x)
    logits = layers.Dense(classes, name="logits")(layers.Dropout(0.2)(x))
    return keras.Model(image, logits, name="classifier")
