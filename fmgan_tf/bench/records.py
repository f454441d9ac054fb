"""Keeps finished runs in assets/ and makes README's tables and the pictures of its races from what is there.

python -m fmgan_tf evaluate RUN --output RUN
python -m fmgan_tf.bench.records keep RUN                # -> assets/RECIPE, a shipped model
python -m fmgan_tf.bench.records keep RUN three-minutes  # -> assets/three-minutes/RECIPE, no model
python -m fmgan_tf.bench.records table                   # README's tables anew
python -m fmgan_tf.bench.records races                   # assets/race/*.png anew, from its folders
"""

import argparse
import hashlib
import io
import json
import pathlib
import re
import shutil
import sys

import h5py
import imageio.v3 as imageio
import numpy as np

from fmgan_tf import InputError, generation, plots, pretrained, recipes
from fmgan_tf.bench import race
from fmgan_tf.runs import training
from fmgan_tf.runs.folder import change_part, read_record, sample_paths, save_model

ROOT = pathlib.Path(__file__).parents[2]
STAGES = 6


def round_weights(weights):
    """Rounds float32 to multiples of a power of two, at most a 16th of their deviation; up to 1,000 stay."""
    if weights.size <= 1000 or not weights.std():
        return weights
    step = 2.0 ** np.floor(np.log2(weights.std() / 16))
    return (np.rint(weights / step) * step).astype("float32")


def save_small(model, path):
    """Saves a model, its weights rounded in place, as a plain .keras file that is far smaller."""
    model.set_weights([round_weights(weight) for weight in model.get_weights()])
    save_model(model, path)
    change_part(path, "model.weights.h5", compress)


def compress(content):
    """An HDF5 file with its large arrays compressed, bytes of equal weight side by side (HDF5's shuffle)."""
    packed = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as source, h5py.File(packed, "w") as target:

        def copy(name, item):
            if isinstance(item, h5py.Dataset):
                large = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
                made = target.create_dataset(name, data=item[()], **large if item.size > 1000 else {})
            else:
                made = target.require_group(name)
            made.attrs.update(item.attrs)

        target.attrs.update(source.attrs)
        source.visititems(copy)
    return packed.getvalue()


