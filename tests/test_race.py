import csv
import dataclasses
import json
import types

import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow as tf

from fmgan_tf import InputError, features, metrics, recipes
from fmgan_tf.__main__ import main
from fmgan_tf.bench import race, rivals
from fmgan_tf.runs import folder as run_folder


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_rivals_are_built_as_their_docstrings_say(name):
    recipe = rivals.RIVALS[name]
    model = race.build(recipe, 0)
    for network, builder in (
        (model.generator, recipe.generator),
        (model.discriminator, recipe.discriminator),
    ):
        assert f"{network.count_params():,} parameters" in " ".join(getattr(rivals, builder).__doc__.split())
    images = model.generate(
        [np.zeros((2, 64)), np.array([1, 2])] if recipe.conditional else np.zeros((2, 100))
    )
    assert images.shape == (2, 28, 28, 1)


def test_a_contender_without_an_average_does_not_pay_for_one():
    model = race.build(rivals.RIVALS["tutorial"], 0)
    assert model.averaged_generator is model.generator
    before = [weight.numpy() for weight in model.generator.trainable_weights]
    tf.function(model.train_step)(tf.zeros((8, 28, 28, 1)))
    assert any(
        (old != new.numpy()).any() for old, new in zip(before, model.generator.trainable_weights, strict=True)
    )


CLIMBED = [name for name in rivals.LADDER if not name.startswith("without-")]


@pytest.mark.parametrize("name", [*CLIMBED, "without-recognize"])  # the others have the networks of these
def test_every_rung_of_the_ladder_takes_a_step(name):
    recipe = rivals.LADDER[name]
    model = race.build(recipe, 0)
    images = tf.zeros((8, 28, 28, 1))
    before = [weight.numpy() for weight in model.generator.trainable_weights]
    values = model.train_step((images, tf.range(8)) if recipe.conditional else images)
    assert all(np.isfinite(float(value)) for value in values.values())
    assert any(
        (old != new.numpy()).any() for old, new in zip(before, model.generator.trainable_weights, strict=True)
    )


@pytest.mark.parametrize("name", [name for name in rivals.LADDER if name not in CLIMBED])
def test_leaving_a_rung_out_undoes_some_of_it_and_nothing_else(name):
    rungs = [rivals.TUTORIAL, *map(rivals.LADDER.get, CLIMBED)]
    place = CLIMBED.index(name.removeprefix("without-")) + 1
    fields = {field.name for field in dataclasses.fields(recipes.Recipe)} - {"name", "summary"}
    undone = {field for field in fields if getattr(rivals.LADDER[name], field) != getattr(rungs[-1], field)}
    assert undone
    for field in undone:
        below = getattr(rungs[place - 1], field)
        assert getattr(rivals.LADDER[name], field) == below != getattr(rungs[place], field)


def test_a_factor_multiplies_both_rates():
    rung, halved = race.contender("shift"), race.contender("shift@0.5")
    rates = {rate: getattr(rung, rate) / 2 for rate in recipes.BOTH_RATES}
    assert halved == dataclasses.replace(rung, name="shift@0.5", **rates)
    assert race.contender("tutorial@8").generator_learning_rate == pytest.approx(8e-4)
    for wrong, message in (
        ("shift@half", "shift@half: expected a number after the @"),
        ("shift@", "expected a number after the @"),
        ("shift@0", "more than 0"),
        ("shift@-1", "more than 0"),
        ("shift@nan", "expected"),
        ("shfit@2", "Did you mean 'shift'"),
    ):
        with pytest.raises(InputError, match=message):
            race.contender(wrong)


def test_moments():
    assert race.moments(3) == [3]
    assert race.moments(180) == [5, 10, 20, 40, 80, 180]


