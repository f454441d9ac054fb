"""The scripts that made the files of assets/, in short, and what they made."""

import ast
import dataclasses
import json
import re
import shutil
import sys

import accuracy
import agreement
import comparisons
import extractors
import few
import imageio.v3 as imageio
import keras
import ladder
import lessons
import numpy as np
import others
import pytest
import reach
import records
import script
import shrink
import square_root
import tensorflow as tf
import ways

from fmgan_tf import InputError, features, generation, losses, metrics, models, own_data, plots, race, recipes
from fmgan_tf.__main__ import parser
from fmgan_tf.runs import training

# Records of runs


def test_small_files_hold_the_same_model(tmp_path):
    model = models.build_dense_cgan_generator()
    before = model.get_weights()
    shrink.save_small(model, tmp_path / "small.keras")
    assert (tmp_path / "small.keras").stat().st_size < 2_000_000 < 4 * model.count_params()
    loaded = keras.models.load_model(tmp_path / "small.keras", compile=False)
    for old, kept, new in zip(before, model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, new)
        assert np.abs(old - new).max() <= old.std() / 32 + 1e-9
    inputs = [generation.sample_noise(0, 8, 100), np.arange(8) % 2]
    np.testing.assert_array_equal(model(inputs), loaded(inputs))
    for weights in (np.random.default_rng(0).normal(size=1000).astype("float32"), np.zeros(5000, "float32")):
        np.testing.assert_array_equal(shrink.round_weights(weights), weights)


def test_cut_finds_the_images():
    images = np.random.default_rng(0).integers(0, 256, (80, 28, 28, 1)).astype("uint8")
    sheet, rows = plots.tile(images, 8, scale=2), images.reshape(10, 8, 28, 28, 1)
    np.testing.assert_array_equal(records.cut(sheet, False), images[:16])
    np.testing.assert_array_equal(records.cut(sheet, True), rows[:, :2].reshape(20, 28, 28, 1))


@pytest.fixture
def assets(tmp_path, monkeypatch):
    features.classifier()  # of the real assets
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / generation.SUMS).write_text("0  a/b.keras\n")
    monkeypatch.setattr(generation, "ASSETS", tmp_path / "assets")
    generation.digests.cache_clear()
    yield tmp_path / "assets"
    generation.digests.cache_clear()


@pytest.mark.parametrize("name, count", [("dcgan", 16), ("cgan", 20)])
def test_a_run_is_kept(name, count, blobs, tmp_path, assets):
    run = tmp_path / "run"
    recipe = recipes.override(recipes.get(name), {"batch_size": 8, "steps_per_epoch": 2})
    training.train(recipe, blobs, run, epochs=2, verbose=False)
    with pytest.raises(InputError, match="is not ready"):
        records.keep(run)
    (run / "evaluation.json").write_text(json.dumps({"source": str(run), "samples": 5}))
    records.keep(run, "short")
    alone = {"run.json", "history.csv", "evaluation.json", "stages.png"}
    assert {path.name for path in (assets / "short" / name).iterdir()} == alone
    report = json.loads((assets / "short" / name / "evaluation.json").read_text())
    assert report == {"source": "run", "samples": 5}
    records.keep(run)
    kept = {path.name for path in (assets / name).iterdir()}
    assert kept == alone | {"losses.png", "samples.gif", "generator.keras"}
    strip = imageio.imread(assets / name / "stages.png")
    assert strip.shape == (2 * (records.STAGES * 29 + 1), 2 * (count * 29 + 1))
    assert list(generation.digests()) == ["a/b.keras", f"{name}/generator.keras"]
    shipped, own = generation.load_generator(name), generation.load_generator(run)
    noise, labels = generation.sample_noise(0, 4, own.latent_dim), np.arange(4)
    images = [generation.sample_images(each, noise, labels).astype(int) for each in (shipped, own)]
    assert np.abs(images[0] - images[1]).max() < 13


