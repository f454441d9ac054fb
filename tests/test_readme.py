"""The README says what the records say, and what it names is there."""

import dataclasses
import json
import pathlib
import re
import shutil

from fmgan_tf import pretrained, recipes
from fmgan_tf.bench import classifier, label_free, race, records, rivals

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def test_results_are_those_of_the_records():
    assert records.fill(TEXT) == TEXT, "run python -m fmgan_tf.bench.records table"
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) ± ", TEXT, re.M)
    assert {row[0] for row in rows} >= {"dcgan", "deconv-gan"}
    for path in (ROOT / "assets" / "three-minutes").iterdir():
        run = json.loads((path / "run.json").read_text())
        assert run["minutes"] == 3 and run["recipe"]["name"] == path.name and not run["overrides"]
        assert run["status"] == "complete"


def test_a_table_follows_its_records(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "assets", tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(pretrained, "ASSETS", tmp_path)
    assert records.fill(TEXT) == TEXT
    path = tmp_path / "three-minutes" / "dcgan" / "evaluation.json"
    report = json.loads(path.read_text())
    report["figures"]["fid_fmnist"]["value"] = 98.7654
    path.write_text(json.dumps(report))
    assert "| 98.77 ± " in records.fill(TEXT) != TEXT


def test_what_is_said_of_the_race_is_what_its_records_say():
    said = " ".join(TEXT[TEXT.index("*A race on") : TEXT.index("To repeat it")].split())
    fid, label_free = "fid_fmnist", "label_free_distance"
    for folder, name, seconds, key, text, form in (
        ("three-minutes", "cgan", 180, fid, "after three minutes `cgan` stands at {}", ".2f"),
        ("three-minutes", "prototype", 180, fid, "the prototype it grew from at {}", ".2f"),
        ("three-minutes", "cgan", 180, label_free, "(see below) is {} for `cgan`", ".1f"),
        ("three-minutes", "prototype", 180, label_free, "and {} for the prototype", ".1f"),
        ("three-minutes", "cgan", 5, fid, "`cgan` was at {} after five seconds", ".0f"),
        ("twelve-minutes", "tutorial", 720, fid, "stands at {} after twelve minutes", ".0f"),
    ):
        rows, _ = race.read(ROOT / "assets" / "race" / folder)
        rows = [row for row in rows if row["contender"] == name and 0 <= row["seconds"] - seconds < 0.5]
        values = [row[key] for row in rows]
        assert len(values) == 3
        low, mean, high = (format(value, form) for value in (min(values), sum(values) / 3, max(values)))
        assert text.format(f"{mean} ({low} to {high})") in said.replace("After", "after"), (
            name,
            low,
            mean,
            high,
        )


def test_what_is_said_of_three_seeds_is_what_their_records_say():
    text = " ".join(TEXT.split())
    short, again = "three-minutes", "three-minutes-again"
    for first, more, name, form, words in (
        (short, again, "cgan", ".2f", "`cgan` stands at {}, recall {},"),
        (short, again, "dcgan", ".1f", "`dcgan` at {}, recall {},"),
        (short, again, "deconv-gan-tuned", ".1f", "`deconv-gan-tuned` at {}, recall {};"),
        ("", "fifty-epochs-again", "dense-cgan", ".1f", "Over three seeds it stands at {}, recall {};"),
    ):
        folders = [ROOT / "assets" / first / name]
        folders += sorted((ROOT / "assets" / more).glob(f"seed-*/{name}"))
        figures = [json.loads((folder / "evaluation.json").read_text())["figures"] for folder in folders]
        assert len(figures) == 3
        said = []
        for key, digits in (("fid_fmnist", form), ("recall", ".2f")):
            values = [each[key]["value"] for each in figures]
            low, mean, high = (format(value, digits) for value in (min(values), sum(values) / 3, max(values)))
            said.append(f"{mean} ({low} to {high})")
        assert words.format(*said) in text, said
        if name == "cgan":
            speeds = [json.loads((path / "run.json").read_text())["images_per_second"] for path in folders]
            rows, _ = race.read(ROOT / "assets" / "race" / "three-minutes")
            last = [row for row in rows if row["contender"] == name and row["seconds"] >= 180]
            raced = [row["images"] / row["seconds"] for row in last]
            said = f"made {min(speeds):,} to {max(speeds):,} images/s; in the race, on another day, it made "
            assert said + f"{min(raced):,.0f} to {max(raced):,.0f}, so" in text


def test_what_is_said_of_the_long_runs_is_what_their_records_say():
    folders = sorted((ROOT / "assets" / "thirty-minutes").glob("seed-*/cgan"))
    runs = [json.loads((folder / "run.json").read_text()) for folder in folders]
    assert [run["seed"] for run in runs] == list(range(len(runs)))
    assert all(run["minutes"] == 30 and not run["overrides"] and run["status"] == "complete" for run in runs)
    figures = [json.loads((folder / "evaluation.json").read_text())["figures"] for folder in folders]

    def said(name, form):
        values = [each[name]["value"] for each in figures]
        low, mean, high = (
            format(value, form) for value in (min(values), sum(values) / len(values), max(values))
        )
        return f"{mean} ({low} to {high}; real images {format(figures[0][name]['floor'], form)})"

    text = " ".join(TEXT.split())
    for words, name, form in (
        ("an FID-FMNIST of {}", "fid_fmnist", ".2f"),
        ("precision {}", "precision", ".2f"),
        ("recall {}", "recall", ".2f"),
        ("a label-free distance (see below) of {}", "label_free_distance", ".1f"),
        ("a quick accuracy score of {}", "quick_accuracy_score", ".1%"),
    ):
        assert words.format(said(name, form)) in text, said(name, form)


def recipe_of(record, **changes):
    """A recorded recipe as it would be read today, without its summary."""
    return dataclasses.replace(recipes.Recipe(**record), summary="", **changes)


def test_records_are_of_the_recipes_of_today():
    """Otherwise README and notebooks would show what nobody can repeat."""
    for path in (ROOT / "assets").glob("**/run.json"):
        run = json.loads(path.read_text())
        name = run["recipe"]["name"]
        if name in ("classifier", "label-free"):
            known = classifier.RECIPE if name == "classifier" else label_free.RECIPE
            assert {key: value for key, value in run["recipe"].items() if key != "summary"} == known
            continue
        known, changes = recipes.override(recipes.get(name), run["overrides"]), {}
        kind = path.parent.parent.name.split("-")[0]  # of a long run, see notebook 07
        if kind == "modulate":
            known, changes = rivals.LADDER["modulate"], {"name": "modulate"}
        elif kind == "hinge":
            known = dataclasses.replace(known, loss="hinge")
        assert recipe_of(run["recipe"], **changes) == dataclasses.replace(known, summary=""), path
    for path in (ROOT / "assets").glob("**/race.json"):
        for record in json.loads(path.read_text())["contenders"]:
            assert recipe_of(record) == dataclasses.replace(race.contender(record["name"]), summary=""), path
    top = rivals.LADDER["modulate"]
    beyond = {"name": "cgan", "summary": "", "loss": "damped_hinge"}
    beyond |= {"shift": 2, "label_decay": 5e-4, "ema_decay": 0.999}
    assert dataclasses.replace(top, **beyond) == dataclasses.replace(recipes.get("cgan"), summary="")


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    listed = set(re.findall(r"\(notebooks/(\w+\.ipynb)\)", TEXT))
    assert listed == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}


def test_minutes_and_memory_are_those_of_the_record():
    record = json.loads((ROOT / "assets" / "notebooks.json").read_text())["notebooks"]
    rows = re.findall(r"\(notebooks/(\w+)\.ipynb\) \| .* \| (\d+) \| ([\d.]+) \| \[open", TEXT)
    assert rows == [
        (name, str(max(1, round(figures["seconds"] / 60))), f"{figures['gigabytes']:.1f}")
        for name, figures in record.items()
    ]
    assert max(figures["gigabytes"] for figures in record.values()) <= 2.5
    for name, minutes, _ in rows:  # the notebook says the same, or a range around it
        said = re.search(
            r"\*\*Time:\*\* (\d+)(?: to (\d+))? minutes? to run",
            (ROOT / "notebooks" / f"{name}.ipynb").read_text(),
        )
        assert int(said[1]) <= int(minutes) <= int(said[2] or said[1])
