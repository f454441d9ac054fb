import os
import subprocess
import sys
import warnings

import imageio.v3 as imageio
import numpy as np
import pytest

from fmgan_tf import InputError, generation, recipes
from fmgan_tf.__main__ import COMMANDS, main, parser
from fmgan_tf.datasets import StandInWarning
from fmgan_tf.runs import folder as run_folder
from fmgan_tf.runs import training


@pytest.fixture(scope="module")
def run(blobs, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "small"
    recipe = recipes.override(recipes.get("dcgan"), {"batch_size": 8, "steps_per_epoch": 2})
    training.train(recipe, blobs, output, epochs=1, verbose=False)
    return output


def fails(capsys, *arguments):
    """Runs a command line that must fail with exit code 2 and one line, and returns the line."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    assert code == 2 and captured.err.count("\n") == 1, captured
    return captured.err


def test_help_and_errors_need_no_tensorflow():
    code = (
        "import sys\nfrom fmgan_tf.__main__ import main\n"
        "for words in (['--help'], ['train', '--help'], ['train', 'nonsense'], ['nonsense'], ['list']):\n"
        "    try: main(words)\n    except SystemExit: pass\n"
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert all(name in result.stdout for name in recipes.RECIPES)


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["trian"], "invalid choice: 'trian'"),
        (
            ["train", "dcgn"],
            "cgan, dcgan, deconv-gan, deconv-gan-tuned, dense-cgan, flow. Did you mean 'dcgan'",
        ),
        (["train", "--epochs", "0"], "expected a whole number from 1"),
        (["train", "--minutes", "-1"], "expected a number more than 0"),
        (["train", "--minutes", "nan"], "expected a number more than 0"),
        (["train", "--epochs", "1", "--minutes", "1"], "expected one of them"),
        (["train", "--seed", "x"], "expected a whole number from 0"),
        (["train", "--set", "batch_size"], "expected name=value"),
        (["train", "--set", "batchsize=3"], "Did you mean 'batch_size'"),
        (["train", "--set", "batch_size=x"], "expected int from 1 to"),
        (["train", "--set", "beta_1=1"], "expected float from 0 to 0.99999"),
        (["train", "--set", "learning_rate=nan"], "expected float from 1e-09 to 1"),
        (["train", "--set", "image_size=30"], "expected 28, 32, 64"),
        (["train", "--set", "loss=wasserstein"], "expected non_saturating, minimax, hinge"),
        (["train", "--nonsense"], "--nonsense"),
        (["generate", "nowhere", "--output", "a.png"], "nowhere does not exist; expected a run folder"),
        (["generate", "nowhere", "--output", "a.jpg"], "expected a name that ends in .png or .npz or .gif"),
        (["generate", "nowhere", "--count", "0", "--output", "a.png"], "expected a whole number from 1"),
    ],
)
def test_bad_input_is_one_line(capsys, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    assert expected in fails(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_training_and_resuming(capsys, blobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fmgan_tf.datasets.load", lambda: blobs)
    small = ["--set", "steps_per_epoch=2", "--set", "batch_size=8"]
    assert main(["train", "deconv-gan", "--epochs", "1", *small]) == 0
    output = capsys.readouterr().out
    for name in ("samples.png", "samples.gif", "losses.png"):
        assert f"runs/deconv-gan/{name}" in output and (tmp_path / "runs/deconv-gan" / name).exists()
    # A second run takes another folder by itself, but never one that was named and is taken.
    assert main(["train", "deconv-gan", "--epochs", "1", *small]) == 0
    assert (tmp_path / "runs/deconv-gan-2/run.json").exists()
    assert "holds a run already" in fails(capsys, "train", "deconv-gan", "--output", "runs/deconv-gan")
    assert "holds no run" in fails(capsys, "train", "--resume", "--output", "runs/other")
    # The first command again, with --resume and more epochs; what contradicts the run is refused
    again = ["train", "deconv-gan", *small, "--resume", "--output", "runs/deconv-gan"]
    error = fails(capsys, *again, "--set", "batch_size=16")
    assert "runs/deconv-gan was begun with --set batch_size another value, not 16" in error
    assert "was begun with --seed 0, not 7" in fails(capsys, *again, "--seed", "7")
    assert "was begun with recipe deconv-gan, not dcgan" in fails(capsys, "train", "dcgan", *again[4:])
    assert "was begun with --deterministic False" in fails(capsys, *again, "--deterministic")
    assert main([*again, "--epochs", "2", "--seed", "0"]) == 0
    assert "4 steps" in capsys.readouterr().out
    # A folder or a recipe says which run is meant, whatever is the newest
    assert main(["train", "dcgan", "--epochs", "1", *small]) == 0
    assert main(["train", "--resume", "runs/deconv-gan", "--epochs", "3"]) == 0
    assert "Going on with runs/deconv-gan, on" in capsys.readouterr().out
    assert main(["train", "deconv-gan", "--resume", "--epochs", "4"]) == 0
    assert "Going on with runs/deconv-gan, on" in capsys.readouterr().out
    assert "There is no run of cgan in runs/" in fails(capsys, "train", "cgan", "--resume")
    assert "holds no run" in fails(capsys, "train", "--resume", "nowhere")


def test_what_a_recipe_does_not_have_cannot_be_turned_on():
    with pytest.raises(InputError, match="dcgan has no shift: it is 0 there"):
        recipes.override(recipes.get("dcgan"), {"shift": "1"})
    with pytest.raises(InputError, match="dense-cgan has no label_weight"):
        recipes.override(recipes.get("dense-cgan"), {"label_weight": "0.5"})
    with pytest.raises(InputError, match="dcgan has no second discriminator"):
        recipes.override(recipes.get("dcgan"), {"second_epoch": "6"})
    assert recipes.override(recipes.get("cgan"), {"shift": "0", "label_weight": "0"}).shift == 0


def test_learning_rate_sets_both():
    recipe = recipes.override(recipes.get("dcgan"), {"learning_rate": "2e-4"})
    assert recipe.generator_learning_rate == recipe.discriminator_learning_rate == 2e-4


def test_generate(run, tmp_path, capsys):
    for name in ("a.png", "a.npz", "a.gif", "b.npz"):
        assert (
            main(
                [
                    "generate",
                    str(run),
                    "--count",
                    "5",
                    "--seed",
                    "3",
                    "--output",
                    str(tmp_path / "new" / name),
                ]
            )
            == 0
        )
    images = np.load(tmp_path / "new/a.npz")["images"]
    assert images.shape == (5, 28, 28, 1) and images.dtype == np.uint8
    np.testing.assert_array_equal(images, np.load(tmp_path / "new/b.npz")["images"])
    sheet = imageio.imread(tmp_path / "new/a.png")
    np.testing.assert_array_equal(sheet[2:58:2, 2:58:2], images[0, :, :, 0])
    assert len(imageio.imread(tmp_path / "new/a.gif", index=None)) > 20
    (run / "generator.keras").write_bytes(b"damaged")
    assert "generator.keras cannot be loaded by Keras" in fails(
        capsys, "generate", run, "--output", tmp_path / "c.png"
    )


@pytest.fixture(scope="module")
def conditional_run(blobs, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "conditional"
    recipe = recipes.override(recipes.get("dense-cgan"), {"batch_size": 8, "steps_per_epoch": 1})
    training.train(recipe, blobs, output, epochs=1, verbose=False)
    return output


def test_generate_with_labels(conditional_run, tmp_path, capsys):
    def make(name, *arguments):
        assert main(["generate", str(conditional_run), "--output", str(tmp_path / name), *arguments]) == 0
        return (
            np.load(tmp_path / name) if name.endswith("npz") else imageio.imread(tmp_path / name, index=None)
        )

    everything = make("all.npz", "--count", "6")
    assert everything["images"].shape == (6, 28, 28, 1) and everything["labels"].tolist() == [
        0,
        0,
        0,
        1,
        1,
        1,
    ]
    one = make("one.npz", "--count", "3", "--label", "trouser")
    assert one["labels"].tolist() == [1, 1, 1]
    np.testing.assert_array_equal(one["images"], everything["images"][3:])  # the same noise for every class
    assert make("two.npz", "--label", "1", "--label", "T-shirt/top")["labels"].tolist() == [1] * 8 + [0] * 8
    assert (
        make("seven.npz", "--count", "7")["labels"].tolist() == [0] * 4 + [1] * 3
    )  # spread as evenly as it goes
    assert make("one.npz", "--count", "1")["labels"].tolist() == [0]
    assert make("grid.png", "--count", "8").shape[-1] in (3, 4)  # a figure with class names
    assert make("ragged.png", "--count", "7").shape[-1] in (3, 4)
    assert make("many.png", "--count", "60").ndim >= 2
    assert make("ragged.gif", "--count", "3").shape[0] > 20
    assert make("walk.gif", "--count", "2", "--label", "0").shape[0] > 20
    error = fails(
        capsys, "generate", conditional_run, "--label", "Ankle boots", "--output", tmp_path / "x.png"
    )
    assert "9 Ankle boot. Did you mean 'Ankle boot'?" in error
    error = fails(capsys, "generate", conditional_run, "--label", "Bag", "--output", tmp_path / "x.png")
    assert "has never seen 'Bag'; it knows T-shirt/top, Trouser" in error


def test_a_generator_without_labels_refuses_them(blobs, tmp_path, capsys):
    recipe = recipes.override(recipes.get("dcgan"), {"batch_size": 8, "steps_per_epoch": 1})
    training.train(recipe, blobs, tmp_path / "run", epochs=1, verbose=False)
    error = fails(capsys, "generate", tmp_path / "run", "--label", "Bag", "--output", tmp_path / "x.png")
    assert "takes no label: what it makes" in error and not (tmp_path / "x.png").exists()


def test_warnings_are_one_line(capsys, monkeypatch, blobs):
    def warned():
        warnings.warn("generated images stand in", StandInWarning, stacklevel=2)
        return blobs

    monkeypatch.setattr("fmgan_tf.datasets.load", warned)
    assert main(["data"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["fmgan_tf data: generated images stand in", f"Fashion-MNIST: {blobs.source}"]


def test_latent_walk_stays_on_the_sphere_and_closes():
    walk = generation.latent_walk(0, 3, 100)
    lengths = np.linalg.norm(walk, axis=-1)
    assert (
        lengths.min() > 7 and lengths.max() < 13
    )  # a straight line would dip to 7 between vectors of length 10
    speeds = np.linalg.norm(np.diff(np.concatenate([walk, walk[:1]]), axis=0), axis=-1)
    assert speeds.max() < 3 * speeds.min()
    start, end = np.array([3.0, 0.0]), np.array([0.0, 1.0])
    np.testing.assert_allclose(generation.slerp(start, end, 0), start)
    np.testing.assert_allclose(generation.slerp(start, end, 1), end, atol=1e-12)
    np.testing.assert_allclose(generation.slerp(start, end, 0.5), (start + end) * np.sqrt(0.5))
    np.testing.assert_allclose(generation.slerp(start, 2 * start, 0.5), 1.5 * start)


def test_the_newest_run_is_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="There is no run in runs/"):
        run_folder.newest()
    files = ["run.json", "checkpoint.weights.h5"]
    for number, (name, made) in enumerate(
        {"old": files, "killed early": files[:1], "none": files[1:]}.items()
    ):
        (tmp_path / "runs" / name).mkdir(parents=True)
        for file in made:
            (tmp_path / "runs" / name / file).touch()
            os.utime(tmp_path / "runs" / name / file, (1e9 + number, 1e9 + number))
    assert run_folder.newest().name == "killed early"
    os.utime(tmp_path / "runs/old/checkpoint.weights.h5", (2e9, 2e9))
    assert run_folder.newest().name == "old"


@pytest.mark.parametrize("seed", ["-1", "2147483648", "20261125123456", "1e3", "x"])
@pytest.mark.parametrize(
    "words",
    [
        ("train", "dcgan"),
        ("generate", "cgan", "--output", "a.png"),
        ("evaluate", "cgan"),
        ("analyze", "cgan", "--output", "a"),
    ],
)
def test_seeds_that_are_none(capsys, tmp_path, monkeypatch, words, seed):
    monkeypatch.chdir(tmp_path)
    error = fails(capsys, *words, "--seed", seed)
    assert f"'{seed}': expected a whole number from 0 to 2147483647" in error and not list(tmp_path.iterdir())


def test_paths_and_labels_as_people_write_them(tmp_path, monkeypatch, capsys):
    """A tilde that the shell left alone, a suffix in capitals, the beginning of a class."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "dense-cgan", "--count", "1", "--label", "t-shirt", "--output=~/SHEET.PNG"]) == 0
    assert (tmp_path / "home" / "SHEET.PNG").exists() and not (tmp_path / "~").exists()
    assert main(["generate", "~/SHEET.PNG", "--output=~/a.png"]) == 2
    assert f"{tmp_path / 'home' / 'SHEET.PNG'} is something else" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["1000000000000", "99999999999999999999", "200000000"])
@pytest.mark.parametrize("name", ["a.npz", "a.gif"])
def test_a_zero_too_many_is_one_line(capsys, tmp_path, count, name):
    error = fails(capsys, "generate", "dcgan", "--count", count, "--output", tmp_path / name)
    assert f"--count {count} is more than memory holds, expected at most" in error


def test_every_command_shows_two_examples_and_list_fits_names_of_any_length(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        examples = capsys.readouterr().out.split("examples:\n")[1].splitlines()
        assert len(examples) == 2 and all(f"python -m fmgan_tf {name}" in line for line in examples)
        for line in examples:
            parser().parse_args(line.split("|")[0].split("2>")[0].split()[3:])
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    starts = {line.index(recipes.get(line.split()[0]).summary) for line in lines if not line.startswith(" ")}
    assert len(starts) == 1 and starts.pop() > max(map(len, recipes.RECIPES))