def test_records_name_the_command_that_repeats_them_and_no_folder_of_a_machine():
    paths = [path for path in generation.ASSETS.rglob("*") if path.suffix in (".json", ".csv")]
    assert len(paths) > 60
    for path in paths:
        assert not re.search(r"/(home|root|work|tmp|Users)/", path.read_text()), path
    runs = [json.loads(path.read_text()) for path in paths if path.name == "run.json"]
    for record in [run for run in runs if run["recipe"]["name"] in recipes.RECIPES]:
        assert record["command"] == records.command(record)
        parsed = parser().parse_args(record["command"].split()[3:])
        repeated = recipes.override(recipes.get(parsed.recipe), dict(parsed.set))
        later = [name for name in recipes.FIELDS if name.startswith("second_") and name != "second_epoch"]
        later += ["summary"]  # than some of these runs
        today = {name: getattr(repeated, name) for name in later}
        then = dataclasses.replace(recipes.from_record(record["recipe"]), **today)
        assert repeated == then
        assert (parsed.seed, parsed.epochs) == (record["seed"], record["epochs"])
        assert parsed.minutes == record["minutes"]


def test_tables_follow_their_records(tmp_path, assets):
    scores = {name: {"value": 1.234, "standard_error": 0.1, "floor": 0.5} for name in ("precision", "recall")}
    scores |= {"fid_fmnist": {"value": 98.7654, "standard_error": 0.25, "floor": 0.03}}
    folder = assets / "group" / "one" / "dcgan"
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps({"scores": scores}))
    run = {"recipe": {"name": "dcgan"}, "seconds": 1234.5, "images_per_second": 2000}
    (folder / "run.json").write_text(json.dumps(run))
    page = "before\n<!-- results group/one -->\nold\n<!-- end -->\nafter\n"
    filled = records.fill(page)
    assert "| `dcgan` | 1,234 | 2,000 | 98.77 ± 0.25 (0.03) | 1.23 (0.50) | 1.23 (0.50) |  |" in filled
    assert filled.startswith("before\n") and filled.endswith("<!-- end -->\nafter\n") and "old" not in filled
    assert records.fill(filled) == filled


def test_the_races_are_drawn_from_what_is_kept(assets):
    own = records.ROOT / "assets" / "race"
    shutil.copytree(own, assets / "race", ignore=shutil.ignore_patterns("*.png"))
    records.draw_races()
    for name, least in (("race.png", 300), ("strip.png", 12 * 58)):  # three contenders, four moments each
        assert imageio.imread(assets / "race" / name).shape[0] >= least


