"""How fast training is, as ratios within one process: python tests/benchmark.py [--seconds 20]

Contenders take turns, so that a slow minute of the machine hits all of them; each number is the median of its
rounds. Run it while nothing else runs.
"""

import argparse
import os
import resource
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import tensorflow as tf

from fmgan_tf import data, datasets, gan, race, recipes


class Turns(keras.callbacks.Callback):
    """Lets eight bare steps follow every eight of fit(), so that both meet the same moods of the machine.

    Like the callback that `train` uses, it reads every step's losses.
    """

    def __init__(self, step):
        super().__init__()
        self.step, self.fit, self.bare = step, 0.0, 0.0

    def on_train_begin(self, logs=None):
        self.step()  # compiles
        self.last = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        for value in logs.values():
            float(value)
        if (batch + 1) % 8 == 0:
            start = time.perf_counter()
            self.fit += start - self.last
            for _ in range(8):
                self.step()
            self.last = time.perf_counter()
            self.bare += self.last - start

    def on_train_end(self, logs=None):
        self.fit += time.perf_counter() - self.last


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    text = "of measuring for each contender (default: 20)"
    parser.add_argument("--seconds", type=float, default=20, help=text)
    seconds = parser.parse_args().seconds
    fashion = datasets.load()
    images = data.to_tanh_range(fashion.train_images)
    labels = fashion.train_labels
    contenders = {"tutorial": race.TUTORIAL, **recipes.RECIPES}
    contenders["dcgan, penalty"] = recipes.override(recipes.get("dcgan"), {"loss": "non_saturating_r1"})
    models = {name: (gan.build(recipe), recipe.batch_size) for name, recipe in contenders.items()}

    runs = {}  # name -> (images a round, a function that works through one round)
    for name, (model, batch_size) in models.items():
        step, batch = tf.function(model.train_step), tf.constant(images[:batch_size])
        if isinstance(model, gan.ConditionalGAN):
            known = tf.constant(labels[labels < recipes.RECIPES[name].classes][:batch_size])
            batch = (batch, known)  # whose images they are does not matter to the clock
        steps = -(-2048 // batch_size)
        runs[f"{name}: bare step"] = (
            steps * batch_size,
            lambda step=step, batch=batch, steps=steps: [step(batch) for _ in range(steps)],
        )
    model, batch_size = models["dcgan"]
    dataset = data.batches(images, batch_size)
    stream = iter(dataset)
    fit_steps = 8 * 2048 // batch_size
    runs["dcgan: pipeline alone"] = (fit_steps * batch_size, lambda: [next(stream) for _ in range(fit_steps)])

    times = {name: [] for name in runs}
    for _, run in runs.values():
        run()  # compiles
    end = time.perf_counter() + seconds * len(runs)
    while time.perf_counter() < end:
        for name, (count, run) in runs.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) / count)
    speed = {name: 1 / statistics.median(values) for name, values in times.items()}

    print(f"{'':<24}{'images/s':>9}  rounds  times the tutorial's")
    for name, value in speed.items():
        print(f"{name:<24}{value:>9,.0f}  {len(times[name]):>6}  {value / speed['tutorial: bare step']:.2f}")
    step, batch = tf.function(model.train_step), tf.constant(images[:batch_size])
    turns = Turns(lambda: float(step(batch)["generator_loss"]))
    model.fit(dataset, steps_per_epoch=4, shuffle=False, verbose=0)  # compiles
    steps = 8 * round(seconds * speed["dcgan: bare step"] / batch_size / 16)
    model.fit(dataset, epochs=2, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[turns])
    print(f"fit() against the bare step: {turns.bare / turns.fit:.1%}, two whole epochs of {steps} steps")
    print(f"pipeline against the step:   {speed['dcgan: bare step'] / speed['dcgan: pipeline alone']:.1%}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory: {peak:.2f} GB (all of the above in one process)")


if __name__ == "__main__":
    main()
