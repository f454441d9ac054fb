"""The command line, python -m fmgan_tf: list, data, train, generate, evaluate, analyze, page,
export and race.

`--help` and most errors come without TensorFlow.
"""

import argparse
import json
import os
import pathlib
import sys
import warnings

from fmgan_tf import Diverged, InputError, datasets, own_data, recipes
from fmgan_tf.runs import sources, terminal

DESCRIPTION = "Train GANs on Fashion-MNIST or images of your own, on two CPU cores, in minutes."
SOURCE = "a run folder, a shipped model, your own generator or images (.keras, .h5, .npz, .npy, a folder)"
EXAMPLES = {
    "list": ("list", "list | grep cgan"),
    "data": ("data", "data 2> /dev/null"),
    "train": ("train dcgan --epochs 5 --set learning_rate=4e-4", "train --data my_pictures"),
    "generate": ("generate cgan --label boot --output boots.png", "generate runs/cgan --output walk.gif"),
    "evaluate": ("evaluate cgan", "evaluate images.npz --json --output runs/scores"),
    "analyze": ("analyze cgan --output runs/report", "analyze mine.keras --pixels tanh --output runs/mine"),
    "page": ("page cgan --output page.html", "page runs/cgan --output mine.html"),
    "export": ("export cgan --format onnx --output cgan-onnx", "export runs/cgan --format tflite --output a"),
    "race": ("race", "race --recipes cgan dcgan --minutes 1 --seeds 3"),
}


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, with exit code 2."""

    def error(self, message):
        print(f"{self.prog}: {' '.join(message.split())}", file=sys.stderr)
        raise SystemExit(2)


def _number(kind, low, expected, high=float("inf")):
    """An argparse type: a number from low to high."""

    def convert(text):
        try:
            number = kind(text)
        except ValueError:
            number = float("nan")
        if low <= number <= high:
            return number
        raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}")

    return convert


_whole = _number(int, 1, "a whole number from 1")
_positive = _number(float, 1e-6, "a number more than 0", 1e9)
_seed = _number(int, 0, "a whole number from 0 to 2147483647", 2**31 - 1)


def _path(text):
    try:
        path = pathlib.Path(text).expanduser()  # a shell leaves --output=~/a as it is
        path.exists()
        return path
    except (OSError, RuntimeError, ValueError) as error:  # too long, or the home of nobody
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is no path ({str(error)[:50]})") from error


def _folder(text):
    path = _path(text)
    if path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is a file, expected a folder")
    return path


def _file(*suffixes):
    def convert(text):
        if _path(text).suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(
                f"{text!r}: expected a name that ends in {' or '.join(suffixes)}"
            )
        return _path(text)

    return convert


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
        lines = "\n".join(f"  python -m fmgan_tf {example}" for example in EXAMPLES[name])
        texts = {"help": help, "description": help, "epilog": f"examples:\n{lines}"}
        form = argparse.RawDescriptionHelpFormatter
        return commands.add_parser(name, **texts, formatter_class=form, allow_abbrev=False).add_argument

    add("list", "Show the recipes and their hyper-parameters.")
    add("data", "Fetch, verify and prepare the dataset; print the folder that it is in.")

    train = add("train", "Train a recipe into a run folder.")
    train(
        "recipe", nargs="?", help=f"see `list` (default: {recipes.DEFAULT}); with --resume also a run folder"
    )
    train("--epochs", type=_whole, help="how many passes over the data")
    train("--minutes", type=_positive, help="how many minutes (default: 3)")
    train("--seed", type=_seed, help="default: 0")
    train("--output", type=_folder, help="run folder (default: a new one, runs/RECIPE)")
    text = "go on with the run in --output (default: the newest in runs/)"
    train("--resume", action="store_true", help=text)
    text = "equal bits from equal seeds, with --epochs on one machine; slower"
    train("--deterministic", action="store_true", help=text)
    text = "one device (default), all GPUs of this machine, or all machines in TF_CONFIG"
    train("--strategy", choices=("one", "mirrored", "multiworker"), default="one", help=text)
    text = "losses, scores and sample grids for TensorBoard, in the run folder; takes the package tensorboard"
    train("--tensorboard", action="store_true", help=text)
    train("--data", help=f"what to train on (default: {datasets.DEFAULT}): {own_data.FORMS}")
    text = "change a setting; repeatable"
    train("--set", type=_setting, action="append", default=[], metavar="NAME=VALUE", help=text)

    generate = add("generate", "Make images with a trained generator.")
    generate("source", type=_path, help="a run folder, a shipped model or your own generator (.keras, .h5)")
    text = 'class to make, by name or number ("Ankle boot" or 9); repeatable'
    generate("--label", action="append", help=text)
    text = "images in all, spread over the labels (default: 64, or 8 of every label)"
    generate("--count", type=_whole, help=text)
    text = "FILE.png, .npz or .gif (a latent walk)"
    generate("--output", type=_file(".png", ".npz", ".gif"), required=True, help=text)

    evaluate = add("evaluate", "Measure how good generated images are, against the real test images.")
    analyze = add("analyze", "Report what a generator has learned, beside real images, on one page.")
    for command in (evaluate, analyze):
        command("source", type=_path, help=SOURCE)
        command("--samples", type=_whole, default=10_000, help="how many images (default: 10000)")
        text = "the real images, see train (default: those that SOURCE was trained on, or Fashion-MNIST)"
        command("--data", help=text)
    for command in (generate, evaluate, analyze):
        command("--seed", type=_seed, default=0, help="default: 0")
        text = "what a generator of your own takes (default: normal)"
        command("--noise", choices=("normal", "uniform"), help=text)
        command("--label-as", choices=sources.LABEL_FORMS, help="how it takes its label")
        command("--pixels", choices=("unit", "tanh", "byte"), help="its range: [0, 1], [-1, 1] or [0, 255]")
        command("--fit", choices=("crop", "resize"), help="how its images become 28 x 28")
    text = "whose features KID, precision and recall are of (default: classifier)"
    evaluate("--extractor", choices=("classifier", "label-free"), default="classifier", help=text)
    evaluate("--json", action="store_true", help="print JSON instead of a table")
    evaluate("--output", type=_folder, help="folder for evaluation.json and figures")
    analyze("--output", type=_folder, required=True, help="folder for report.html and its tables")

    page = add("page", "Write one web page in which a generator itself runs, offline.")
    page("source", type=_path, help="a run folder or a shipped model")
    page("--output", type=_file(".html"), required=True, help="FILE.html")

    export = add("export", "Write a generator in a form that other programs load, with a model card.")
    export("source", type=_path, help="a run folder or a shipped model")
    text = "onnx takes the packages onnx and tf2onnx"
    export("--format", choices=("onnx", "tflite", "saved_model"), required=True, help=text)
    export("--output", type=_folder, required=True, help="folder")

    race = add("race", "Train contenders for equal time and compare their images along the way.")
    text = "recipes on ten classes, tutorial, prototype, or rungs of the ladder (notebook 07)"
    contenders = ["cgan", "dcgan", "prototype", "tutorial"]
    race("--recipes", nargs="+", default=contenders, metavar="NAME", help=text)
    race("--minutes", type=_positive, default=3.0, help="for each of them (default: 3)")
    race("--seeds", type=_whole, default=1, help="runs of each (default: 1)")
    race("--data", help="what to train on, see train")
    race("--output", type=_folder, default=pathlib.Path("runs/race"), help="folder (default: runs/race)")
    return top


def command_list(arguments):
    width = 2 + max(map(len, recipes.RECIPES))
    for recipe in recipes.RECIPES.values():
        default = "  [default]" if recipe.name == recipes.DEFAULT else ""
        print(f"{recipe.name:<{width}}{recipe.summary}{default}")
        own = [name for name in recipes.SETTINGS if recipe.discriminator or name not in recipes.OF_A_GAME]
        settings = [f"{name}={getattr(recipe, name)}" for name in own]
        for index in range(0, len(settings), 4):
            print(f"{'':<{width}}{'  '.join(settings[index : index + 4])}")
    print(f"{'':<{width}}(--set learning_rate=... sets both networks' learning rates)")


def command_data(arguments):
    terminal.start_tensorflow()
    dataset = datasets.load()
    print(f"{dataset.name}: {dataset.source}", file=sys.stderr)
    print(dataset.folder)


def command_train(arguments):
    if arguments.epochs is not None and arguments.minutes is not None:
        raise InputError("--epochs and --minutes: expected one of them")
    epochs, minutes, settings = arguments.epochs, arguments.minutes, dict(arguments.set)
    if arguments.resume:
        output = _run_to_resume(arguments)
    else:
        recipe = recipes.override(recipes.get(arguments.recipe or recipes.DEFAULT), settings)
        if "epochs" in settings and minutes is None:
            epochs = epochs or recipe.epochs
    terminal.start_tensorflow()
    from fmgan_tf.runs import distribute, folder, training

    strategy = distribute.build_strategy(arguments.strategy)
    known, size = (None, recipe.image_size) if not arguments.resume else _data_of(folder.read_record(output))
    dataset = own_data.load(arguments.data or known or datasets.DEFAULT, size)
    if arguments.resume:
        record = training.resume(
            output, dataset, epochs, minutes, strategy, tensorboard=arguments.tensorboard
        )
    else:
        how = arguments.seed or 0, epochs, minutes, arguments.deterministic, strategy
        record = training.train(recipe, dataset, arguments.output, *how, tensorboard=arguments.tensorboard)
    fid = "" if record["val_fid"] is None else f", FID-FMNIST {record['val_fid']:.2f} against training images"
    folder = record["folder"]
    terminal.say(
        f"{record['status'].capitalize()}: {record['steps']:,} steps, {record['seconds']:.0f} s, "
        f"{record['images_per_second']:,} images/s{fid}. Look at\n"
        f"  {folder / 'samples.png'}  (images from the averaged generator)\n"
        f"  {folder / 'samples.gif'}  (the same noise from the first step to the last)\n"
        f"  {folder / 'losses.png'}  (training curves)"
    )
    return 128 + record["signal"] if "signal" in record else 0


def _data_of(record):
    """What a run.json says of its data: (what --data was, pixels)."""
    return record.get("data_argument", datasets.DEFAULT), record["recipe"].get("image_size", 28)


def _run_to_resume(arguments):
    """The run folder that --resume means. Options that are not the run's, which people add to the first
    command, are refused."""
    from fmgan_tf.runs import folder

    given, recipe = arguments.output, arguments.recipe
    if recipe and recipe not in recipes.RECIPES:
        given, recipe = _folder(recipe), None
    output = given or folder.newest(recipe)
    record = folder.read_record(output)
    wanted = {"recipe": (recipe, record["recipe"]["name"]), "--seed": (arguments.seed, record["seed"])}
    wanted["--deterministic"] = (arguments.deterministic or None, record.get("deterministic", False))
    before = recipes.from_record(record["recipe"])
    for name, value in dict(arguments.set).items():
        if recipes.override(before, {name: value}) != before:
            wanted[f"--set {name}"] = value, "another value"
    for name, (now, kept) in wanted.items():
        if now is not None and now != kept:
            raise InputError(f"{output} was begun with {name} {kept}, not {now}; leave it out, or train anew")
    return output


def _open(arguments, *class_names):
    options = sources.Options(arguments.noise, arguments.label_as, arguments.pixels, arguments.fit)
    return sources.open(arguments.source, options, *class_names)


def _compared(arguments):
    """What evaluate and analyze compare, and on which features: (Source, Dataset, Extractors or None)."""
    from fmgan_tf.runs import folder

    path = arguments.source
    record = folder.read_record(path) if (path / "run.json").exists() else {}
    known, size = _data_of(record) if record else (datasets.DEFAULT, 28)
    if (arguments.data or known) == datasets.DEFAULT == known:
        source = _open(arguments)
        terminal.start_tensorflow()
        return source, datasets.load(), None
    terminal.start_tensorflow()
    dataset = own_data.load(arguments.data or known, size)
    source = _open(arguments, dataset.class_names)
    if source.recipe and record.get("fingerprint") != dataset.fingerprint:
        raise InputError(
            f"{path} was trained on {record.get('dataset', datasets.NAME)}, and these images are others "
            f"({dataset.source}); leave --data out, or name the folder that its images are in now"
        )
    from fmgan_tf import features

    own = path if record else pathlib.Path("runs", "extractors")
    dataset = dataset._replace(name=record.get("dataset", dataset.name))
    return source, dataset, features.train_extractors(dataset, own)


def command_generate(arguments):
    source = _open(arguments)
    if not source.recipe:  # only the loaded model tells how many classes it knows
        terminal.start_tensorflow()
    labels = source.labels(arguments.label)
    terminal.start_tensorflow()
    from fmgan_tf.runs import generate

    generate.generate(source.generator, arguments.output, labels, arguments.count, arguments.seed)
    if source.assumed:
        print(source.assumed)
    print(f"Wrote {arguments.output}")


def command_evaluate(arguments):
    output, (source, dataset, extractors) = arguments.output, _compared(arguments)
    from fmgan_tf.runs import evaluation

    how = arguments.samples, arguments.seed, arguments.extractor, output, extractors
    report = evaluation.evaluate(source, dataset, *how)
    print(json.dumps(report, indent=2) if arguments.json else evaluation.table(report))
    if output and not arguments.json:
        print(f"\nWrote evaluation.json and figures to {output}")


def command_analyze(arguments):
    source, dataset, extractors = _compared(arguments)
    from fmgan_tf.runs import report

    report.analyze(source, dataset, arguments.output, arguments.samples, arguments.seed, extractors)
    print(f"Wrote {arguments.output / 'report.html'} and its tables (.csv)")


def command_page(arguments):
    source = sources.open(arguments.source)
    terminal.start_tensorflow()
    from fmgan_tf.runs import page

    page.write(source, arguments.output)
    print(f"Wrote {arguments.output}, {arguments.output.stat().st_size / 1e6:.1f} MB; open it in a browser")


def command_export(arguments):
    source = sources.open(arguments.source)
    terminal.start_tensorflow()
    from fmgan_tf.runs import export

    path = export.export(source, arguments.output, arguments.format)
    print(f"Wrote {path}, and a model card beside it: README.md")


def command_race(arguments):
    terminal.start_tensorflow()
    from fmgan_tf import features, race
    from fmgan_tf.runs import folder, training

    contenders = [race.contender(name) for name in dict.fromkeys(arguments.recipes)]
    output = folder.writable(arguments.output)
    dataset = own_data.load(arguments.data or datasets.DEFAULT)
    contenders = [training.fitted(recipe, dataset) for recipe in contenders]
    with folder.alone_in(output):
        extractors = features.train_extractors(dataset, output) if dataset.is_own else None
        race.race(contenders, dataset, output, arguments.minutes, arguments.seeds, extractors=extractors)
    names = ("race.csv", "race.png", "strip.png")
    print("\n".join(["Wrote", *(f"  {output / name}" for name in names)]))


COMMANDS = {
    name.removeprefix("command_"): run for name, run in list(globals().items()) if name.startswith("command_")
}


def main(arguments=None):
    """Runs the command line and returns its exit code: 0, 1 (training diverged), 2 (bad input), or 128 and
    the number of the signal that ended it."""
    os.environ["MPLBACKEND"] = "agg"  # figures go to files; another project's backend may not exist here
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # whatever a terminal cannot show
    arguments = parser().parse_args(arguments)

    def show_warning(message, category, *_):
        if issubclass(category, UserWarning):  # others are for developers
            terminal.say(f"fmgan_tf {arguments.command}: {InputError(message)}", sys.stderr)

    try:
        with warnings.catch_warnings():
            # Keras minds whether one input comes as a list of one; it is the same to the model
            warnings.filterwarnings("ignore", "The structure of `inputs` doesn't match")
            warnings.showwarning = show_warning
            return COMMANDS[arguments.command](arguments) or 0
    except KeyboardInterrupt:
        terminal.say("fmgan_tf: interrupted", sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (InputError, OSError, Diverged, MemoryError) as error:
        terminal.say(f"fmgan_tf {arguments.command}: {InputError(error)}"[:800], sys.stderr)
        return 1 if isinstance(error, Diverged) else 2


if __name__ == "__main__":
    raise SystemExit(main())
