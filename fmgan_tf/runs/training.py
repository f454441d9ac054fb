"""Trains a recipe into a run folder, and goes on with a run that was cut off."""

import dataclasses
import functools
import importlib.util
import os
import pathlib
import sys
import time

import imageio.v3 as imageio
import numpy as np
import tensorflow as tf

from fmgan_tf import Diverged, data, features, gan, losses, models, own_data, plots, recipes
from fmgan_tf.runs import callbacks, distribute, terminal
from fmgan_tf.runs import folder as run_folder
from fmgan_tf.runs.folder import RunError


def train(
    recipe,
    dataset,
    output=None,
    seed=0,
    epochs=None,
    minutes=None,
    deterministic=False,
    strategy=None,
    verbose=True,
    tensorboard=False,
):
    """Trains a recipes.Recipe on a datasets.Dataset into a new run folder.

    Args:
        output: path of the run folder, made if need be; by default the first that is free of runs/RECIPE,
            runs/RECIPE-2, ...
        seed: int, of weights, noise, order of the images and the sample grid.
        epochs, minutes: how long, at most one of them; by default the recipe's minutes.
        deterministic: add up in the same order every time, from here on in this process: the same seed,
            epochs, machine, thread count and versions then give equal bits, interrupted or not. Slower.
        strategy: see distribute.build_strategy. The batch is split among its replicas; of several workers the
            first keeps the run.
        tensorboard: write what TensorBoard shows, also when the run is resumed.
    Returns:
        dict, the content of run.json, and "folder"; for a run that a signal stopped "signal", its number.
    Raises:
        RunError: the folder holds a run, another process trains into it, or it cannot be written to; or the
            strategy does not fit batch_size or minutes, or a worker is gone.
        Diverged: a loss became NaN; the last good state is kept.
    """
    if output and (pathlib.Path(output) / "run.json").exists():
        fix = f"Go on with it (--resume --output {output}), or choose another folder (--output)"
        raise RunError(f"{output} holds a run already. {fix}.")
    if output and (own := [name for name in run_folder.WRITTEN if (pathlib.Path(output) / name).exists()]):
        raise RunError(f"{output} holds {own[0]}, which no run of it wrote. Choose another folder (--output)")
    if epochs is None and minutes is None:
        minutes = recipe.minutes
    recipe = fitted(recipe, dataset)
    record = {"recipe": dataclasses.asdict(recipe), "overrides": changed(recipe), "seed": seed}
    record |= {"deterministic": deterministic, "epochs": epochs, "minutes": minutes, "data": dataset.source}
    record |= {"dataset": dataset.name, "class_names": list(dataset.class_names)}
    record |= {"fingerprint": dataset.fingerprint, "data_argument": dataset.argument}
    record |= {"tensorboard": True} if tensorboard else {}
    return _run(output, record, dataset, strategy, verbose, resumed=False)


def resume(output, dataset, epochs=None, minutes=None, strategy=None, verbose=True, tensorboard=False):
    """Goes on with a run, from its newest checkpoint, see train.

    Args:
        output: path of the run folder; of several workers all must see it.
        epochs, minutes: how long the run is to be in all; by default as long as it was to be. A finished run
            stays as it is unless this makes it longer.
    Raises:
        RunError: also where there is no run, a damaged one, or one that was trained on another dataset.
    """
    output = pathlib.Path(output)
    record = run_folder.read_record(output)
    recipe = recipes.from_record(record["recipe"])
    networks = filter(None, [recipe.generator, recipe.discriminator, recipe.second_discriminator])
    if missing := [name for name in networks if not hasattr(models, name)]:
        raise RunError(f"{output} cannot be resumed: no {' and '.join(missing)} in models.py")
    if record.get("fingerprint", dataset.fingerprint) != dataset.fingerprint:
        before = f"{record['dataset']} ({record['data']}, fingerprint {record['fingerprint'][:12]})"
        now = f"{dataset.name} ({dataset.source}, fingerprint {dataset.fingerprint[:12]})"
        raise RunError(
            f"{output} was trained on {before}, and this is {now}. Train anew, or fetch that again"
        )
    if epochs is not None or minutes is not None:
        record |= {"epochs": epochs, "minutes": minutes}
    elif record["epochs"] is None and record["minutes"] is None:
        record["minutes"] = recipe.minutes
    record |= {"tensorboard": True} if tensorboard else {}
    return _run(output, record, dataset, strategy, verbose, resumed=True)


def fitted(recipe, dataset):
    """The recipe for this Dataset: with as many classes as it has and, on one's own images, without patience,
    for val_fid is not measured on them. InputError for a conditional one where there are no classes."""
    if not dataset.is_own:
        return recipe
    if recipe.conditional and not dataset.is_labeled:
        what = "no classes: put the pictures of each into a folder of its own"
        raise RunError(f"{recipe.name} learns classes, and {dataset.name} has {what}. Or train dcgan")
    classes = len(dataset.class_names)
    classes = classes if recipe.classes == recipes.Recipe.classes else min(recipe.classes, classes)
    return dataclasses.replace(recipe, classes=classes, patience=0)