@pytest.mark.parametrize(
    "main, words",
    [(records.main, "keep"), (records.main, "keep nowhere"), (records.main, "x"), (ladder.main, "down runs")],
)
def test_bad_input_is_one_line_and_exit_code_2(main, words, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make/name.py", *words.split()])
    with pytest.raises(SystemExit) as ended:
        script.run(main)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("name.py: ") and said.count("\n") == 1


# Measurements


def test_the_long_accuracy_score_tells_right_labels_from_wrong_ones(few):
    record = accuracy.score("real", few, seeds=2, count=1000, most_epochs=3)
    assert record["accuracy"] > 0.5 and record["images"] == 1000
    accuracies = [run["accuracy"] for run in record["runs"]]
    assert len(accuracies) == 2 and record["spread"] == max(accuracies) - min(accuracies)
    wrong = few._replace(train_labels=(few.train_labels + 1) % 10)
    assert accuracy.score("real", wrong, seeds=1, count=1000, most_epochs=3)["accuracy"] < 0.2
    images, labels = accuracy.draw("cgan", few, 50)
    assert images.shape == (50, 28, 28, 1) and np.bincount(labels).tolist() == [5] * 10
    with pytest.raises(InputError, match="dcgan has no labels"):
        accuracy.draw("dcgan", few, 50)


def test_scores_that_agree_correlate_and_others_do_not():
    random = np.random.default_rng(0)
    rows = [{"one": n, "two": n**3, "recall": -n, "other": random.normal()} for n in range(200)]
    found = {tuple(row["figures"]): row for row in agreement.correlate(rows, draws=200)}
    for pair in (("one", "two"), ("one", "recall")):
        assert [found[pair]["correlation"], *found[pair]["interval"]] == pytest.approx([1, 1, 1])
    low, high = found["one", "other"]["interval"]
    assert low < 0 < high and high - low == pytest.approx(2 * 1.96 / np.sqrt(200), rel=0.3)


def test_the_kept_record_of_agreement():
    record = json.loads((generation.ASSETS / "agreement.json").read_text())
    assert record["samples"] == agreement.SAMPLES and len(record["sets"]) >= 14
    again = agreement.correlate([row["figures"] for row in record["sets"]], draws=2)
    for row, kept in zip(again, record["correlations"], strict=True):
        assert row["figures"] == kept["figures"]
        assert row["correlation"] == pytest.approx(kept["correlation"])


def test_two_ways_to_the_distance_of_many_images_agree():
    random = np.random.default_rng(0)
    sides = random.normal(0, 1, (400, 12)), random.normal(0.5, 2, (300, 12))
    usual, imaginary = square_root.usual_distance(*sides)
    assert usual == pytest.approx(metrics.frechet_distance(*sides)) and imaginary < 1e-6
    assert square_root.right_distance(*sides) == pytest.approx(usual)
    few = [side[:6] for side in sides]  # more dimensions than images, and no root of a matrix
    assert 0 < square_root.right_distance(*few) < 100


def test_the_kept_record_of_the_square_root():
    """The fault: few images, small covariances, and SciPy from 1.11.2 to 1.12."""
    rows = json.loads((generation.ASSETS / "square-root.json").read_text())["rows"]
    assert {row["scipy"] for row in rows} >= {"1.11.1", "1.11.4", "1.12.0", "1.17.1"}
    for row in rows:
        broken = row["scipy"] in ("1.11.4", "1.12.0") and row["features"] != "pixels in [0, 255]"
        if broken and row["images"] < 200:
            assert abs(row["distance"]) > 1e20 and row["imaginary"] > 1e20
        else:
            assert row["distance"] == pytest.approx(row["right"], rel=0.01)


def test_every_set_of_images_is_measured(few, monkeypatch):
    monkeypatch.setattr(agreement, "TRAINED", {"narrow": (1,), "labels": (1,)})
    monkeypatch.setattr(agreement, "TRUNCATIONS", (0.5,))
    monkeypatch.setattr(agreement.evaluation, "quick_accuracy_score", lambda *_: (0.5, 0.1))
    monkeypatch.setattr(agreement, "correlate", lambda rows: [])
    rows = {row["set"]: row["figures"] for row in agreement.compare(few, samples=300)["sets"]}
    assert {"labels after 1 steps", "dense-cgan", "cgan, noise x 0.5", "training images, mirrored"} <= set(
        rows
    )
    for name in agreement.EXTRACTORS:
        assert rows["training images"][name] < rows["training images, noise 30"][name]
        assert rows["training images"][name] < rows["narrow after 1 steps"][name]


@pytest.mark.parametrize(
    "kind, changes",
    [("classifier", {"filters": 4, "epochs": 2}), ("label-free", {"features": 8, "epochs": 1})],
)
def test_extractors_are_trained_into_a_folder(kind, changes, blobs, tmp_path):
    record = extractors.make(kind, blobs, tmp_path, verbose=0, batch_size=20, **changes)
    shipped = generation.ASSETS / kind
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in shipped.iterdir()} | {
        "history.csv"
    }
    kept = json.loads((shipped / "run.json").read_text())
    assert set(record) == set(kept) - {"epochs", "minutes"} and record["recipe"]["name"] == kind
    with pytest.raises(InputError, match="holds a run already"):
        extractors.make(kind, blobs, tmp_path)


# The comparisons of notebook 04 and the races of notebook 07


def test_mismatched_labels_are_never_the_right_ones():
    labels = np.arange(90) // 9
    others = ways.other_labels(tf.constant(labels)).numpy()
    pairs, counts = np.unique(np.stack([labels, others]), axis=1, return_counts=True)
    assert (others != labels).all() and pairs.shape == (2, 90) and (counts == 1).all()  # each of the others


@pytest.mark.parametrize("way", [*ways.BUILDERS, *ways.CHANGES])
def test_every_way_takes_a_step(way):
    model = ways.game(way, 0.3, seed=0)
    before = model.generator.get_weights()
    values = model.train_step((tf.zeros((8, 28, 28, 1)), tf.range(8)))
    assert all(np.isfinite(float(value)) for value in values.values())
    assert any((old != new).any() for old, new in zip(before, model.generator.get_weights(), strict=True))


@pytest.mark.parametrize("way", ways.BUILDERS)
def test_a_factor_changes_the_part_of_the_label_alone(way):
    weights = [ways.game(way, factor, seed=0).discriminator.get_weights() for factor in (1.0, 3.0)]
    ((old, new),) = [pair for pair in zip(*weights, strict=True) if not np.array_equal(*pair)]
    label = np.s_[:, :, 1:] if old.ndim == 4 else np.s_[:]
    np.testing.assert_allclose(new[label], 3 * old[label], rtol=1e-6)
    if old.ndim == 4:
        np.testing.assert_array_equal(new[:, :, :1], old[:, :, :1])


