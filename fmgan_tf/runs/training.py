"""Trains a recipe into a run folder, and goes on with a run that was cut off."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import sys
import tempfile
import time

import imageio.v3 as imageio
import keras
import numpy as np
import tensorflow as tf

from fmgan_tf import Diverged, data, fashion_mnist, features, gan, losses, models, plots, recipes
from fmgan_tf.runs import callbacks, distribute
from fmgan_tf.runs import folder as run_folder
from fmgan_tf.runs.folder import RunError, alone_in, read_record, save_model, versions, write_record


def build_gan(recipe, seed=0, builders=models):
    """Builds and compiles the gan.GAN or gan.ConditionalGAN of a recipe, with seeded weights and noise, from
    a module with its builders. In a strategy's scope it shares the work, see distribute.shared."""
    keras.utils.set_random_seed(seed)
    sizes, settings = {"image_size": recipe.image_size}, {"ema_decay": recipe.ema_decay, "seed": seed}
    if recipe.conditional:
        sizes |= {"classes": recipe.classes}
        settings |= {name: getattr(recipe, name) for name in ("shift", "label_weight", "label_decay")}
    kind, optimizer = gan.ConditionalGAN if recipe.conditional else gan.GAN, keras.optimizers.Adam
    if tf.distribute.has_strategy():
        kind, optimizer = distribute.shared(kind, recipe.batch_size), distribute.averaging(optimizer)
    generator = getattr(builders, recipe.generator)(latent_dim=recipe.latent_dim, **sizes)
    model = kind(generator, getattr(builders, recipe.discriminator)(**sizes), **settings)
    rates = recipe.generator_learning_rate, recipe.discriminator_learning_rate
    optimizers = [optimizer(rate, recipe.beta_1, recipe.beta_2) for rate in rates]
    model.compile(*optimizers, losses.LOSSES[recipe.loss])
    return model


def train(
    recipe,
    dataset,
    output,
    seed=0,
    epochs=None,
    minutes=None,
    deterministic=False,
    strategy=None,
    verbose=True,
):
    """Trains a recipes.Recipe on a fashion_mnist.Dataset into a new run folder.
    Args:
        output: path of the run folder, made if need be.
        seed: int, of weights, noise, order of the images and the sample grid.
        epochs, minutes: how long, the schedules fitted to it; at most one, by default the recipe's minutes.
        deterministic: add up in the same order every time, from here on in this process: the same seed,
            epochs, machine, thread count and versions then give equal bits, interrupted or not. Slower.
        strategy: see distribute.build_strategy. The batch is split among its replicas; of several workers the
            first keeps the run.
    Returns:
        dict, the content of run.json, and for a run that a signal stopped "signal", its number.
    Raises:
        RunError: the folder holds a run, another process trains into it, or it cannot be written to; or the
            strategy does not fit batch_size or minutes, or a worker is gone.
        Diverged: a loss became NaN; the last good state is kept.
    """
    output = pathlib.Path(output)
    strategy = strategy or tf.distribute.get_strategy()
    if (output / "run.json").exists() and distribute.is_chief(strategy):
        other = "choose another folder (--output)"
        raise RunError(f"{output} holds a run already. Go on with it (--resume), or {other}.")
    if epochs is None and minutes is None:
        minutes = recipe.minutes
    record = {"recipe": dataclasses.asdict(recipe), "overrides": changed(recipe), "seed": seed}
    record |= {"deterministic": deterministic, "epochs": epochs, "minutes": minutes}
    return _run(output, record, dataset, strategy, verbose, resumed=False)


def resume(output, dataset, epochs=None, minutes=None, strategy=None, verbose=True):
    """Goes on with a run, from its newest checkpoint, see train.
    Args:
        output: path of the run folder; of several workers all must see it.
        epochs, minutes: how long the run is to be in all; by default as long as it was to be. A finished run
            stays as it is unless this makes it longer.
    Raises:
        RunError: also where there is no run, a damaged one, or one that was trained on another dataset.
    """
    output = pathlib.Path(output)
    record = read_record(output)
    recipe = recipes.from_record(record["recipe"])
    if not (hasattr(models, recipe.generator) and hasattr(models, recipe.discriminator)):
        missing = f"no {recipe.generator} and {recipe.discriminator} in models.py"
        raise RunError(f"{output} cannot be resumed: {missing}")
    if (record.get("data") == fashion_mnist.STAND_IN) != dataset.is_stand_in:
        raise RunError(
            f"{output} was trained on {record.get('data')}, and this is {dataset.source}: what comes out "
            "would be of neither. Train anew, or fix the dataset first"
        )
    if epochs is not None or minutes is not None:
        record |= {"epochs": epochs, "minutes": minutes}
    elif record["epochs"] is None and record["minutes"] is None:
        record["minutes"] = recipe.minutes
    return _run(output, record, dataset, strategy or tf.distribute.get_strategy(), verbose, resumed=True)


