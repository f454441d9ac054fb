import functools
import hashlib
import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from fmgan_tf import InputError, features, metrics, pretrained
from fmgan_tf.runs import folder as run_folder
from fmgan_tf.runs import sources


@pytest.fixture
def assets(tmp_path, monkeypatch):
    """A folder with the generators of two recipes, in place of what is really shipped."""
    monkeypatch.setattr(pretrained, "ASSETS", tmp_path)
    lines = ["0  classifier/classifier.keras\n"]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    for recipe in ("dcgan", "cgan"):
        (tmp_path / recipe).mkdir()
        path = tmp_path / recipe / "generator.keras"
        model.save(path)
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {recipe}/generator.keras\n")
    (tmp_path / pretrained.SUMS).write_text("".join(lines))
    return tmp_path


@pytest.mark.parametrize("name", pretrained.digests())
def test_what_is_shipped(name):
    path = pretrained.verified(name)
    assert path.stat().st_size <= 2_000_000
    model = keras.models.load_model(path)
    assert getattr(model, "optimizer", None) is None
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    assert (
        run_folder.without_defaults(config) == config
    )  # Keras 3.13 refuses what it does not know, were it a default


@pytest.fixture(scope="module")
def features_of():
    """The features of test images, once for all generators that are measured against the same."""
    return functools.cache(
        lambda images: features.classifier_features(np.frombuffer(images, "uint8").reshape(-1, 28, 28, 1))[0]
    )


@pytest.mark.parametrize("recipe", pretrained.shipped())
def test_shipped_generators_are_as_good_as_their_records_say(recipe, fashion_mnist, features_of):
    """The figures were measured before the weights were rounded."""
    folder = pretrained.ASSETS / recipe
    figures = json.loads((folder / "evaluation.json").read_text())["figures"]
    run = json.loads((folder / "run.json").read_text())
    assert (
        run["status"] == "complete"
        and run["recipe"]["name"] == recipe
        and run["versions"]
        and run["seconds"] > 0
    )
    images, labels, assumed = sources.draw(recipe, 10_000, seed=0)
    assert not assumed
    real = sources.real_images(recipe, fashion_mnist, labels)
    generated, recognized = features.classifier_features(images)
    distance = metrics.frechet_distance(features_of(real.test_images.tobytes()), generated)
    assert distance == pytest.approx(
        figures["fid_fmnist"]["value"], abs=4 * figures["fid_fmnist"]["standard_error"]
    )
    if labels is not None:
        agreement, _ = metrics.label_agreement(labels, recognized)
        assert agreement == pytest.approx(figures["label_agreement"]["value"], abs=0.01)


def test_everything_that_can_be_loaded_is_verified():
    files = {path.relative_to(pretrained.ASSETS).as_posix() for path in pretrained.ASSETS.rglob("*.keras")}
    assert files == set(pretrained.digests())
    assert not [
        path for path in pretrained.ASSETS.rglob("*") if path.suffix in (".pkl", ".pickle", ".h5", ".npy")
    ]


def test_load_pretrained(assets):
    assert pretrained.shipped() == ("dcgan", "cgan")
    assert pretrained.load_pretrained("cgan").output_shape == (None, 4)


@pytest.mark.parametrize("damage", [lambda byte: b"", lambda byte: bytes([byte ^ 1])])
def test_damaged_and_missing_files_are_refused(assets, damage):
    path = assets / "cgan" / "generator.keras"
    content = path.read_bytes()
    path.write_bytes(content[:1000] + damage(content[1000]) + content[1001:])
    digest = pretrained.digests()["cgan/generator.keras"]
    expected = f"generator.keras is damaged: .* bytes, SHA-256 .*, expected {digest}"
    with pytest.raises(InputError, match=f"{expected}. Fetch it again") as error:
        pretrained.load_pretrained("cgan")
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    path.unlink()
    with pytest.raises(
        InputError, match=r"generator.keras cannot be read \(No such file .*\). Fetch it again"
    ) as error:
        pretrained.verified("cgan/generator.keras")
    assert "\n" not in str(error.value)


def test_unknown_recipes_are_refused(assets, monkeypatch):
    for name in ("cgn", "classifier", "../cgan", ""):
        with pytest.raises(
            InputError, match="those of dcgan, cgan are shipped. Did you mean '(dc|c)gan'"
        ) as error:
            pretrained.load_pretrained(name)
        assert repr(name) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(InputError, match="Did you mean 'cgan'"):
        pretrained.load_pretrained("cgn")
    (assets / pretrained.SUMS).unlink()
    with pytest.raises(InputError, match="none is shipped yet"):
        pretrained.load_pretrained("cgan")


def test_names_and_hashes_need_no_tensorflow():
    code = (
        "import sys\nfrom fmgan_tf import pretrained\npretrained.shipped()\n"
        "pretrained.verified('classifier/classifier.keras')\nassert not {'tensorflow', 'keras'} & "
        "set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