def test_the_runs_of_a_comparison_fill_its_table(few, monkeypatch):
    for name, value in {"STEPS": 1, "SAMPLES": 200, "FACTORS": (0.3,), "SEEDS": (0,)}.items():
        monkeypatch.setattr(comparisons, name, value)
    monkeypatch.setattr(ways, "BUILDERS", {"projection": ways.BUILDERS["projection"]})
    monkeypatch.setattr(ways, "CHANGES", ())
    rows = []

    def keep(row, run, *arguments):
        rows.append({name: str(value) for name, value in (row | run(*arguments)).items()})
        return rows

    comparisons.conditionings(few, keep)
    header = (generation.ASSETS / "conditionings.csv").read_text().splitlines()[0]
    assert [*rows[0]] == [*rows[1]] == header.split(",")
    assert [row["purpose"] for row in rows] == ["tuning", "comparison"] and rows[1]["factor"] == "0.3"


def test_the_contenders_of_the_ladder_are_those_of_its_records(blobs):
    for name, contenders in (("ladder", ladder.climb()), ("ladder-rates", ladder.rates())):
        kept = json.loads((generation.ASSETS / name / "race.json").read_text())
        assert kept["minutes"] == ladder.MINUTES
        for recipe, record in zip(contenders, kept["contenders"], strict=True):
            then = recipes.from_record(record)
            assert dataclasses.replace(then, summary="") == dataclasses.replace(recipe, summary="")
    other = ladder.against_training_images(blobs)
    np.testing.assert_array_equal(other.test_images, blobs.train_images[-50:])
    np.testing.assert_array_equal(other.test_labels, blobs.train_labels[-50:])
    assert other.source != blobs.source and race.TUTORIAL == ladder.scaled("tutorial")


