"""The command line, python -m fmgan_tf: list, data, train, generate, evaluate, analyze, race and roofline.

`--help` and errors come without TensorFlow.
"""

import argparse
import itertools
import json
import os
import pathlib
import re
import sys
import warnings

from fmgan_tf import Diverged, InputError, fashion_mnist, recipes
from fmgan_tf.runs import sources, terminal

DESCRIPTION = "Train GANs on Fashion-MNIST, on two CPU cores, in minutes."
ANY_SOURCE = "a run folder, a shipped model, your own generator or images (.keras, .h5, .npz, .npy, a folder)"


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, with the nearest valid word, and exit code 2."""

    def error(self, message):
        if found := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            choices = re.findall(r"[\w-]+", found[2])
            kind, near = "command" if "command" in message else "choice", recipes.nearest(found[1], choices)
            message = f"no {kind} {found[1]!r}; there are {', '.join(choices)}. Did you mean {near!r}?"
        print(f"{self.prog}: {' '.join(message.split())}", file=sys.stderr)
        raise SystemExit(2)


def _number(kind, low, text, high=float("inf")):
    """An argparse type: an int from low, or a float more than low, and less than high."""

    def convert(value):
        try:
            number = kind(value)
        except ValueError:
            number = float("nan")
        if (low <= number if kind is int else low < number) and number < high:
            return number
        raise argparse.ArgumentTypeError(f"{value!r}: expected {text}")

    return convert


_whole = _number(int, 1, "a whole number from 1")
_positive = _number(float, 0, "a number more than 0")
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
        return commands.add_parser(name, help=help, description=help, allow_abbrev=False).add_argument

    add("list", "Show the recipes and their hyper-parameters.")
    add("data", "Fetch, verify and prepare the dataset; print the folder that it is in.")

    train = add("train", "Train a recipe into a run folder.")
    train("recipe", nargs="?", help=f"see `list` (default: {recipes.DEFAULT})")
    train("--epochs", type=_whole, help="how many passes over the data")
    train("--minutes", type=_positive, help="for so many minutes (default: 3), schedules fitted to it")
    train("--seed", type=_seed, help="default: 0")
    train("--output", type=pathlib.Path, help="run folder (default: a new one, runs/RECIPE)")
    text = "go on with the run in --output (default: the newest in runs/)"
    train("--resume", action="store_true", help=text)
    text = "equal bits from equal seeds, with --epochs on one machine; slower"
    train("--deterministic", action="store_true", help=text)
    text = "one device (default), all GPUs of this machine, or all machines in TF_CONFIG"
    train("--strategy", choices=("one", "mirrored", "multiworker"), default="one", help=text)
    text = "change a setting; repeatable"
    train("--set", type=_setting, action="append", default=[], metavar="NAME=VALUE", help=text)

    generate = add("generate", "Make images with a trained generator.")
    generate("source", help="a run folder, a shipped model or a generator of your own (.keras, .h5)")
    text = 'class to make, by name or number ("Ankle boot" or 9); repeatable'
    generate("--label", action="append", help=text)
    text = "images in all, spread over the labels (default: 64, or 8 of every label)"
    generate("--count", type=_whole, help=text)
    generate("--output", type=pathlib.Path, required=True, help="FILE.png, .npz or .gif (a latent walk)")

    evaluate = add("evaluate", "Measure how good generated images are, against the real test images.")
    analyze = add("analyze", "Report what a generator has learned, beside real images, on one page.")
    for command in (evaluate, analyze):
        command("source", help=ANY_SOURCE)
        command("--samples", type=_whole, default=10_000, help="how many images (default: 10000)")
    for command in (generate, evaluate, analyze):
        command("--seed", type=_seed, default=0, help="default: 0")
        text = "what a generator of your own takes (default: normal)"
        command("--noise", choices=("normal", "uniform"), help=text)
        forms = ("none", "number", "one-hot", "in-noise")
        command("--label-as", choices=forms, help="how it takes its label")
        command("--pixels", choices=("unit", "tanh", "byte"), help="its range: [0, 1], [-1, 1] or [0, 255]")
        command("--fit", choices=("crop", "resize"), help="how its images become 28 x 28")
    text = "whose features KID, precision and recall are of (default: classifier; inception takes an hour)"
    choices = ("classifier", "label-free", "random", "inception")
    evaluate("--extractor", choices=choices, default="classifier", help=text)
    evaluate("--inception-weights", metavar="FILE", help="default: Keras's cache, else a download of 88 MB")
    evaluate("--json", action="store_true", help="print JSON instead of a table")
    evaluate("--output", type=pathlib.Path, help="folder for evaluation.json and pictures")
    analyze("--output", type=pathlib.Path, required=True, help="folder for report.html and its tables")

    race = add("race", "Train contenders for equal time and compare their images along the way.")
    text = "recipes on ten classes, tutorial, prototype, rungs of bench/rivals.py; NAME@2: at twice the rates"
    contenders = ["cgan", "dcgan", "prototype", "tutorial"]
    race("--recipes", nargs="+", default=contenders, metavar="NAME", help=text)
    race("--minutes", type=_positive, default=3.0, help="for each of them (default: 3)")
    race("--seeds", type=_whole, default=1, help="runs of each (default: 1)")
    race("--validation", action="store_true", help="measure against training images, for choosing settings")
    race("--output", type=pathlib.Path, default=pathlib.Path("runs/race"), help="folder (default: runs/race)")

    text = "Show how well train steps use the processor, beside the fastest matrix product."
    roofline = add("roofline", text)
    contenders = ["tutorial", "cgan"]
    roofline("--recipes", nargs="+", default=contenders, metavar="NAME", help="contenders of a race")
    picture = pathlib.Path("runs/roofline.png")
    roofline("--output", type=pathlib.Path, default=picture, help="FILE.png (default: runs/roofline.png)")
    return top


def command_list(arguments):
    for recipe in recipes.RECIPES.values():
        default = "  [default]" if recipe.name == recipes.DEFAULT else ""
        print(f"{recipe.name:<12}{recipe.summary}{default}")
        settings = [f"{name}={getattr(recipe, name)}" for name in recipes.SETTINGS]
        for index in range(0, len(settings), 4):
            print(f"{'':<12}{'  '.join(settings[index : index + 4])}")
    print(f"{'':<12}(--set learning_rate=... sets both networks' learning rates)")


def command_data(arguments):
    terminal.start_tensorflow()
    dataset = fashion_mnist.load()
    print(f"{dataset.name}: {dataset.source}", file=sys.stderr)
    print(dataset.folder)


def command_train(arguments):
    if arguments.epochs is not None and arguments.minutes is not None:
        raise InputError("--epochs and --minutes: expected one of them")
    if arguments.resume:
        from fmgan_tf.runs import folder

        output = arguments.output or folder.newest()
        if not (output / "run.json").exists():
            raise InputError(f"{output} holds no run to go on with")
        _check_same(arguments, folder.read_record(output), output)
        what = f"Going on with {output}"
    else:
        recipe = recipes.override(recipes.get(arguments.recipe or recipes.DEFAULT), dict(arguments.set))
        output = arguments.output or _free_folder(pathlib.Path("runs") / recipe.name)
        _check_folder(output)
        if (output / "run.json").exists():
            fix = f"Go on with it (--resume --output {output}), or choose another folder"
            raise InputError(f"{output} holds a run already. {fix}")
        what = f"Training {recipe.name} into {output}"
    terminal.start_tensorflow()
    from fmgan_tf.runs import distribute, training

    strategy = distribute.build_strategy(arguments.strategy)
    dataset = fashion_mnist.load()
    print(f"{what}, on {dataset.source}. Ctrl-C stops and saves.", flush=True)
    epochs, minutes = arguments.epochs, arguments.minutes
    if arguments.resume:
        record = training.resume(output, dataset, epochs, minutes, strategy)
    else:
        if "epochs" in dict(arguments.set) and minutes is None:
            epochs = epochs or recipe.epochs
        seed, deterministic = arguments.seed or 0, arguments.deterministic
        record = training.train(recipe, dataset, output, seed, epochs, minutes, deterministic, strategy)
    fid = "" if record["val_fid"] is None else f", FID-FMNIST {record['val_fid']:.2f} against training images"
    print(
        f"{record['status'].capitalize()}: {record['steps']:,} steps, {record['seconds']:.0f} s, "
        f"{record['images_per_second']:,} images/s{fid}. Look at\n"
        f"  {output / 'samples.png'}  (images from the averaged generator)\n"
        f"  {output / 'samples.gif'}  (how they came about)\n"
        f"  {output / 'losses.png'}  (training curves)"
    )
    return 128 + record["signal"] if "signal" in record else 0


def _check_same(arguments, record, output):
    """Refuses options beside --resume, which people add to the first command, that are not the run's."""
    recipe = record["recipe"]
    given = {"recipe": (arguments.recipe, recipe["name"]), "--seed": (arguments.seed, record["seed"])}
    given["--deterministic"] = (arguments.deterministic or None, record.get("deterministic", False))
    for name, value in dict(arguments.set).items():
        wanted = recipes.override(recipes.from_record(recipe), {name: value})
        for field in recipes.BOTH_RATES if name == "learning_rate" else (name,):
            given[f"--set {name}"] = getattr(wanted, field), recipe[field]
    for name, (now, before) in given.items():
        if now is not None and now != before:
            fix = "leave it out, or train anew"
            raise InputError(f"{output} was begun with {name} {before}, not {now}; {fix}")


