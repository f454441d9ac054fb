"""The command line: python -m fmgan_tf list | data | train | generate | evaluate | analyze | race. `--help` and errors come without TensorFlow."""

import argparse
import os
import pathlib
import re
import sys
import warnings

from fmgan_tf import Diverged, InputError, recipes

DESCRIPTION = "Train GANs on Fashion-MNIST, on two CPU cores, in minutes."


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, with the nearest valid word, and exit code 2."""

    def error(self, message):
        if found := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            choices = re.findall(r"[\w-]+", found[2])
            message = (
                f"no {'command' if 'command' in message else 'choice'} {found[1]!r}; there are {', '.join(choices)}. "
                f"Did you mean {recipes.nearest(found[1], choices)!r}?"
            )
        print(f"{self.prog}: {' '.join(message.split())}", file=sys.stderr)
        raise SystemExit(2)


def _number(kind, low, text, high=float("inf")):
    """An argparse type: a number of that kind, at least (int) or more than (float) low, and less than high."""

    def convert(value):
        try:
            number = kind(value)
        except ValueError:
            number = None
        if number is None or not (low <= number if kind is int else low < number) or not number < high:
            raise argparse.ArgumentTypeError(f"{value!r}: expected {text}")
        return number

    return convert


_seed = _number(int, 0, "a whole number from 0 to 2147483647", 2**31)


def _setting(text):
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r}: expected name=value, like learning_rate=2e-4")
    return name, value


def parser():
    """The argument parser of the command line."""
    top = _Parser(prog="fmgan_tf", description=DESCRIPTION, allow_abbrev=False)
    commands = top.add_subparsers(dest="command", metavar="command", required=True)

    def add(name, help):
        return commands.add_parser(name, help=help, description=help, allow_abbrev=False)

    add("list", "Show the recipes and their hyper-parameters.")
    add("data", "Fetch, verify and prepare the dataset; print the folder that it is in.")

    train = add("train", "Train a recipe into a run folder.")
    train.add_argument("recipe", nargs="?", help=f"see `list` (default: {recipes.DEFAULT})")
    length = train.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=_number(int, 1, "a whole number from 1"), help="how many passes over the data")
    length.add_argument(
        "--minutes",
        type=_number(float, 0, "a number more than 0"),
        help="for so many minutes (default: 3), schedules fitted to it",
    )
    train.add_argument("--seed", type=_seed, help="default: 0")
    train.add_argument("--output", type=pathlib.Path, help="run folder (default: a new one, runs/RECIPE)")
    train.add_argument(
        "--resume", action="store_true", help="go on with the run in --output (default: the newest in runs/)"
    )
    train.add_argument(
        "--deterministic",
        action="store_true",
        help="equal bits from equal seeds, with --epochs on one machine; somewhat slower",
    )
    train.add_argument(
        "--strategy",
        choices=("one", "mirrored", "multiworker"),
        default="one",
        help="one device (default), all GPUs of this machine, or all machines in TF_CONFIG",
    )
    train.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a hyper-parameter; repeatable",
    )

    generate = add("generate", "Make images with a trained generator.")
    generate.add_argument("source", type=pathlib.Path, help="a run folder, a shipped model or a .keras generator")
    generate.add_argument(
        "--label",
        action="append",
        help='class to make, by name or number ("Ankle boot" or 9); repeatable (default: all, in rows)',
    )
    generate.add_argument(
        "--count", type=_number(int, 1, "a whole number from 1"), help="default: 64; of every class: 8"
    )
    generate.add_argument("--seed", type=_seed, default=0, help="default: 0")
    generate.add_argument("--output", type=pathlib.Path, required=True, help="FILE.png, .npz or .gif (a latent walk)")

    evaluate = add("evaluate", "Measure how good generated images are, against the real test images.")
    analyze = add("analyze", "Report what a generator has learned, beside real images, on one page.")
    for command in (evaluate, analyze):
        command.add_argument(
            "source",
            type=pathlib.Path,
            help="a run folder, a shipped model, a .keras generator, or an .npz of uint8 `images` (and `labels`)",
        )
        command.add_argument(
            "--samples",
            type=_number(int, 1, "a whole number from 1"),
            default=10_000,
            help="how many images (default: 10000)",
        )
        command.add_argument("--seed", type=_seed, default=0, help="default: 0")
    evaluate.add_argument(
        "--extractor",
        choices=("classifier", "inception"),
        default="classifier",
        help="whose features (default: classifier, which gives FID-FMNIST; inception takes an hour on two cores)",
    )
    evaluate.add_argument(
        "--inception-weights", metavar="FILE", help="default: Keras's cache, else a download of 88 MB"
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of a table")
    evaluate.add_argument("--output", type=pathlib.Path, help="folder for evaluation.json and pictures")
    analyze.add_argument("--output", type=pathlib.Path, required=True, help="folder for report.html and its tables")

    race = add("race", "Train contenders for equal time and compare their images along the way.")
    race.add_argument(
        "--recipes",
        nargs="+",
        default=["cgan", "dcgan", "prototype", "tutorial"],
        metavar="NAME",
        help="recipes on ten classes, tutorial, prototype, or a rung of the ladder from tutorial to cgan, see rivals.py "
        "(default: cgan dcgan prototype tutorial)",
    )
    race.add_argument(
        "--minutes", type=_number(float, 0, "a number more than 0"), default=3.0, help="for each of them (default: 3)"
    )
    race.add_argument(
        "--seeds", type=_number(int, 1, "a whole number from 1"), default=1, help="runs of each (default: 1)"
    )
    race.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("runs/race"), help="folder (default: runs/race)"
    )

    roofline = add("roofline", "Show how well train steps use the processor, beside the fastest matrix product.")
    roofline.add_argument(
        "--recipes",
        nargs="+",
        default=["tutorial", "cgan"],
        metavar="NAME",
        help="contenders of a race (default: tutorial cgan)",
    )
    roofline.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path("runs/roofline.png"),
        help="FILE.png (default: runs/roofline.png)",
    )
    return top


def command_list(arguments):
    for recipe in recipes.RECIPES.values():
        default = "  [default]" if recipe.name == recipes.DEFAULT else ""
        print(f"{recipe.name:<12}{recipe.summary}{default}")
        settings = [f"{name}={getattr(recipe, name)}" for name in recipes.SETTINGS]
        for index in range(0, len(settings), 4):
            print(f"{'':<12}{'  '.join(settings[index : index + 4])}")
    print(f"{'':<12}(--set learning_rate=… sets both networks' learning rates)")
    print(f"{recipes.CLASSIFIER.name:<12}{recipes.CLASSIFIER.summary}")
    print(
        f"{'':<12}{'  '.join(f'{n}={v}' for n, v in vars(recipes.CLASSIFIER).items() if n not in ('name', 'summary'))}"
    )


def command_data(arguments):
    from fmgan_tf import data

    dataset = data.load_fashion_mnist()
    print(dataset.folder)


def command_train(arguments):
    output = arguments.output
    if arguments.resume:
        given = [
            name
            for name in ("recipe", "seed", "set", "deterministic")
            if getattr(arguments, name) not in (None, [], False)
        ]
        if given:
            raise InputError(f"--resume goes on with what the run folder says; leave out {', '.join(given)}")
        output = output or _newest_run()
        recipe, settings = None, {}
    else:
        settings = dict(arguments.set)
        recipe = recipes.get(arguments.recipe or recipes.DEFAULT)
        if recipe is not recipes.CLASSIFIER:
            recipe = recipes.override(recipe, settings)
        elif settings:
            raise InputError(
                "the classifier's hyper-parameters are fixed, so that its features mean the same everywhere"
            )
        if output is None:
            output = _free_folder(pathlib.Path("runs") / recipe.name)
        elif output.exists() and not output.is_dir():
            raise InputError(f"--output {output} is a file, expected a folder")
    if (output / "run.json").exists() != arguments.resume:
        raise InputError(
            f"{output} holds no run to go on with"
            if arguments.resume
            else f"{output} holds a run already. Go on with it (--resume --output {output}), or choose another folder"
        )

    from fmgan_tf import classifier, data, distribute, training

    epochs, minutes = arguments.epochs, arguments.minutes
    if recipe is recipes.CLASSIFIER and (arguments.deterministic or arguments.strategy != "one"):
        raise InputError("--deterministic and --strategy are for GANs; the classifier is trained once and shipped")
    strategy = distribute.build_strategy(arguments.strategy)
    if recipe is recipes.CLASSIFIER:
        print(f"Training {recipe.name} into {output}. Ctrl-C gives up; nothing is saved before the end.", flush=True)
        record = classifier.train(recipe, data.load_fashion_mnist(), output, arguments.seed or 0, epochs, minutes)
        print(
            f"Complete: {record['seconds']:.0f} s, {record['test_accuracy']:.2%} of the test images recognised. Look at\n"
            f"  {output / 'confusion.png'}  (what is taken for what)"
        )
        return 0
    if not arguments.resume and "epochs" in settings and minutes is None:
        epochs = epochs or recipe.epochs
    dataset = data.load_fashion_mnist()
    what = f"Going on with {output}" if arguments.resume else f"Training {recipe.name} into {output}"
    print(f"{what}, on {dataset.source}. Ctrl-C stops and saves.", flush=True)
    record = training.train(
        recipe,
        dataset,
        output,
        seed=arguments.seed or 0,
        epochs=epochs,
        minutes=minutes,
        overrides=settings,
        resume=arguments.resume,
        deterministic=arguments.deterministic,
        strategy=strategy,
    )
    if sys.stdout.isatty():
        print()
    print(
        f"{record['status'].capitalize()}: {record['steps']:,} steps, {record['seconds']:.0f} s, "
        f"{record['images_per_second']:,} images/s"
        + ("" if record["val_fid"] is None else f", FID-FMNIST {record['val_fid']:.2f} against training images")
        + ". Look at\n"
        f"  {output / 'samples.png'}  (images from the averaged generator)\n"
        f"  {output / 'samples.gif'}  (how they came about)\n"
        f"  {output / 'losses.png'}  (training curves)"
    )
    return 130 if record["status"] == "interrupted" else 0


def command_generate(arguments):
    if arguments.output.suffix not in (".png", ".npz", ".gif"):
        raise InputError(
            f"--output {arguments.output} ends in {arguments.output.suffix!r}, expected .png, .npz or .gif"
        )
    _check_source(arguments.source, "a run folder or a .keras generator")
    from fmgan_tf import generation

    generation.generate(arguments.source, arguments.output, arguments.count, arguments.seed, arguments.label)
    print(f"Wrote {arguments.output}")


def command_evaluate(arguments):
    if arguments.inception_weights and arguments.extractor != "inception":
        raise InputError("--inception-weights needs --extractor inception")
    if arguments.output and arguments.output.exists() and not arguments.output.is_dir():
        raise InputError(f"--output {arguments.output} is a file, expected a folder")
    _check_source(arguments.source, "a run folder, a .keras generator or an .npz of images")
    import json

    from fmgan_tf import data, evaluation

    report = evaluation.evaluate(
        arguments.source,
        data.load_fashion_mnist(),
        samples=arguments.samples,
        seed=arguments.seed,
        extractor=arguments.extractor,
        inception_weights=arguments.inception_weights or "imagenet",
        output=arguments.output,
    )
    print(json.dumps(report, indent=2) if arguments.json else evaluation.table(report))
    if arguments.output and not arguments.json:
        print(f"\nWrote evaluation.json, classes.png and realism.png to {arguments.output}")


def command_analyze(arguments):
    if arguments.output.exists() and not arguments.output.is_dir():
        raise InputError(f"--output {arguments.output} is a file, expected a folder")
    _check_source(arguments.source, "a run folder, a .keras generator or an .npz of images")
    from fmgan_tf import data, report

    found = report.analyze(
        arguments.source, data.load_fashion_mnist(), arguments.output, arguments.samples, arguments.seed
    )
    for sentence in found["findings"]:
        print(f"- {sentence}")
    print(f"\nWrote {arguments.output / 'report.html'} and its tables (.csv)")


def command_race(arguments):
    if arguments.output.exists() and not arguments.output.is_dir():
        raise InputError(f"--output {arguments.output} is a file, expected a folder")
    from fmgan_tf import data, race

    for name in arguments.recipes:
        race.contender(name)
    race.race(arguments.recipes, data.load_fashion_mnist(), arguments.output, arguments.minutes, arguments.seeds)
    print(f"Wrote race.csv, race.png, strip.png and race.json to {arguments.output}")


def command_roofline(arguments):
    if arguments.output.suffix != ".png":
        raise InputError(f"--output {arguments.output} ends in {arguments.output.suffix!r}, expected .png")
    from fmgan_tf import data, plots, race, roofline

    contenders = [race.contender(name) for name in dict.fromkeys(arguments.recipes)]
    dataset = data.load_fashion_mnist()
    print("Measuring the fastest matrix product and memory; nothing else should be running.", flush=True)
    peak, bandwidth = roofline.measure_peak(), roofline.measure_bandwidth()
    views = []
    for recipe in contenders:
        print(f"Measuring the train step of {recipe.name}.", flush=True)
        views.append(roofline.view(recipe, dataset, peak, bandwidth))
    print(roofline.table(views))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    plots.save_figure(arguments.output, roofline.show(views))
    print(f"Wrote {arguments.output}")


def _check_source(source, expected):
    """Refuses a SOURCE that is nowhere, before TensorFlow is imported."""
    from fmgan_tf import pretrained

    if not source.exists() and str(source) not in pretrained.shipped():
        names = ", ".join(pretrained.shipped())
        shipped = f", or a shipped model: {names}" if names else ""
        raise InputError(f"{source} does not exist; expected {expected}{shipped}")


def _free_folder(folder):
    """The folder itself or, where that is taken, the first of folder-2, folder-3, …"""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def _newest_run():
    folders = [path.parent for path in pathlib.Path("runs").glob("*/run.json")]
    folders = [folder for folder in folders if not (folder / "classifier.keras").exists()]
    if not folders:
        raise InputError("There is no run in runs/ to go on with; name its folder with --output")

    def changed(folder):  # a run that was killed early has no checkpoint yet
        paths = [folder / name for name in ("run.json", "checkpoint.weights.h5")]
        return max(path.stat().st_mtime for path in paths if path.exists())

    return max(folders, key=changed)


COMMANDS = {
    "list": command_list,
    "data": command_data,
    "train": command_train,
    "generate": command_generate,
    "evaluate": command_evaluate,
    "analyze": command_analyze,
    "race": command_race,
    "roofline": command_roofline,
}


def main(arguments=None):
    """Runs the command line and returns its exit code: 0, 1 (training diverged), 2 (bad input) or 130 (Ctrl-C)."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow greets with warnings that concern nobody here
    arguments = parser().parse_args(arguments)

    def show_warning(message, category, *_):
        if issubclass(
            category, UserWarning
        ):  # what libraries tell developers (DeprecationWarning…) concerns nobody here
            print(f"fmgan_tf {arguments.command}: {' '.join(str(message).split())}", file=sys.stderr)

    try:
        with warnings.catch_warnings():
            # Keras minds whether one input comes as a list of one; it is the same to the model, and nobody's fault here
            warnings.filterwarnings("ignore", "The structure of `inputs` doesn't match")
            warnings.showwarning = show_warning
            return COMMANDS[arguments.command](arguments) or 0
    except KeyboardInterrupt:
        print("fmgan_tf: interrupted", file=sys.stderr)
        return 130
    except (InputError, OSError, Diverged) as error:
        print(f"fmgan_tf {arguments.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1 if isinstance(error, Diverged) else 2


if __name__ == "__main__":
    raise SystemExit(main())
