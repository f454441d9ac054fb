"""Keeps finished runs in assets/ and makes README's tables and the pictures of its races from what is there.

python -m fmgan_tf evaluate RUN --output RUN
python -m fmgan_tf.bench.records keep RUN                  # -> assets/RECIPE, with the generator: a shipped
model python -m fmgan_tf.bench.records keep RUN three-minutes    # -> assets/three-minutes/RECIPE, records and
pictures only python -m fmgan_tf.bench.records table                     # README's tables anew
python -m fmgan_tf.bench.records races                     # assets/race/*.png anew, from race.csv and
strips.npz in its folders
"""

import argparse
import hashlib
import io
import json
import pathlib
import re
import shutil
import sys
import zipfile

import h5py
import imageio.v3 as imageio
import numpy as np

from fmgan_tf import InputError, generation, plots, pretrained
from fmgan_tf.bench import race
from fmgan_tf.runs.folder import read_record, sample_paths, save_model

ROOT = pathlib.Path(__file__).parents[2]
RECORDS = ("run.json", "history.csv", "evaluation.json")
STAGES = 6


def round_weights(weights):
    """Rounds to multiples of a power of two that is at most a 16th of their standard deviation.

    Args:
        weights: float32 (any shape); arrays of up to 1,000 numbers stay as they are.
    Returns:
        float32 of the same shape.
    """
    if weights.size <= 1000 or not weights.std():
        return weights
    step = 2.0 ** np.floor(np.log2(weights.std() / 16))
    return (np.rint(weights / step) * step).astype("float32")


def save_small(model, path):
    """Saves a model as a plain Keras file that is far smaller: weights rounded, and what they no longer say
    compressed.

    Args:
        model: keras.Model; its weights are rounded in place, see round_weights.
        path: ends in .keras.
    """
    model.set_weights([round_weights(weight) for weight in model.get_weights()])
    save_model(model, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    # Bytes of equal weight side by side (HDF5's shuffle) compress far better than whole numbers in turn
    packed = io.BytesIO()
    with h5py.File(io.BytesIO(parts["model.weights.h5"])) as source, h5py.File(packed, "w") as target:
        for name, value in source.attrs.items():
            target.attrs[name] = value

        def copy(name, item):
            if isinstance(item, h5py.Dataset):
                large = (
                    {"compression": "gzip", "compression_opts": 9, "shuffle": True}
                    if item.size > 1000
                    else {}
                )
                made = target.create_dataset(name, data=item[()], **large)
            else:
                made = target.require_group(name)
            for key, value in item.attrs.items():
                made.attrs[key] = value

        source.visititems(copy)
    parts["model.weights.h5"] = packed.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def cut(sheet, conditional):
    """The images of a sample sheet, in rows for the strip: of every class the first two, or the first
    sixteen.

    Args:
        sheet: uint8 (height, width), as `train` wrote it for 28 pixels.
        conditional: bool, whether its rows are classes.
    Returns:
        uint8 (N, 28, 28, 1).
    """
    sheet = sheet[::2, ::2]
    rows, columns = (size // 29 for size in sheet.shape)
    images = np.stack(
        [
            [
                sheet[29 * row + 1 : 29 * row + 29, 29 * column + 1 : 29 * column + 29]
                for column in range(columns)
            ]
            for row in range(rows)
        ]
    )[..., None]
    if conditional:
        return images[:, : max(2, 16 // rows)].reshape(-1, 28, 28, 1)
    return images.reshape(-1, 28, 28, 1)[:16]


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
    for file in RECORDS:
        shutil.copy(run / file, folder / file)
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
    """A table of results, from the records in assets/.

    Args:
        group: see keep.
    Returns:
        str, Markdown.
    """
    folders = sorted(path.parent for path in (pretrained.ASSETS / (group or "")).glob("*/evaluation.json"))
    lines = [
        "| recipe | seconds | images/s | FID-FMNIST (floor) | precision | recall | label agreement |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for folder in folders:
        run, report = (json.loads((folder / file).read_text()) for file in ("run.json", "evaluation.json"))
        figures = report["figures"]
        fid, agreement = figures["fid_fmnist"], figures.get("label_agreement")
        lines.append(
            f"| `{run['recipe']['name']}` | {run['seconds']:,.0f} | {run['images_per_second']:,} | "
            f"{fid['value']:.2f} ± "
            f"{fid['standard_error']:.2f} ({fid['floor']:.2f}) | {figures['precision']['value']:.2f} "
            f"({figures['precision']['floor']:.2f}) | {figures['recall']['value']:.2f} "
            f"({figures['recall']['floor']:.2f}) | {format(agreement['value'], '.1%') if agreement else ''} |"
        )
    return "\n".join(lines) + "\n"


def draw_races():
    """Writes race.png and strip.png to assets/race: all races whose race.csv and strips.npz are kept in
    folders there."""
    folder, rows, strips = pretrained.ASSETS / "race", [], {}
    for path in sorted(folder.glob("*/race.csv")):
        more_rows, more_strips = race.read(path.parent)
        rows += more_rows
        strips |= more_strips
    plots.save_figure(folder / "race.png", race.show(rows))
    plots.save_figure(folder / "strip.png", race.show_strip(rows, strips, moments=4))


def fill(text):
    """README's text with every table of results made anew.

    A table stands between <!-- results GROUP --> and <!-- end -->; without a GROUP it is that of the shipped
    models.
    """
    return re.sub(
        r"(<!-- results ?([\w-]*) -->\n)(?:.|\n)*?(?=<!-- end -->)",
        lambda found: found[1] + table(found[2]),
        text,
    )


def main(arguments=None):
    """Runs the command line and returns its exit code: 0 or 2 (bad input)."""
    parser = argparse.ArgumentParser(prog="fmgan_tf.bench.records", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    keeping = commands.add_parser("keep", help="keep a finished and evaluated run in assets/")
    keeping.add_argument("run", type=pathlib.Path)
    keeping.add_argument(
        "group", nargs="?", help="folder in assets/ for records alone (default: ship the model)"
    )
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