def changed(recipe):
    """The settings in which a recipe differs from the named one, dict."""
    named = recipes.RECIPES.get(recipe.name, recipe)
    values = {name: getattr(recipe, name) for name in recipes.SETTINGS}
    return {name: value for name, value in values.items() if value != getattr(named, name)}


def _run(output, record, dataset, strategy, verbose, resumed):
    """Holds the run folder while the run goes on, and gives what can go wrong around it a name."""
    replicas, batch_size = strategy.num_replicas_in_sync, record["recipe"]["batch_size"]
    if batch_size % replicas:
        expected = f"expected a multiple of {replicas}, the number of replicas"
        raise RunError(f"batch_size is {batch_size}, {expected}")
    workers = distribute.is_multiworker(strategy)
    if workers and record["minutes"] is not None:
        why = "the clocks of several workers never agree"
        raise RunError(f"minutes is {record['minutes']:g}, expected epochs: {why} (--epochs)")
    record["replicas"] = replicas
    if record.get("deterministic"):
        tf.config.experimental.enable_op_determinism()
    output.mkdir(parents=True, exist_ok=True)
    with _own_folder(output, strategy, resumed) as folder, alone_in(folder):
        try:
            return _fit(folder, record, dataset, strategy, verbose, resumed)
        except OSError as error:
            cause = os.strerror(error.errno) if error.errno else error
            raise RunError(
                f"Writing to {output} failed: {cause}. It keeps its newest checkpoint; when the cause is "
                f"fixed, go on with --resume --output {output}"
            ) from error
        except tf.errors.OpError as error:
            if not workers:
                raise
            raise RunError(
                f"Another worker is gone or cannot be reached ({error.message.splitlines()[0]}). {output} "
                "keeps its newest checkpoint; start all workers again with --resume"
            ) from error


@contextlib.contextmanager
def _own_folder(folder, strategy, resumed):
    """The run folder for whoever keeps the run. The other workers, who have to take part in saving a model,
    do the same in a temporary one."""
    if distribute.is_chief(strategy):
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        if resumed:
            shutil.copytree(folder, temporary, dirs_exist_ok=True)
        yield pathlib.Path(temporary)


def training_data(recipe, dataset, dimensions):
    """What a recipe is trained on and watched by: (images, labels, validation), float32 tensor (N, height,
    width, 1) in the range of its generator, the only copy; int64 (N,) or None; and what fit() takes as
    validation_data, features of real images, None where there are no more than their `dimensions`. The test
    images are kept for the final figure: whoever picks an epoch or a recipe by val_fid has not seen them."""
    scale, _ = data.RANGES[recipe.pixels]
    dataset, watched, watched_labels = data.parts(dataset, recipe.classes)
    images = tf.constant(scale(data.resize(dataset.train_images, recipe.image_size)))
    if recipe.batch_size > len(images):
        most = f"expected at most {len(images)}, the number of images"
        raise RunError(f"batch_size is {recipe.batch_size}, {most}")
    labels = dataset.train_labels if recipe.conditional else None
    if len(watched) <= dimensions:
        return images, labels, None
    watched, _ = features.classifier_features(watched, label="features of validation images")
    validation = (watched, watched_labels) if recipe.conditional else watched
    return images, labels, data.untuned(tf.data.Dataset.from_tensor_slices(validation).batch(250))


