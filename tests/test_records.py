import dataclasses
import json
import re
import shutil

import imageio.v3 as imageio
import keras
import numpy as np
import pytest

from fmgan_tf import InputError, generation, models, plots, pretrained, recipes
from fmgan_tf.__main__ import parser
from fmgan_tf.bench import records
from fmgan_tf.runs import callbacks, training


def test_small_files_hold_the_same_model(tmp_path):
    model = models.build_dense_cgan_generator()
    before = model.get_weights()
    records.save_small(model, tmp_path / "small.keras")
    assert (tmp_path / "small.keras").stat().st_size < 2_000_000 < 4 * model.count_params()
    loaded = keras.models.load_model(tmp_path / "small.keras", compile=False)
    for old, kept, new in zip(before, model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, new)
        assert np.abs(old - new).max() <= old.std() / 32 + 1e-9
    inputs = [generation.sample_noise(0, 8, 100), np.arange(8) % 2]
    np.testing.assert_array_equal(model(inputs), loaded(inputs))


def test_small_arrays_and_constants_stay_as_they_are():
    for weights in (np.random.default_rng(0).normal(size=1000).astype("float32"), np.zeros(5000, "float32")):
        np.testing.assert_array_equal(records.round_weights(weights), weights)


@pytest.mark.parametrize("name, count", [("dcgan", 16), ("cgan", 20)])
def test_a_run_is_kept(name, count, blobs, tmp_path, monkeypatch):
    run = tmp_path / "run"
    recipe = recipes.override(recipes.get(name), {"batch_size": 8, "steps_per_epoch": 2})
    training.train(recipe, blobs, run, epochs=2, verbose=False)
    monkeypatch.setattr(pretrained, "ASSETS", tmp_path / "assets")
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / pretrained.SUMS).write_text("0  a/b.keras\n")
    with pytest.raises(InputError, match="is not ready"):
        records.keep(run)
    (run / "evaluation.json").write_text(json.dumps({"source": str(run), "samples": 5}))
    records.keep(run, "short")
    report = json.loads((tmp_path / "assets" / "short" / name / "evaluation.json").read_text())
    assert report == {"source": "run", "samples": 5}
    kept = {path.name for path in (tmp_path / "assets" / "short" / name).iterdir()}
    alone = {"run.json", "history.csv", "evaluation.json", "stages.png"}
    assert kept == alone
    records.keep(run)
    kept = {path.name for path in (tmp_path / "assets" / name).iterdir()}
    assert kept == alone | {"losses.png", "samples.gif", "generator.keras"}
    strip = imageio.imread(tmp_path / "assets" / name / "stages.png")
    assert strip.shape == (2 * (records.STAGES * 29 + 1), 2 * (count * 29 + 1))
    assert list(pretrained.digests()) == ["a/b.keras", f"{name}/generator.keras"]
    assert pretrained.digests()["a/b.keras"] == "0"
    model = pretrained.load_pretrained(name)
    inputs, _ = callbacks.sample_grid(recipe, 0)
    original = keras.models.load_model(run / "generator.keras", compile=False)
    assert np.abs(model(inputs) - original(inputs)).max() < 0.1


def test_records_name_no_folder_of_a_machine():
    files = [path for path in pretrained.ASSETS.rglob("*") if path.suffix in (".json", ".csv")]
    assert len(files) > 15
    for path in files:
        assert not re.search(r"/(home|root|work|tmp|Users)/", path.read_text()), path


def test_records_name_the_command_that_repeats_them():
    records_of_runs = [json.loads(path.read_text()) for path in pretrained.ASSETS.rglob("run.json")]
    runs = [record for record in records_of_runs if record["recipe"]["name"] in recipes.RECIPES]
    assert len(runs) > 8
    for record in runs:
        assert record["command"] == records.command(record)
        parsed = parser().parse_args(record["command"].split()[3:])
        repeated = recipes.override(recipes.get(parsed.recipe), dict(parsed.set))
        then = dataclasses.replace(recipes.from_record(record["recipe"]), summary=repeated.summary)
        assert repeated == then
        assert (parsed.recipe, parsed.seed) == (record["recipe"]["name"], record["seed"])
        assert (parsed.epochs, parsed.minutes) == (record["epochs"], record["minutes"])


def test_cut_finds_the_images():

    images = np.random.default_rng(0).integers(0, 256, (80, 28, 28, 1)).astype("uint8")
    sheet = plots.tile(images, 8, scale=2)
    np.testing.assert_array_equal(records.cut(sheet, False), images[:16])
    np.testing.assert_array_equal(
        records.cut(sheet, True), images.reshape(10, 8, 28, 28, 1)[:, :2].reshape(20, 28, 28, 1)
    )


def test_the_races_are_drawn_from_what_is_kept(tmp_path, monkeypatch):
    shutil.copytree(pretrained.ASSETS / "race", tmp_path / "race")
    monkeypatch.setattr(pretrained, "ASSETS", tmp_path)
    for name in ("race.png", "strip.png"):
        (tmp_path / "race" / name).unlink()
    records.draw_races()
    for name, least in (("race.png", 300), ("strip.png", 12 * 58)):  # three contenders, four moments each
        assert imageio.imread(tmp_path / "race" / name).shape[0] >= least