def changed(recipe):
    """The settings in which a recipe differs from the named one, dict."""
    named = recipes.RECIPES.get(recipe.name, recipe)
    values = {name: getattr(recipe, name) for name in recipes.SETTINGS}
    return {name: value for name, value in values.items() if value != getattr(named, name)}


def _run(output, record, dataset, strategy, verbose, resumed):
    """Builds everything, so that what can be refused is refused before anything is written; then holds the
    run folder while the run goes on, and says what can go wrong around it."""
    strategy = strategy or tf.distribute.get_strategy()
    recipe, workers = recipes.from_record(record["recipe"]), distribute.is_multiworker(strategy)
    if workers and record["minutes"] is not None:
        why = "the clocks of several workers never agree"
        raise RunError(f"minutes is {record['minutes']:g}, expected epochs: {why} (--epochs)")
    if record.get("tensorboard") and not importlib.util.find_spec("tensorboard"):
        raise RunError("--tensorboard needs the package tensorboard: pip install tensorboard")
    if record.get("deterministic"):
        tf.config.experimental.enable_op_determinism()
    alone = strategy is tf.distribute.get_strategy()
    with strategy.scope():
        model = gan.build(
            recipe, record["seed"], *[] if alone else [functools.partial(distribute.adapt, recipe.batch_size)]
        )
        if not dataset.is_own:  # FID-FMNIST is of nothing else
            model.measure_fid(*features.classifier_extractor(recipe.pixels))
    images, labels, validation = training_data(recipe, dataset, model.fid and model.fid.dimensions)
    scaled = tf.constant(data.RANGES[recipe.pixels][0](np.arange(256)))  # bytes take a quarter of the memory

    def stream(first_step):
        batches = data.batches(images, recipe.batch_size, record["seed"], first_step, labels)
        scale = lambda images, *labels: (tf.gather(scaled, tf.cast(images, "int32")), *labels)  # noqa: E731
        batches = batches.map(scale if recipe.conditional else lambda images: scale(images)[0])
        return distribute.split(data.without_autotune(batches), recipe.batch_size, strategy)

    stream(0)  # refuses batch sizes
    record |= {"replicas": strategy.num_replicas_in_sync, "versions": run_folder.versions()}
    record |= {"steps_per_epoch": recipe.steps_per_epoch or len(images) // recipe.batch_size}
    parts = filter(None, [model.generator, model.discriminator])
    record |= {"cores": os.cpu_count(), "parameters": [part.count_params() for part in parts]}
    output = pathlib.Path(output) if output else run_folder.make_free(pathlib.Path("runs") / recipe.name)
    try:
        with (
            distribute.own_folder(output, strategy) as own,
            run_folder.alone_in(run_folder.writable(own)) as folder,
        ):
            if verbose:
                what = f"Going on with {output}" if resumed else f"Training {recipe.name} into {output}"
                terminal.say(f"{what}, on {dataset.source}. Ctrl-C stops and saves.")
            if dataset.is_own and not resumed:
                _preview(folder, dataset, verbose)
            record = _fit(folder, record, recipe, model, stream, validation, verbose, resumed)
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
    return record | {"folder": output}


def _preview(folder, dataset, verbose):
    """preview.png, and what will hurt."""
    problems = own_data.problems(dataset)
    plots.save_figure(folder / "preview.png", plots.show_dataset(dataset, problems))
    for problem in problems if verbose else []:
        terminal.say(f"Note: {problem}.")


def training_data(recipe, dataset, dimensions):
    """What a recipe is trained on and watched by: (images, labels, validation), uint8 tensor (N, height,
    width, 1), the only copy; int64 (N,) or None; and what fit() takes as validation_data, features of real
    images, None where there are no more than their `dimensions` or these are None. The test images are kept
    for the final score: whoever picks an epoch or a recipe by val_fid has not seen them."""
    dataset, watched, watched_labels = data.split_dataset(dataset, recipe.classes)
    images = tf.constant(data.resize(dataset.train_images, recipe.image_size))
    labels = dataset.train_labels if recipe.conditional else None
    if dimensions is None or len(watched) <= dimensions:
        return images, labels, None
    watched, _ = features.classifier_features(watched, "features of validation images")
    validation = (watched, watched_labels) if recipe.conditional else watched
    batches = tf.data.Dataset.from_tensor_slices(validation).batch(250)
    return images, labels, data.without_autotune(batches)


def _fit(folder, record, recipe, model, stream, validation, verbose, resumed):
    """fit() with callbacks, from wherever the run is, then everything that is kept of it."""
    run = callbacks.Run(folder, record["steps_per_epoch"], record["epochs"], record["minutes"])
    recorder, samples = callbacks.Recorder(run, model), callbacks.Samples(run, recipe, record["seed"])
    checkpoints, interruption = callbacks.Checkpoints(run, recorder), callbacks.Interruption(run)
    if resumed:
        checkpoints.restore(model)
    early, best = callbacks.EarlyStopping(recorder, recipe.patience), callbacks.BestWeights(recorder)
    around = [recorder, callbacks.Limits(run), interruption]
    around += [early, best] if recipe.patience else []
    around += [samples, *([callbacks.TensorBoard(run)] if record.get("tensorboard") else [])]
    around += [checkpoints] + ([callbacks.Progress(run, recorder)] if verbose else [])
    model.stop_training = False
    if resumed and recipe.patience:
        best.restore(model)  # better to know now than at the end whether it can be read
        checkpoints.restore(model)
        early.set_model(model)
        early.on_train_begin()  # stops where patience was over

    def more():
        return run.status == "running" and run.progress < 1 and not model.stop_training

    if record.get("status") == "complete" and not more():
        if verbose:
            terminal.say(
                f"Nothing is left to do after {run.step:,} steps; --minutes or --epochs beyond that do more."
            )
        return run_folder.read_record(folder)
    run_folder.write_record(folder, record | {"status": "running"})
    first_step, start = run.step, time.perf_counter()
    with interruption:
        while more():
            epoch, steps = divmod(run.step, run.steps_per_epoch)
            ends = [run.epochs or sys.maxsize]
            ends += [recipe.second_epoch, recipe.second_epoch + 1] if recipe.second_epoch else []
            ends += [epoch + 1] if steps else []  # what is left of an epoch comes first
            gan.set_the_stage(model, recipe, epoch)
            model.fit(
                stream(run.step),
                validation_data=validation,
                initial_epoch=epoch,
                epochs=min(end for end in ends if end > epoch),
                steps_per_epoch=run.steps_per_epoch - steps,
                shuffle=False,
                verbose=0,
                callbacks=around,
            )
        trained = time.perf_counter() - start - run.aside_seconds
        record |= _finish(run, recorder, checkpoints, best, samples, model, recipe)
        if run.step > first_step or not record.get("images_per_second"):
            steps, seconds = (
                (run.step - first_step, trained) if run.step > first_step else (run.step, run.earlier)
            )
            record["images_per_second"] = round(steps * recipe.batch_size / max(seconds, 1e-9))
        run_folder.write_record(folder, record)
    if run.status == "diverged":
        advice = f"Train anew with lower rates: train {recipe.name} --set learning_rate=1e-4"
        raise Diverged(f"{run.reason}. {folder} is back at step {run.step}, its last good state. {advice}")
    return record if interruption.signal is None else record | {"signal": int(interruption.signal)}


def _finish(run, recorder, checkpoints, best, samples, model, recipe):
    """Writes what a run leaves behind, and returns what run.json says of it."""
    if run.status == "diverged":
        checkpoints.restore(model)
    else:
        checkpoints.save(model)
    row = [len(recorder.history), recorder.watched]
    if recipe.patience:
        row = best.restore(model) or row
    run_folder.save_model(model.averaged_generator, run.folder / "generator.keras")
    samples.draw(model, "samples.png")
    draw_curves(run, recipe)
    frames = run_folder.sample_paths(run.folder) + [run.folder / "samples.png"] * (run.within_epoch > 0)
    plots.save_gif(run.folder / "samples.gif", [imageio.imread(path) for path in frames])
    outcome = {"status": "complete" if run.status == "running" else run.status, "steps": run.step}
    watched = None if np.isnan(row[-1]) else row[-1]
    outcome |= {"seconds": round(run.seconds, 1), callbacks.WATCHED: watched}
    return outcome | ({"best_epoch": row[0]} if recipe.patience else {})


def draw_curves(run, recipe):
    """losses.png, from steps.csv."""
    header, table = run_folder.read_csv(run.folder / "steps.csv")
    steps = dict(zip(header, table.T, strict=True))
    if not recipe.discriminator:
        figure = plots.show_loss(steps, recipe.name)
        return plots.save_figure(run.folder / "losses.png", figure)
    cost = recipe.label_weight / (1 + recipe.label_decay * steps["step"]) * np.log(recipe.classes)
    acts = [losses.chance_losses(name) for name in (recipe.loss, recipe.second_loss)]
    later = bool(recipe.second_epoch) & (steps["step"] > recipe.second_epoch * run.steps_per_epoch)
    costs = np.where(later, recipe.second_recognition * cost, cost), cost
    chance = [np.where(later, *pair[::-1]) + own for *pair, own in zip(*acts, costs, strict=True)]
    plots.save_figure(run.folder / "losses.png", plots.show_training_curves(steps, chance, recipe.name))