def _fit(folder, record, dataset, strategy, verbose, resumed):
    """Builds, compiles, fits with callbacks, saves."""
    recipe, seed = recipes.from_record(record["recipe"]), record["seed"]
    with strategy.scope():
        model = build_gan(recipe, seed)
        model.measure_fid(*features.classifier_extractor(recipe.pixels))
    images, labels, validation = training_data(recipe, dataset, model.fid.dimensions)
    steps_per_epoch = recipe.steps_per_epoch or len(images) // recipe.batch_size
    records = callbacks.Records(folder, recipe, steps_per_epoch, record["epochs"], record["minutes"])
    divergence, interruption = callbacks.Divergence(records), callbacks.Interruption(records)
    best, samples = callbacks.EarlyStopping(records), callbacks.Samples(records, seed)
    checkpoints, progress = callbacks.Checkpoints(records), callbacks.Progress(records)
    if resumed:
        checkpoints.restore(model)
        if best.restore(model):  # better to know now than at the end whether it can be read
            checkpoints.restore(model)
        if record.get("status") == "complete" and not records.more():
            if verbose:
                more = "--minutes or --epochs beyond that do more."
                print(f"Nothing is left to do after {records.step:,} steps; {more}")
            return read_record(folder)
    record |= {"status": "running", "steps_per_epoch": steps_per_epoch, "data": dataset.source}
    parameters = {name: getattr(model, name).count_params() for name in ("generator", "discriminator")}
    record |= {"versions": versions(), "cores": os.cpu_count(), "parameters": parameters}
    write_record(folder, record)

    schedule, budget = callbacks.Schedule(records), callbacks.TimeBudget(records)
    around = [records, schedule, divergence, interruption, budget, best, samples, checkpoints]

    def fit(last_epoch, steps):
        stream = data.batches(images, recipe.batch_size, seed, records.step, labels)
        model.fit(
            distribute.split(stream, recipe.batch_size, strategy),
            validation_data=validation,
            initial_epoch=records.step // steps_per_epoch,
            epochs=last_epoch,
            steps_per_epoch=steps,
            shuffle=False,
            verbose=0,
            callbacks=around + ([progress] if verbose else []),
        )

    first_step, start = records.step, time.perf_counter()
    with interruption:
        if records.within_epoch and records.more():  # the epoch that it was stopped in comes first
            fit(records.step // steps_per_epoch + 1, steps_per_epoch - records.within_epoch)
        if records.more():
            fit(record["epochs"] or sys.maxsize, steps_per_epoch)
        trained = time.perf_counter() - start - records.overhead
        if records.status == "diverged":
            checkpoints.restore(model)
        else:
            checkpoints.save(model)
        best.restore(model)
        save_model(model.averaged_generator, folder / "generator.keras")
        save_model(models.with_probability(model.discriminator), folder / "discriminator.keras")
        samples.draw(model, "samples.png")
        draw(records)
        record |= _outcome(records, record.get("images_per_second"), first_step, trained)
        write_record(folder, record)
    if records.status == "diverged":
        advice = "A lower learning rate usually fixes it: --set learning_rate=1e-4"
        where = f"{folder} is back at step {records.step}, its last good state"
        raise Diverged(f"{divergence.cause}. {where}. {advice}")
    return record if interruption.signal is None else record | {"signal": int(interruption.signal)}


def _outcome(records, speed_before, first_step, trained):
    """What run.json says of a run when it has ended, dict."""
    if records.step > first_step:
        speed = (records.step - first_step) * records.recipe.batch_size / max(trained, 1e-9)
    else:  # killed after its last step, before it could say how fast it was
        speed = speed_before or records.step * records.recipe.batch_size / max(records.earlier, 1e-9)
    status = "complete" if records.status == "running" else records.status
    outcome = {"status": status, "steps": records.step, "seconds": round(records.seconds, 1)}
    val_fid = records.val_fid if np.isfinite(records.val_fid) else None
    outcome |= {"images_per_second": round(speed), "val_fid": val_fid}
    if records.recipe.patience and records.best:
        outcome |= {"best_epoch": records.best[0], "val_fid": records.best[-1]}
    return outcome


def draw(records):
    """losses.png and samples.gif of a run, from its callbacks.Records."""
    recipe, folder = records.recipe, records.folder
    columns = np.array(records.steps, "float64").reshape(records.step, len(run_folder.STEPS_HEADER)).T
    weights = recipe.label_weight / (1 + recipe.label_decay * columns[0])
    guessing = losses.of_guessing(recipe.loss, weights * np.log(recipe.classes))
    steps = dict(zip(run_folder.STEPS_HEADER, columns, strict=True))
    figure = plots.show_training_curves(steps, guessing, recipe.name)
    plots.save_figure(folder / "losses.png", figure)
    frames = run_folder.sample_paths(folder) + [folder / "samples.png"] * (records.within_epoch > 0)
    plots.save_gif(folder / "samples.gif", [imageio.imread(path) for path in frames])