def cut(sheet, conditional):
    """The images of a sample sheet, uint8 (height, width) as `train` wrote it for 28 pixels, as (N, 28, 28,
    1): the first two of every class, its rows if `conditional`, or the first sixteen."""
    sheet = sheet[::2, ::2]
    rows, columns = (size // 29 for size in sheet.shape)
    # Every image stands in a cell of 29 pixels, below and right of its border
    cells = sheet[: 29 * rows, : 29 * columns].reshape(rows, 29, columns, 29).swapaxes(1, 2)
    images = cells[:, :, 1:, 1:, None]
    if conditional:
        return images[:, : max(2, 16 // rows)].reshape(-1, 28, 28, 1)
    return images.reshape(-1, 28, 28, 1)[:16]


def command(record):
    """The command line that repeats the run of a run.json, str."""
    recipe, unit = recipes.from_record(record["recipe"]), "epochs" if record["epochs"] else "minutes"
    settings = "".join(f" --set {name}={value}" for name, value in training.changed(recipe).items())
    seed = record["seed"]
    return f"python -m fmgan_tf train {recipe.name} --{unit} {record[unit]:g} --seed {seed}{settings}"


def keep(run, group=None):
    """Copies what is worth keeping of a run to assets/.
    Args:
        run: path of a finished run folder that `evaluate --output` has written to as well.
        group: None to ship the model, else the name of a folder in assets/ for records and pictures alone.
    Raises:
        InputError: the run is not finished or not evaluated.
    """
    run = pathlib.Path(run)
    record = read_record(run)
    if record["status"] != "complete" or not (run / "evaluation.json").exists():
        raise InputError(f"{run} is not ready: finish it, then evaluate {run} --output {run}")
    name, conditional = record["recipe"]["name"], record["recipe"]["conditional"]
    folder = pretrained.ASSETS / (group or "") / name
    folder.mkdir(parents=True, exist_ok=True)
    plots.write_whole(folder / "run.json", json.dumps(record | {"command": command(record)}, indent=2))
    shutil.copy(run / "history.csv", folder / "history.csv")
    report = json.loads((run / "evaluation.json").read_text())
    report["source"] = run.resolve().name  # where it lay on somebody's machine tells readers nothing
    plots.write_whole(folder / "evaluation.json", json.dumps(report, indent=2))
    paths = [*sample_paths(run), run / "samples.png"]
    chosen = [paths[index] for index in np.linspace(0, len(paths) - 1, STAGES).round().astype(int)]
    strip = [cut(imageio.imread(path), conditional) for path in chosen]
    plots.save_png(folder / "stages.png", plots.tile(np.concatenate(strip), columns=len(strip[0]), scale=2))
    if group:
        return
    shutil.copy(run / "losses.png", folder / "losses.png")
    frames = [paths[index] for index in np.unique(np.linspace(0, len(paths) - 1, 24).round().astype(int))]
    plots.save_gif(folder / "samples.gif", [imageio.imread(path)[::2, ::2] for path in frames])
    save_small(generation.load_generator(run).model, folder / "generator.keras")
    digest = hashlib.sha256((folder / "generator.keras").read_bytes()).hexdigest()
    sums = pretrained.digests() | {f"{name}/generator.keras": digest}
    lines = [f"{hexadecimal}  {file}\n" for file, hexadecimal in sums.items()]
    plots.write_whole(pretrained.ASSETS / pretrained.SUMS, "".join(lines))


def table(group=None):
    """A Markdown table of results, from the records in assets/, or in one of its groups, see keep."""
    found = sorted((pretrained.ASSETS / (group or "")).glob("*/evaluation.json"))
    reports = [
        (json.loads((path.parent / "run.json").read_text()), json.loads(path.read_text())) for path in found
    ]
    distances = {"fid_fmnist": "FID-FMNIST (floor)", "label_free_distance": "label-free distance (floor)"}
    distances = {
        key: text for key, text in distances.items() if all(key in each["figures"] for _, each in reports)
    }
    columns = ["recipe", "seconds", "images/s", *distances.values(), "precision", "recall", "label agreement"]
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for run, report in reports:
        figures = report["figures"]
        cells = [f"`{run['recipe']['name']}`", f"{run['seconds']:,.0f}", f"{run['images_per_second']:,}"]
        for row in map(figures.get, distances):
            cells.append(f"{row['value']:.2f} ± {row['standard_error']:.2f} ({row['floor']:.2f})")
        for row in (figures["precision"], figures["recall"]):
            cells.append(f"{row['value']:.2f} ({row['floor']:.2f})")
        cells += [f"{figures['label_agreement']['value']:.1%}" if "label_agreement" in figures else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw_races():
    """Draws race.png and strip.png of all races that have a folder in assets/race."""
    folder, rows, strips = pretrained.ASSETS / "race", [], {}
    for path in sorted(folder.glob("*/race.csv")):
        more_rows, more_strips = race.read(path.parent)
        rows, strips = rows + more_rows, strips | more_strips
    plots.save_figure(folder / "race.png", race.show(rows))
    plots.save_figure(folder / "strip.png", race.show_strip(rows, strips, moments=4))


def fill(text):
    """README's text with the tables between <!-- results GROUP --> and <!-- end --> made anew."""
    between = r"(<!-- results ?([\w-]*) -->\n)(?:.|\n)*?(?=<!-- end -->)"
    return re.sub(between, lambda found: found[1] + table(found[2]), text)


def main(arguments=None):
    """Runs the command line and returns its exit code: 0 or 2 (bad input)."""
    parser = argparse.ArgumentParser(prog="fmgan_tf.bench.records", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    keeping = commands.add_parser("keep", help="keep a finished and evaluated run in assets/")
    keeping.add_argument("run", type=pathlib.Path)
    records = "folder in assets/ for records alone (default: ship the model)"
    keeping.add_argument("group", nargs="?", help=records)
    commands.add_parser("table", help="make README's tables of results anew")
    commands.add_parser("races", help="draw the pictures of the races in assets/race/ anew")
    arguments = parser.parse_args(arguments)
    try:
        if arguments.command == "keep":
            keep(arguments.run, arguments.group)
        elif arguments.command == "races":
            draw_races()
        readme = ROOT / "README.md"
        readme.write_text(fill(readme.read_text()))
    except (InputError, OSError) as error:
        print(f"fmgan_tf.bench.records: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