def _find(arguments):
    """The sources.Source that the arguments name."""
    reading = sources.Reading(arguments.noise, arguments.label_as, arguments.pixels, arguments.fit)
    return sources.find(arguments.source, reading)


def command_generate(arguments):
    _check_suffix(arguments.output, ".png, .npz or .gif")
    labels = arguments.label and [fashion_mnist.class_index(label) for label in arguments.label]
    source = _find(arguments)
    if recipe := source.recipe:  # before anything is loaded
        _check_labels(source, labels, recipe.classes if recipe.conditional else 0)
    terminal.start_tensorflow()
    from fmgan_tf.runs import generate

    generator = sources.open_generator(source)
    _check_labels(source, labels, generator.classes)
    names, output = fashion_mnist.CLASS_NAMES, arguments.output
    generate.generate(generator, output, names, arguments.count, arguments.seed, labels)
    if generator.assumed:
        print(generator.assumed)
    print(f"Wrote {output}")


def _check_labels(source, labels, known):
    """Refuses labels that a generator of so many classes does not know."""
    if labels and not known:
        raise InputError(f"{source.name} makes images of no class in particular: it takes no label")
    names = fashion_mnist.CLASS_NAMES
    for label in labels or ():
        if label >= known:
            listing = ", ".join(names[:known])
            raise InputError(f"{source.name} has never seen {names[label]!r}; it knows {listing}")


