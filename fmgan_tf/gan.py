"""The adversarial game as a Keras model: one train step, whose only moving part is the loss; and the model
of a recipe."""

import functools

import h5py
import keras
import tensorflow as tf

from fmgan_tf import data, losses, metrics, models


class GAN(keras.Model):
    """Trains a generator against a discriminator with fit().

    Both networks are updated at every step, from one batch of real and one of generated images. Beside the
    generator goes its moving average, `averaged_generator`, which makes the better images.

    fit() takes a tf.data.Dataset of real images, float (batch, height, width, 1), in the generator's range.
    After measure_fid(), so does its validation_data, and callbacks can take monitor="val_fid", mode="min".

    Args:
        generator: keras.Model, float noise (batch, latent_dim) -> images (batch, height, width, 1).
        discriminator: keras.Model, images -> logits (batch, 1).
        ema_decay: float in [0, 1), how much of the average is kept at every step once it has warmed up.
        seed: int, of the noise.
    """

    fid = None  # a metrics.FrechetDistance once measure_fid() was called
    second = None  # builds the discriminator that takes over, its optimizer and loss; see begin_second_act

    def __init__(self, generator, discriminator, ema_decay=0.995, seed=0):
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.averaged_generator = keras.models.clone_model(generator)
        self.averaged_generator.set_weights(generator.get_weights())
        self.averaged_generator.trainable = False
        self.latent_dim = generator.inputs[0].shape[-1]
        self.ema_decay = ema_decay
        self.seed = seed
        self.trackers = [
            keras.metrics.Mean(name)
            for name in ("discriminator_loss", "generator_loss", "real_probability", "generated_probability")
        ]
        self.built = True  # as all variables are now; else Keras 3 refuses to save a model that has no call()

    def compile(self, generator_optimizer, discriminator_optimizer, loss):
        """Sets the two keras.optimizers.Optimizer and the losses.Loss."""
        super().compile()
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.adversarial_loss = loss
        # An optimizer that is built only at its first step comes back empty from a checkpoint.
        generator_optimizer.build(self.generator.trainable_variables)
        discriminator_optimizer.build(self.discriminator.trainable_variables)
        for weight in self.discriminator.trainable_variables:
            weight.constraint = loss.constraint

    @property
    def step(self):
        """How many steps have been trained, an int variable."""
        return self.generator_optimizer.iterations

    @property
    def metrics(self):
        """The means, over an epoch, of what train_step returns."""
        return self.trackers

    def train_step(self, real_images):
        """One update of both networks: a dict of this step's losses and mean probabilities, named as the
        metrics, so that callbacks get a step's values after a batch and means after an epoch."""
        noise = self.noise(real_images.shape[0])
        with tf.GradientTape(persistent=True) as tape:
            generated_images = self.generator(noise, training=True)
            real_logits = self.discriminator(real_images, training=True)
            generated_logits = self.discriminator(generated_images, training=True)
            real_logits, generated_logits = self.adversarial_loss.compare(real_logits, generated_logits)
            discriminator_loss = self.adversarial_loss.discriminator(real_logits, generated_logits)
            if self.adversarial_loss.penalty:
                judge = functools.partial(self.discriminator, training=True)
                discriminator_loss += self.adversarial_loss.penalty(judge, real_images, generated_images)
            generator_loss = self.adversarial_loss.generator(generated_logits)
        self.update(tape, discriminator_loss, generator_loss)
        return self.report(discriminator_loss, generator_loss, real_logits, generated_logits)

    def update(self, tape, discriminator_loss, generator_loss):
        """Takes a step of either optimizer, along the gradient of its own loss, and moves the average."""
        for optimizer, network, loss in (
            (self.discriminator_optimizer, self.discriminator, discriminator_loss),
            (self.generator_optimizer, self.generator, generator_loss),
        ):
            optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        self.update_average()

    def report(self, discriminator_loss, generator_loss, real_logits, generated_logits):
        """What train_step returns; the metrics take note of it."""
        values = {
            "discriminator_loss": discriminator_loss,
            "generator_loss": generator_loss,
            "real_probability": keras.ops.mean(keras.ops.sigmoid(real_logits)),
            "generated_probability": keras.ops.mean(keras.ops.sigmoid(generated_logits)),
        }
        for tracker in self.trackers:
            tracker.update_state(values[tracker.name])
        return values

    def begin_second_act(self):
        """Puts what self.second builds, if there is any, in the place of the discriminator that has played so
        far, with an optimizer and a loss of its own, and the average in the place of the generator."""
        if self.second:
            with self.distribute_strategy.scope():
                discriminator, optimizer, loss = self.second()
                del self.discriminator, self.discriminator_optimizer
                self.discriminator, self.second = discriminator, None
                self.generator.set_weights(self.averaged_generator.get_weights())
                self.compile(self.generator_optimizer, optimizer, loss)

    def load_weights(self, path, **options):
        """Everything that save_weights() has saved, also of a second act, which begins then."""
        if self.second:
            with h5py.File(path) as file:
                steps = [file[f"{name}_optimizer/vars/0"][()] for name in ("generator", "discriminator")]
            if steps[0] != steps[1]:  # the optimizer of another discriminator began later
                self.begin_second_act()
        super().load_weights(path, **options)
        for layer in (
            self.discriminator.layers if self.discriminator else ()
        ):  # Keras does not save how much they have drawn: twice a step
            if isinstance(layer, keras.layers.Dropout):
                state = layer.seed_generator.state
                state.assign(keras.ops.stack([state[0], 2 * self.discriminator_optimizer.iterations]))

    def noise(self, count):
        """float32 (count, latent_dim), by seed and step alone: a resumed run draws the same."""
        return self.draw(count, self.step)

    def draw(self, count, number):
        """The noise of that number, float32 (count, latent_dim): another one for every seed and every int."""
        return tf.random.stateless_normal(
            (count, self.latent_dim), (self.seed, keras.ops.cast(number, "int64"))
        )

    def update_average(self):
        """averaged <- d * averaged + (1 - d) * generator, for every weight, also of batch normalization.

        The decay d = min(ema_decay, (1 + t) / (10 + t)) after t steps starts low, so that the average forgets
        the first steps quickly.
        """
        step = keras.ops.cast(self.step, "float32")
        decay = keras.ops.minimum(self.ema_decay, (1.0 + step) / (10.0 + step))
        for average, weight in zip(self.averaged_generator.weights, self.generator.weights, strict=True):
            average.assign_add(keras.ops.cast(1.0 - decay, weight.dtype) * (weight - average))

    def generate(self, noise):
        """Images from the averaged generator, for noise (N, latent_dim) or a list of it and labels (N,)."""
        return self.averaged_generator(noise, training=False)

    def measure_fid(self, extractor, dimensions):
        """Makes evaluate() and fit(validation_data=...) measure "fid", the averaged generator's distance.

        The extractor is a function of images (batch, height, width, 1) in the generator's range that returns
        (batch, dimensions), see features.classifier_extractor. It takes more images than dimensions. Real
        images may also come as features already, extracted once for all passes.
        """
        self.fid = metrics.FrechetDistance(dimensions, name="fid")
        # Behind a function Keras does not see the extractor's weights, which would bloat every checkpoint
        self.extract = lambda images: images if images.shape.rank == 2 else extractor(images)
        self.test_function = (
            None  # as compile() does: one that is compiled already would fill the last metric
        )

    def reset_metrics(self):
        """What fit() calls before every epoch and evaluate() before every pass."""
        super().reset_metrics()
        if self.fid is not None:
            self.fid.reset_state()

    def test_step(self, real_images):
        """Adds a batch of real images and as many generated ones to the distance: {"fid": of all so far}."""
        noise = self.validation_noise(tf.shape(real_images)[0])
        self.fid.update_state(self.extract(real_images), self.extract(self.generate(noise)))
        return {"fid": self.fid.result()}

    def validation_noise(self, count):
        """Other noise for every batch, the same in every pass, none that is trained on."""
        if self.fid is None:
            raise ValueError(
                "this GAN has nothing to evaluate yet; call measure_fid(extractor, dimensions) first"
            )
        seen = keras.ops.cast(self.fid.real[0], "int64")  # how many images
        return self.draw(count, -1 - seen)  # the numbers of training's noise are positive


