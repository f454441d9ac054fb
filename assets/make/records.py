"""Keeps finished runs in assets/, and makes tables and pictures of results from what is there.

python -m fmgan_tf evaluate RUN --output RUN
python assets/make/records.py keep RUN                # -> assets/RECIPE, a shipped model
python assets/make/records.py keep RUN three-minutes  # -> assets/three-minutes/RECIPE, no model
python assets/make/records.py tables                  # the tables of the pages
python assets/make/records.py races                   # assets/race/*.png, from its folders
"""

import hashlib
import json
import pathlib
import re
import shutil

import imageio.v3 as imageio
import numpy as np
import pages
import script
import shrink

from fmgan_tf import InputError, generation, plots, race, recipes, write_whole
from fmgan_tf.runs import export, training
from fmgan_tf.runs.folder import read_record, sample_paths, write_record

ROOT = pathlib.Path(__file__).parents[2]
STAGES, FRAMES = 6, 24  # of a strip of samples, and of a GIF


def cut(sheet, conditional):
    """The images of a sample sheet as `train` writes it for 28 pixels, uint8 (N, 28, 28, 1): the first two of
    every class, its rows if `conditional`, or the first sixteen."""
    sheet = sheet[::2, ::2]
    rows, columns = (size // 29 for size in sheet.shape)
    # Every image stands in a cell of 29 pixels, below and right of its border
    cells = sheet[: 29 * rows, : 29 * columns].reshape(rows, 29, columns, 29).swapaxes(1, 2)
    images = cells[:, :, 1:, 1:, None]
    chosen = images[:, : max(2, 16 // rows)] if conditional else images.reshape(-1, 28, 28, 1)[:16]
    return chosen.reshape(-1, 28, 28, 1)


def command(record):
    """The command line that repeats the run of a run.json, str."""
    recipe, unit = recipes.from_record(record["recipe"]), "epochs" if record["epochs"] else "minutes"
    settings = "".join(f" --set {name}={value}" for name, value in training.changed(recipe).items())
    length = f"--{unit} {record[unit]:g} --seed {record['seed']}"
    return f"python -m fmgan_tf train {recipe.name} {length}{settings}"


def keep(run, group=None):
    """Copies what is worth keeping of a finished run, to which `evaluate --output` has written as well: into
    assets/ with its model, or into a group there, records and pictures alone."""
    run = pathlib.Path(run)
    record = read_record(run)
    if record["status"] != "complete" or not (run / "evaluation.json").exists():
        raise InputError(f"{run} is not ready: finish it, then evaluate {run} --output {run}")
    name, conditional = record["recipe"]["name"], record["recipe"]["conditional"]
    folder = generation.ASSETS / (group or "") / name
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder, record | {"command": command(record)})
    shutil.copy(run / "history.csv", folder / "history.csv")
    report = json.loads((run / "evaluation.json").read_text())
    report["source"] = run.resolve().name  # where it lay on somebody's machine tells readers nothing
    write_whole(folder / "evaluation.json", json.dumps(report, indent=2))
    paths = [*sample_paths(run), run / "samples.png"]
    chosen = np.linspace(0, len(paths) - 1, STAGES).round().astype(int)
    strip = [cut(imageio.imread(paths[index]), conditional) for index in chosen]
    plots.save_png(folder / "stages.png", plots.tile(np.concatenate(strip), columns=len(strip[0]), scale=2))
    if group:
        return
    shutil.copy(run / "losses.png", folder / "losses.png")
    chosen = np.unique(np.linspace(0, len(paths) - 1, FRAMES).round().astype(int))
    plots.save_gif(folder / "samples.gif", [imageio.imread(paths[index])[::2, ::2] for index in chosen])
    shrink.save_small(generation.load_generator(run).model, folder / "generator.keras")
    digest = hashlib.sha256((folder / "generator.keras").read_bytes()).hexdigest()
    sums = generation.digests() | {f"{name}/generator.keras": digest}
    lines = [f"{hexadecimal}  {file}\n" for file, hexadecimal in sums.items()]
    write_whole(generation.ASSETS / generation.SUMS, "".join(lines))
    generation.digests.cache_clear()


def table(group=""):
    """A Markdown table of results, from the records in assets/ or in one of its groups."""
    rows = []
    for path in sorted((generation.ASSETS / group).glob("*/evaluation.json")):
        run = json.loads(path.with_name("run.json").read_text())
        rows.append((run, json.loads(path.read_text())["scores"]))
    distances = {"fid_fmnist": "FID-FMNIST (floor)", "label_free_distance": "label-free distance (floor)"}
    distances = {key: title for key, title in distances.items() if all(key in scores for _, scores in rows)}
    columns = ["recipe", "seconds", "images/s", *distances.values(), "precision", "recall", "label agreement"]
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for run, scores in rows:
        cells = [f"`{run['recipe']['name']}`", f"{run['seconds']:,.0f}", f"{run['images_per_second']:,}"]
        for row in map(scores.get, distances):
            cells.append(f"{row['value']:.2f} ± {row['standard_error']:.2f} ({row['floor']:.2f})")
        for row in (scores["precision"], scores["recall"]):
            cells.append(f"{row['value']:.2f} ({row['floor']:.2f})")
        cells.append(f"{scores['label_agreement']['value']:.1%}" if "label_agreement" in scores else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def fill(text):
    """A page with what is between <!-- results GROUP -->, <!-- front --> or <!-- course --> and <!-- end -->
    made anew."""

    def made(found):
        what, _, group = found[2].partition(" ")
        return found[1] + {"results": table, "front": pages.front, "course": pages.course}[what](
            *group.split()
        )

    between = r"(<!-- ((?:results|front|course)(?: [\w/-]+)?) -->\n)(?:.|\n)*?(?=<!-- end -->)"
    return re.sub(between, made, text)


def draw_races():
    """Draws race.png and strip.png of all races that have a folder in assets/race."""
    folder, rows, strips = generation.ASSETS / "race", [], {}
    for path in sorted(folder.glob("*/race.csv")):
        more_rows, more_strips = race.read(path.parent)
        rows, strips = rows + more_rows, strips | more_strips
    plots.save_figure(folder / "race.png", race.show(rows))
    plots.save_figure(folder / "strip.png", race.show_strip(rows, strips, moments=4))


def main():
    parser = script.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("keep", "tables", "races"))
    parser.add_argument("run", nargs="?", help="of keep: a run that is finished and evaluated")
    parser.add_argument("group", nargs="?", help="of keep: folder in assets/ for records without the model")
    arguments = parser.parse_args()
    if (arguments.what == "keep") != bool(arguments.run):
        parser.error("expected keep RUN [GROUP], tables or races")
    if arguments.what == "races":
        draw_races()
        return
    if arguments.run:
        keep(arguments.run, arguments.group)
    for path in pages.PAGES:
        path.write_text(fill(path.read_text()))
    for name in generation.shipped():
        card = generation.ASSETS / name / "README.md"
        card.write_text(export.card(card.parent))


if __name__ == "__main__":
    script.run(main)
