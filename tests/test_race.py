"""Contenders at equal time: who they are, that only train steps count, and what is kept."""

import csv
import dataclasses
import types

import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow as tf

from fmgan_tf import InputError, features, gan, metrics, race, recipes
from fmgan_tf.__main__ import main

WITHOUT = [name for name in race.LADDER if name.startswith("without-")]
RUNGS = [race.TUTORIAL, *(rung for name, rung in race.LADDER.items() if name not in WITHOUT)]


@pytest.mark.parametrize(
    "recipe", [*RUNGS, race.PROTOTYPE, race.LADDER["without-recognize"]], ids=lambda r: r.name
)
def test_every_contender_takes_a_step(recipe):
    model = gan.build(recipe)
    before = model.generator.get_weights()
    images = tf.zeros((4, 28, 28, 1))
    values = model.train_step((images, tf.range(4)) if recipe.conditional else images)
    assert all(np.isfinite(float(value)) for value in values.values())
    after = model.generator.get_weights()
    assert any((old != new).any() for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("name", WITHOUT)
def test_leaving_a_rung_out_undoes_some_of_it_and_nothing_else(name):
    place = [rung.name for rung in RUNGS].index(name.removeprefix("without-"))
    without, undone = race.LADDER[name], 0
    for field in set(recipes.FIELDS) - {"name", "summary"}:
        if getattr(without, field) != getattr(RUNGS[-1], field):
            below = getattr(RUNGS[place - 1], field)
            assert getattr(without, field) == below != getattr(RUNGS[place], field), field
            undone += 1
    assert undone


def test_the_ladder_leads_to_cgan():
    cgan = recipes.get("cgan")
    beyond = {"loss": "damped_hinge", "shift": 2, "label_decay": 5e-4, "ema_decay": 0.999}
    second = {name: getattr(cgan, name) for name in recipes.FIELDS if name.startswith("second_")}
    names = {"name": "cgan", "summary": cgan.summary}
    assert dataclasses.replace(RUNGS[-1], **beyond, **second, **names) == cgan


def test_unknown_contenders_are_refused(capsys):
    with pytest.raises(InputError, match="No recipe 'tutoral'.*Did you mean 'tutorial'"):
        race.contender("tutoral")
    with pytest.raises(
        InputError, match="there are cgan, dcgan, deconv-gan, deconv-gan-tuned, flow, tutorial"
    ):
        race.contender("dense-cgan")
    assert main(["race", "--recipes", "cgn"]) == 2
    assert "Did you mean 'cgan'" in capsys.readouterr().err


def test_moments():
    assert race.moments(3) == [3]
    assert race.moments(180) == [5, 10, 20, 40, 80, 180]


@pytest.fixture
def clock(monkeypatch):
    """A clock of the race's own: every look at it takes 10 ms, and tests can let time pass."""
    clock = types.SimpleNamespace(now=0.0)

    def perf_counter():
        clock.now += 0.01
        return clock.now

    monkeypatch.setattr(race, "time", types.SimpleNamespace(perf_counter=perf_counter))
    monkeypatch.setattr(race, "FIRST", 0.05)
    return clock


@pytest.fixture
def small(blobs):
    return blobs._replace(test_images=blobs.train_images, test_labels=blobs.train_labels)


CONTENDERS = [recipes.override(recipes.get(name), {"batch_size": 8}) for name in ("cgan", "dcgan")]
RACE = {"minutes": 0.2 / 60, "seeds": 2, "samples": 150}


def test_a_race(small, clock, tmp_path, monkeypatch):
    rows = race.race(CONTENDERS, small, tmp_path, **RACE)
    runs = [(row["contender"], row["seed"]) for row in rows]
    assert list(dict.fromkeys(runs)) == [("cgan", 0), ("dcgan", 0), ("cgan", 1), ("dcgan", 1)]
    for one in set(runs):
        mine = [row for row, run in zip(rows, runs, strict=True) if run == one]
        assert [row["seconds"] for row in mine] == sorted(row["seconds"] for row in mine)
        assert len(mine) == len(race.moments(0.2)) and mine[-1]["seconds"] >= 0.2
        for row in mine:
            assert row["fid_fmnist"] > 0 and row["steps"] * 8 == row["images"] == row["epochs"] * 200
            assert ("recall" in row) == ("label_free_distance" in row) == (row is mine[-1])
    with open(tmp_path / "race.csv", newline="") as file:
        assert list(next(csv.DictReader(file))) == list(rows[-1])
    assert race.read(tmp_path)[0] == rows
    for name in ("race.png", "strip.png"):
        assert imageio.imread(tmp_path / name).shape[0] > 100
    # Started again it has nothing left to do
    monkeypatch.setattr(race, "run", None)
    assert race.race(CONTENDERS, small, tmp_path, **RACE) == rows
    with pytest.raises(InputError, match="holds another race"):
        race.race(CONTENDERS[:1], small, tmp_path, **RACE)
    for name, wrong in (
        ("race.json", b"{"),
        ("race.csv", b"contender,seed\ncgan,x\n"),
        ("strips.npz", b"PK"),
    ):
        good = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(wrong)
        with pytest.raises(InputError, match="The race in .* is damaged"):
            race.race(CONTENDERS, small, tmp_path, **RACE)
        (tmp_path / name).write_bytes(good)


def test_measuring_stops_the_clock(small, clock, monkeypatch):
    """However long a measurement takes, the contender gets no more and no fewer seconds of training."""
    real, distance = (
        metrics.Moments.of(features.classifier_features(small.test_images)[0]),
        metrics.frechet_distance,
    )

    def slow(*arguments):
        clock.now += 1000.0
        return distance(*arguments)

    monkeypatch.setattr(metrics, "frechet_distance", slow)
    rows, strip = race.run(CONTENDERS[0], 0, small, 0.5, real, samples=150)
    assert len(rows) == len(strip) == len(race.moments(0.5)) == 4
    for row, moment in zip(rows, race.moments(0.5), strict=True):
        assert moment - 0.001 <= row["seconds"] <= moment + 0.03  # of one step, which looks at it
    assert strip[0].shape == (10, 28, 28, 1)