class ConditionalGAN(GAN):
    """The same game with labels: both networks see the class of every image, as a second input.

    Args:
        generator: keras.Model, [noise (batch, latent_dim), int labels (batch,)] -> images.
        discriminator: keras.Model, [images, int labels (batch,)] -> logits (batch, 1): is this a real image
            of this class? Or a list of them and logits (batch, classes): which class is it?
        shift: int, pixels by which the discriminator sees every image moved, at most, each its own way: so it
            cannot learn the training images by heart. For generators that end in tanh, where black is -1.
        label_weight: float, the weight of the cross-entropy of the second logits at the first step: the
            discriminator learns to recognize real images, and the generator to make images that are.
        label_decay: float, per step. After t steps the weight is label_weight / (1 + label_decay * t): once
            images are recognized, more of it would be at the cost of variety.

    fit() takes pairs of images and labels; generated images get the labels of the real ones.

    Source: Mirza and Osindero 2014, https://arxiv.org/abs/1411.1784; shifts: Zhao et al. 2020,
    https://arxiv.org/abs/2006.10738; second logits: Odena et al. 2017, https://arxiv.org/abs/1610.09585.
    """

    recognition = 1.0  # how many times as much the discriminator's part of the second logits weighs

    def __init__(self, *networks, shift=0, label_weight=0.0, label_decay=0.0, **settings):
        super().__init__(*networks, **settings)
        self.shift, self.label_weight, self.label_decay = shift, label_weight, label_decay

    def train_step(self, batch):
        """One update of both networks from images, float (batch, height, width, 1), and int labels."""
        real_images, labels = batch
        noise = self.noise(real_images.shape[0])
        with tf.GradientTape(persistent=True) as tape:
            generated_images = self.generator([noise, labels], training=True)
            real_logits, real_cost = self.discriminate(real_images, labels)
            generated_logits, generated_cost = self.discriminate(generated_images, labels)
            real_logits, generated_logits = self.adversarial_loss.compare(real_logits, generated_logits)
            discriminator_loss = self.adversarial_loss.discriminator(real_logits, generated_logits)
            discriminator_loss += self.recognition * real_cost
            if self.adversarial_loss.penalty:
                judge = lambda images: self.discriminate(images, labels)[0]  # noqa: E731
                discriminator_loss += self.adversarial_loss.penalty(judge, real_images, generated_images)
            generator_loss = self.adversarial_loss.generator(generated_logits) + generated_cost
        self.update(tape, discriminator_loss, generator_loss)
        return self.report(discriminator_loss, generator_loss, real_logits, generated_logits)

    def discriminate(self, images, labels):
        """What the discriminator makes of shifted images: (logits, cost), float (batch, 1) and a scalar.

        The cost, of classes that are not recognized, is added to the adversarial loss: of real images to the
        discriminator's, of generated ones to the generator's.
        """
        if self.shift:
            images = data.shift(images, self.offsets(images.shape[0]), self.shift)
        outputs = self.discriminator([images, labels], training=True)
        # float32, also where a dtype policy has the networks compute in half precision
        logits, *class_logits = (keras.ops.cast(output, "float32") for output in keras.tree.flatten(outputs))
        if not class_logits:
            return logits, 0.0
        cost = keras.losses.sparse_categorical_crossentropy(labels, *class_logits, from_logits=True)
        step = keras.ops.cast(self.step, "float32")
        return logits, self.label_weight / (1.0 + self.label_decay * step) * keras.ops.mean(cost)

    def offsets(self, count):
        """How far discriminate() moves every image, int32 (count, 2) in [-shift, shift], by seed and step."""
        step = keras.ops.cast(self.step, "int64")
        return tf.random.stateless_uniform(
            (count, 2), (self.seed, -1 - step), -self.shift, self.shift + 1, tf.int32
        )

    def test_step(self, batch):
        """Adds (images, labels) to the distance, see GAN."""
        real_images, labels = batch
        noise = self.validation_noise(tf.shape(real_images)[0])
        self.fid.update_state(self.extract(real_images), self.extract(self.generate([noise, labels])))
        return {"fid": self.fid.result()}