# What a notebook reaches


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two modules; the function edits one of them."""
    monkeypatch.setattr(reach, "ROOT", tmp_path)
    (tmp_path / "fmgan_tf").mkdir()
    files = {
        "__init__": "class InputError(ValueError):\n    pass\n",
        "low": "SIZE = 3\nUNUSED = 4\n\ndef used():\n    return SIZE\n\ndef lock():\n    return UNUSED\n",
        "high": "from fmgan_tf import InputError, low\n\ndef call():\n    'Says so.'\n    return low.used()\n"
        "\nclass Kind:\n    def method(self):\n        raise InputError(low.UNUSED)\nNAMES = {'call': 1}\n",
    }
    for name, text in files.items():
        (tmp_path / "fmgan_tf" / f"{name}.py").write_text(text)

    def edit(name, old, new):
        path = tmp_path / "fmgan_tf" / f"{name}.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return edit


def names(source):
    return {f"{module.removeprefix('fmgan_tf.')}.{name}" for module, name in reach.reached(ast.parse(source))}


@pytest.mark.parametrize(
    "source, expected",
    [
        ("from fmgan_tf import high\nhigh.call()", "high.call low.used low.SIZE"),
        ("from fmgan_tf import high as h\nh.Kind", "high.Kind fmgan_tf.InputError low.UNUSED"),
        ("from fmgan_tf.high import NAMES", "high.NAMES"),
        ("from fmgan_tf.high import InputError", "fmgan_tf.InputError"),
        ("from fmgan_tf import low\ngetattr(low, name)", "low.SIZE low.UNUSED low.used low.lock"),
        ("from fmgan_tf import low\nlow = 3", ""),
    ],
)
def test_a_notebook_reaches_what_it_uses(package, source, expected):
    assert names(source) == set(expected.split())


def test_the_digest_changes_with_what_is_reached_alone(package):
    cells = [{"cell_type": "code", "source": ["from fmgan_tf import high\n", "high.call()  # a comment"]}]
    first = reach.digest({"cells": cells})
    package("low", "return UNUSED", "return UNUSED + 1")
    package("high", "'Says so.'", "'Says more.'")
    cells[0]["source"][1] = "high.call()"
    assert reach.digest({"cells": [*cells, {"cell_type": "markdown", "source": "text"}]}) == first
    package("low", "SIZE = 3", "SIZE = 5")
    second = reach.digest({"cells": cells})
    cells[0]["source"][1] = "high.call(1)"
    assert len({first, second, reach.digest({"cells": cells})}) == 3


def test_the_lessons_are_played_by_the_cells_of_the_notebook():
    found = lessons.play({"generator_steps": 2, "spread": True, "gamma": 0.1}, seed=3, steps=50)
    assert found["looks"] == 2 and 0 <= found["at a place"] <= 1 and found["width"] > 0


def test_few_images_are_trained_by_the_cells_of_the_notebook(tmp_path):
    notebook = few.cells()
    notebook["fill"](tmp_path / "shapes", 100, 0)
    dataset = own_data.load(str(tmp_path / "shapes"))
    judges = features.train_extractors(dataset, tmp_path, steps=2)
    found = few.run(notebook, dataset, judges, 40, 2, seed=0, steps=2)
    runs = json.loads((generation.ASSETS / "lessons-few.json").read_text())["runs"]
    assert found.keys() == runs[0].keys() and found["distance"] > 0
    plan = {(run["images"], run["shift"], run["seed"]) for run in runs}
    assert len(runs) == len(plan) == len(few.IMAGES) * len(few.SHIFTS) * len(few.SEEDS)


def test_every_loss_gets_its_best_rate_and_known_runs_are_left_out(monkeypatch):
    judged, known = [], []

    def train(recipe, seed, dataset, seconds, judge):
        judged.append((recipe.loss, recipe.generator_learning_rate, seed))
        bad = recipe.generator_learning_rate > 1e-3
        yield None, {"diverged": True} if bad else {"label_free": 1 / recipe.generator_learning_rate}

    monkeypatch.setattr(others, "train", train)
    for _ in range(2):
        runs = list(others.compare_losses([0, 1], known, None, None))
        assert len(runs) == len(known) == len(judged) == len(others.LOSSES) * 6
        assert {run["learning_rate"] for run in runs if run["seed"] != others.TUNING_SEED} == {8e-4}
    assert {*others.LOSSES} < {*losses.LOSSES}


def test_other_systems_are_trained_for_a_time_and_measured(few, monkeypatch, tmp_path):
    monkeypatch.setattr(others.accuracy, "train", lambda *_: {"accuracy": 0.5})
    monkeypatch.setattr(others, "SAMPLERS", [(1, 0.0), (1, 1.0)])
    judge, known = others.Judge(few, 200), []
    runs = list(others.compare_systems([0], known, few, judge, tmp_path, (0.001, 0.002), 20))
    times = [(run["system"], run["minutes"]) for run in runs]
    assert times == [("flow", 0.001), ("flow", 0.002), ("cgan", 0.001), ("cgan", 0.002)]
    assert all(run["fid_fmnist"] > 0 and 0 <= run["agreement"] <= 1 for run in runs)
    assert runs[1]["accuracy"] == 0.5 and len(runs[1]["samplers"]) == 2 and len(list(tmp_path.iterdir())) == 4


def test_flow_and_game_on_record_are_those_of_the_plan():
    runs = json.loads((generation.ASSETS / "flow-and-game.json").read_text())["runs"]
    expected = [(name, minutes) for name in ("flow", "cgan") for minutes in others.MINUTES]
    assert [(run["system"], run["minutes"]) for run in runs if run["seed"] == 0] == expected
    assert all("accuracy" in run for run in runs if run["minutes"] == others.MINUTES[-1])
    tried = [(each["steps"], each["guidance"]) for run in runs for each in run.get("samplers", [])]
    assert tried == others.SAMPLERS
    strips = {path.stem for path in (generation.ASSETS / "flow-and-game").iterdir()}
    assert strips == {f"{name}-{minutes}" for name, minutes in expected}


def test_the_lessons_on_record_are_those_of_the_plan():
    for kind, seeds in (("ring", 10), ("clothes", 3)):
        runs = json.loads((generation.ASSETS / f"lessons-{kind}.json").read_text())["runs"]
        assert len(runs) == len(lessons.plan(kind))
        ways = [run["name"] for run in runs if run["seed"] != lessons.TUNING_SEED]
        assert {ways.count(name) for name in ways} == {seeds}
    chosen = {run["gamma"] for run in runs if run["name"] == "penalty" and run["seed"] != lessons.TUNING_SEED}
    assert chosen == {losses.GAMMA}, "the package's penalty is the one that was chosen"
