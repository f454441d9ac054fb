"""A few steps of two recipes on one device, on two of this machine's, or as one of two workers: what
test_distribute compares.

python tests/distributed.py one|mirrored|multiworker OUTPUT.npz

The optimizer is plain gradient descent: Adam would forgive gradients of the wrong size.
"""

import dataclasses
import functools
import sys

import keras
import numpy as np
import tensorflow as tf

from fmgan_tf import data, gan, losses, recipes
from fmgan_tf.runs import distribute

BATCH, STEPS = 16, 6
COLUMNS = ("discriminator_loss", "generator_loss", "real_probability", "generated_probability")


class Descent(keras.optimizers.SGD):
    """Called as Adam is."""

    def __init__(self, learning_rate, beta_1, beta_2):
        super().__init__(0.02)


def main(strategy_name, output):
    if strategy_name == "mirrored":
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = distribute.build_strategy(strategy_name)
    keras.optimizers.Adam = Descent
    random = np.random.default_rng(0)
    labels = np.arange(96, dtype="int32") % 10
    images = random.uniform(-1, 1, (96, 28, 28, 1)).astype("float32")
    found = {"replicas": strategy.num_replicas_in_sync}
    # One loss with all that a loss can have: pairs, penalties and a constraint
    losses.LOSSES["relativistic"] = losses.LOSSES["relativistic"]._replace(constraint=losses.clip_weight)
    for name in ("dcgan", "cgan"):  # every loss is a mean over the batch, see test_losses.py
        loss = {"loss": "relativistic"} if name == "dcgan" else {}
        recipe = dataclasses.replace(recipes.get(name), batch_size=BATCH, **loss)
        with strategy.scope():
            shared = [] if strategy_name == "one" else [functools.partial(distribute.adapt, BATCH)]
            model = gan.build(recipe, 1, *shared)
            model.begin_second_act()  # cgan's; dcgan has none
            model.measure_fid(lambda images: tf.reduce_mean(images, (2, 3))[:, :3], 3)
        networks = {
            name: getattr(model, name) for name in ("generator", "discriminator", "averaged_generator")
        }
        before = {name: network.get_weights() for name, network in networks.items()}
        stream = data.batches(images, BATCH, 0, labels=labels if recipe.conditional else None)
        stream = distribute.split(stream, BATCH, strategy)
        steps = []
        seen = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, steps=steps: steps.append(
                [float(logs[key]) for key in COLUMNS]
            )
        )
        history = model.fit(stream, steps_per_epoch=STEPS, shuffle=False, verbose=0, callbacks=[seen]).history
        found[f"{name}/steps"] = steps
        found[f"{name}/means"] = [history[key][0] for key in COLUMNS]
        for kind, network in networks.items():
            for index, (weight, old) in enumerate(zip(network.get_weights(), before[kind], strict=True)):
                found[f"{name}/{kind}/{index}/change"] = weight - old
        found[f"{name}/iterations"] = model.generator_optimizer.iterations.numpy()
        real = (images, labels) if recipe.conditional else images
        model.evaluate(tf.data.Dataset.from_tensor_slices(real).batch(32), verbose=0)
        count, total, _ = (variable.numpy() for variable in model.fid.real)
        origin = model.fid.origin.numpy()
        found[f"{name}/counted"] = [count, model.fid.generated[0].numpy()]
        found[f"{name}/real mean"] = total / count + origin
        found[f"{name}/fid"] = float(model.fid.result())
    np.savez(output, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