@pytest.fixture
def small(blobs, monkeypatch):
    """A race of moments: the blobs, 150 images a measurement, the first after a hundredth of a second."""
    monkeypatch.setattr(race, "FIRST", 0.01)
    monkeypatch.setattr("fmgan_tf.fashion_mnist.load", lambda: blobs)
    monkeypatch.setattr(race, "SAMPLES", 150)
    recipe = recipes.override(recipes.get("cgan"), {"batch_size": 8})
    other = recipes.override(recipes.get("dcgan"), {"batch_size": 8})
    monkeypatch.setattr(recipes, "RECIPES", {"cgan": recipe, "dcgan": other})
    return blobs._replace(test_images=blobs.train_images)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_race(small, tmp_path, capsys, monkeypatch):
    rows = race.race(["cgan", "dcgan"], small, tmp_path / "race", minutes=0.01, seeds=2, samples=150)
    runs = [(row["contender"], row["seed"]) for row in rows]
    assert list(dict.fromkeys(runs)) == [("cgan", 0), ("dcgan", 0), ("cgan", 1), ("dcgan", 1)]
    for run in set(runs):
        mine = [row for row, whose in zip(rows, runs, strict=True) if whose == run]
        assert [row["seconds"] for row in mine] == sorted(row["seconds"] for row in mine)
        assert mine[-1]["seconds"] >= 0.6 and mine[-1]["steps"] * 8 == mine[-1]["images"]
        assert mine[-1]["epochs"] * 200 == pytest.approx(mine[-1]["images"])
        assert all(row["fid_fmnist"] > 0 for row in mine)
    kept = rows_of(tmp_path / "race" / "race.csv")
    assert len(kept) == len(rows) and list(kept[0]) == list(rows[-1])
    for row, following in zip(kept, [*rows[1:], {"seed": None}], strict=True):
        is_last = row["seed"] != str(following["seed"]) or row["contender"] != following["contender"]
        assert bool(row["label_free_distance"]) == bool(row["recall"]) == is_last
        assert not is_last or (float(row["label_free_distance"]) > 0 and 0 <= float(row["recall"]) <= 1)
    for row, again in zip(rows, race.read(tmp_path / "race")[0], strict=True):
        assert again.pop("contender") == row["contender"]
        assert again == pytest.approx({name: row[name] for name in row if name != "contender"})
    record = json.loads((tmp_path / "race" / "race.json").read_text())
    assert [recipe["name"] for recipe in record["contenders"]] == ["cgan", "dcgan"] and record["versions"]
    for name in ("race.png", "strip.png"):
        assert imageio.imread(tmp_path / "race" / name).shape[0] > 100
    # Started again it has nothing left to do; with one run lost it repeats that one.
    monkeypatch.setattr(race, "run", None)
    assert len(
        race.race(["cgan", "dcgan"], small, tmp_path / "race", minutes=0.01, seeds=2, samples=150)
    ) == len(rows)
    with pytest.raises(InputError, match="holds another race"):
        race.race(["cgan"], small, tmp_path / "race", minutes=0.01, seeds=2, samples=150)
    with (
        run_folder.alone_in(tmp_path / "race"),
        pytest.raises(InputError, match="Another training is writing to"),
    ):
        race.race(["cgan", "dcgan"], small, tmp_path / "race", minutes=0.01, seeds=2, samples=150)
    for name, wrong in (
        ("race.json", b"{"),
        ("race.csv", b"a,b\n1,2\n"),
        ("race.csv", b"contender,seed\ncgan,x\n"),
        ("strips.npz", b"PK"),
    ):
        good = (tmp_path / "race" / name).read_bytes()
        (tmp_path / "race" / name).write_bytes(wrong)
        with pytest.raises(InputError, match="The race in .* is damaged"):
            race.race(["cgan", "dcgan"], small, tmp_path / "race", minutes=0.01, seeds=2, samples=150)
        (tmp_path / "race" / name).write_bytes(good)


def test_validation_measures_against_training_images(small, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(race, "_race", lambda contenders, *asked: seen.append(asked[:2]))
    few = small._replace(test_images=small.test_images[:50], test_labels=small.test_labels[:50])
    for validation in (True, False):
        race.race(["dcgan"], few, tmp_path, validation=validation)
    (record, dataset), (other_record, other) = seen
    assert record.pop("against") == "training images" and record == other_record and other is few
    np.testing.assert_array_equal(dataset.test_images, few.train_images[-50:])
    np.testing.assert_array_equal(dataset.test_labels, few.train_labels[-50:])
    np.testing.assert_array_equal(dataset.train_images, few.train_images)


@pytest.fixture
def clock(monkeypatch):
    """A clock of the race's own: every look at it takes 10 ms, and tests can let time pass."""
    clock = types.SimpleNamespace(now=0.0)

    def perf_counter():
        clock.now += 0.01
        return clock.now

    monkeypatch.setattr(race, "time", types.SimpleNamespace(perf_counter=perf_counter))
    return clock


def test_measuring_stops_the_clock(small, clock, monkeypatch):
    """However long a measurement takes, the contender gets no more and no fewer seconds of training."""
    real = metrics.Moments.of(features.classifier_features(small.test_images)[0])
    distance = metrics.frechet_distance

    def slow(*arguments):
        clock.now += 1000.0
        return distance(*arguments)

    monkeypatch.setattr(metrics, "frechet_distance", slow)
    rows, pictures = race.run(recipes.RECIPES["cgan"], 0, small, 0.5, real, samples=150)
    assert len(rows) == len(pictures) == len(race.moments(0.5)) > 4
    for row, moment in zip(rows, race.moments(0.5), strict=True):
        assert moment - 0.001 <= row["seconds"] <= moment + 0.03  # of one step, which looks twice
    assert pictures[0].shape == (10, 28, 28, 1)


def test_a_cooldown_falls_to_zero_with_the_time_of_the_race(small, clock, monkeypatch):
    real = metrics.Moments.of(features.classifier_features(small.test_images)[0])
    built, rates = [], []
    build, distance = race.build, metrics.frechet_distance

    def noting_build(*arguments):
        built.append(build(*arguments))
        return built[-1]

    def noting_distance(*arguments):
        rates.append(
            [
                float(getattr(built[0], f"{name}_optimizer").learning_rate)
                for name in ("generator", "discriminator")
            ]
        )
        return distance(*arguments)

    monkeypatch.setattr(race, "build", noting_build)
    monkeypatch.setattr(metrics, "frechet_distance", noting_distance)
    recipe = dataclasses.replace(recipes.RECIPES["cgan"], cooldown=1.0, discriminator_learning_rate=4e-4)
    rows, _ = race.run(recipe, 0, small, 0.5, real, samples=150)
    for row, (generator, discriminator) in zip(rows, rates, strict=True):
        assert generator == pytest.approx(
            8e-4 * (1 - row["seconds"] / 0.5), abs=8e-4 * 0.05
        )  # set before the step
        assert discriminator == pytest.approx(generator / 2, rel=1e-5)


def test_unknown_contenders(capsys):
    with pytest.raises(InputError, match="Did you mean 'tutorial'"):
        race.contender("tutoral")
    with pytest.raises(
        InputError,
        match="there are tutorial, prototype, dcgan, deconv-gan, deconv-gan-tuned, cgan, settings, narrow",
    ):
        race.contender("dense-cgan")
    assert main(["race", "--recipes", "cgn"]) == 2
    assert "Did you mean 'cgan'" in capsys.readouterr().err