def command_evaluate(arguments):
    if arguments.inception_weights and arguments.extractor != "inception":
        raise InputError("--inception-weights needs --extractor inception")
    _check_folder(arguments.output)
    source = _find(arguments)
    terminal.start_tensorflow()
    from fmgan_tf.runs import evaluation

    report = evaluation.evaluate(
        source,
        fashion_mnist.load(),
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
    _check_folder(arguments.output)
    source = _find(arguments)
    terminal.start_tensorflow()
    from fmgan_tf.runs import report

    found = report.analyze(source, fashion_mnist.load(), arguments.output, arguments.samples, arguments.seed)
    for sentence in found["findings"]:
        print(f"- {sentence}")
    print(f"\nWrote {arguments.output / 'report.html'} and its tables (.csv)")


def command_race(arguments):
    _check_folder(arguments.output)
    terminal.start_tensorflow()
    from fmgan_tf.bench import race

    for name in arguments.recipes:
        race.contender(name)
    race.race(
        arguments.recipes,
        fashion_mnist.load(),
        arguments.output,
        arguments.minutes,
        arguments.seeds,
        validation=arguments.validation,
    )
    print(f"Wrote race.csv, race.png, strip.png and race.json to {arguments.output}")


def command_roofline(arguments):
    _check_suffix(arguments.output, ".png")
    terminal.start_tensorflow()
    from fmgan_tf import plots
    from fmgan_tf.bench import race, roofline

    contenders = [race.contender(name) for name in dict.fromkeys(arguments.recipes)]
    dataset = fashion_mnist.load()
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


def _check_suffix(output, expected):
    if output.suffix not in re.findall(r"\.\w+", expected):
        raise InputError(f"--output {output} ends in {output.suffix!r}, expected {expected}")


def _check_folder(output):
    if output and output.exists() and not output.is_dir():
        raise InputError(f"--output {output} is a file, expected a folder")


def _free_folder(folder):
    """The folder itself or, where that is taken, the first of folder-2, folder-3, ..."""
    others = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
    return next(candidate for candidate in itertools.chain([folder], others) if not candidate.exists())


COMMANDS = {
    name.removeprefix("command_"): run for name, run in list(globals().items()) if name.startswith("command_")
}


def main(arguments=None):
    """Runs the command line and returns its exit code: 0, 1 (training diverged), 2 (bad input), or 128 and
    the number of the signal that ended it."""
    os.environ["MPLBACKEND"] = "agg"  # pictures go to files; another project's backend may not exist here
    with terminal.displays():
        arguments = parser().parse_args(arguments)

        def show_warning(message, category, *_):
            if issubclass(category, UserWarning):  # what libraries tell developers concerns nobody here
                print(f"fmgan_tf {arguments.command}: {' '.join(str(message).split())}", file=sys.stderr)

        try:
            with warnings.catch_warnings():
                # Keras minds whether one input comes as a list of one; it is the same to the model
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