class Flow(ConditionalGAN):
    """No game: one network learns where an image lies from noise, and the generator follows it.

    From noise z to an image x leads a straight line. Its point (1 - t) z + t x moves with velocity x - z. The
    network gets the point, the time t and the label, and minimizes the squared error of that velocity: it
    learns the mean over all lines through the point. It does not see one label in ten, and so learns the
    velocity of any class as well.

    Args:
        generator: keras.Model, [noise (batch, pixels), int labels (batch,)] -> images, with the layer
            "velocity", see models.build_sampler.

    Source: Lipman et al. 2023, equation 23 with sigma_min = 0, https://arxiv.org/abs/2210.02747; hidden
    labels: Ho and Salimans 2022, https://arxiv.org/abs/2207.12598; times: Esser et al. 2024, equation 19,
    https://arxiv.org/abs/2403.03206.
    """

    def __init__(self, generator, **settings):
        super().__init__(generator, None, **settings)
        self.velocity = generator.get_layer("velocity")
        (vectors,) = (layer for layer in self.velocity.layers if isinstance(layer, keras.layers.Embedding))
        self.any_class = vectors.input_dim - 1
        self.trackers = [keras.metrics.Mean("velocity_loss")]

    def compile(self, optimizer):
        """Sets the keras.optimizers.Optimizer."""
        keras.Model.compile(self)
        self.generator_optimizer = optimizer
        optimizer.build(self.velocity.trainable_variables)

    def train_step(self, batch):
        """One update from images, float (batch, height, width, 1), and int labels."""
        images, labels = batch
        noise = tf.reshape(self.noise(images.shape[0]), images.shape)
        chance = self.draw(images.shape[0], self.step + 2**40)[:, :2]  # other noise than that of any step
        time, hidden = tf.sigmoid(chance[:, :1]), chance[:, 1] > 1.2816  # a tenth of a normal distribution
        share = time[:, :, None, None]
        points = (1.0 - share) * noise + share * images
        known = tf.where(hidden, self.any_class, tf.cast(labels, "int32"))
        with tf.GradientTape() as tape:
            velocity = self.velocity([points, time, known], training=True)
            loss = tf.reduce_mean((velocity - (images - noise)) ** 2)
        weights = self.velocity.trainable_variables
        self.generator_optimizer.apply(tape.gradient(loss, weights), weights)
        self.update_average()
        self.trackers[0].update_state(loss)
        return {"velocity_loss": loss}


def build(recipe, seed=0, adapt=lambda kind: kind):
    """Builds and compiles the GAN or ConditionalGAN of a recipe, with seeded weights and noise.

    Args:
        recipe: recipes.Recipe.
        adapt: what makes of a class, GAN, ConditionalGAN or Adam, the one to use, see runs/distribute.py.
    """
    keras.utils.set_random_seed(seed)
    sizes, settings = {"image_size": recipe.image_size}, {"ema_decay": recipe.ema_decay, "seed": seed}
    if recipe.conditional:
        sizes["classes"] = recipe.classes
        settings |= {name: getattr(recipe, name) for name in ("shift", "label_weight", "label_decay")}
    generator = getattr(models, recipe.generator)(latent_dim=recipe.latent_dim, **sizes)
    if not recipe.discriminator:
        model = adapt(Flow)(generator, ema_decay=recipe.ema_decay, seed=seed)
        adam = adapt(keras.optimizers.Adam)
        model.compile(adam(recipe.generator_learning_rate, recipe.beta_1, recipe.beta_2))
        return model
    discriminator = getattr(models, recipe.discriminator)(**sizes)
    kind, adam = adapt(ConditionalGAN if recipe.conditional else GAN), adapt(keras.optimizers.Adam)
    model = kind(generator, discriminator, **settings)
    rates = recipe.generator_learning_rate, recipe.discriminator_learning_rate
    optimizers = [adam(rate, recipe.beta_1, recipe.beta_2) for rate in rates]
    model.compile(*optimizers, losses.LOSSES[recipe.loss])

    def second():
        keras.utils.set_random_seed(seed + 1)
        optimizer = adam(recipe.second_discriminator_learning_rate, recipe.beta_1, recipe.beta_2)
        discriminator = getattr(models, recipe.second_discriminator)(**sizes)
        model.recognition = recipe.second_recognition
        return discriminator, optimizer, losses.LOSSES[recipe.second_loss]

    if recipe.second_epoch and not recipe.patience:
        model.second = second
    return model


def set_the_stage(model, recipe, epoch):
    """Lets a model of build() play as its recipe says from this epoch on, int from 0: in the second act the
    new discriminator first learns alone."""
    if recipe.second_epoch and not recipe.patience and epoch >= recipe.second_epoch:
        model.begin_second_act()
        alone = epoch == recipe.second_epoch
        model.generator_optimizer.learning_rate = 0.0 if alone else recipe.second_generator_learning_rate
