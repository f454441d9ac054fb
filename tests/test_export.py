"""Generators in other forms, their model cards, and what TensorBoard is given."""

import importlib.util
import json

import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow as tf

from fmgan_tf import InputError, generation
from fmgan_tf.__main__ import main
from fmgan_tf.runs import export, sources


def asked(name):
    """Three noise vectors, labels if it takes any, and the images that Keras makes of them."""
    source = sources.open(name)
    inputs = {"noise": generation.sample_noise(3, 3, source.generator.latent_dim)}
    inputs |= {"label": np.array([0, 1, 1], "int32")} if source.generator.classes else {}
    return source, inputs, source.generator.model(list(inputs.values())).numpy()


@pytest.mark.parametrize("name", generation.shipped())
def test_a_saved_model_gives_the_same_images(name, tmp_path):
    source, inputs, images = asked(name)
    path = export.export(source, tmp_path, "saved_model")
    given = list(inputs.values())
    loaded = tf.saved_model.load(path)  # whose variables live as long as it does
    found = loaded.serve(given if len(given) > 1 else given[0])
    np.testing.assert_allclose(found, images, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_tflite_gives_the_same_images(tmp_path):
    source, inputs, images = asked("cgan")
    path = export.export(source, tmp_path, "tflite")
    interpreter = tf.lite.Interpreter(str(path))
    places = {each["name"].split("_")[-1].split(":")[0]: each for each in interpreter.get_input_details()}
    for name, place in places.items():
        interpreter.resize_tensor_input(place["index"], inputs[name].shape)
    interpreter.allocate_tensors()
    for name, place in places.items():
        interpreter.set_tensor(place["index"], inputs[name])
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, images, atol=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of tf2onnx
def test_onnx_gives_the_same_images(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    source, inputs, images = asked("cgan")
    path = export.export(source, tmp_path, "onnx")
    np.testing.assert_allclose(runtime.InferenceSession(path).run(None, inputs)[0], images, atol=1e-4)


def test_what_is_missing_is_said_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs onnx and tf2onnx: pip install onnx tf2onnx"):
        export.export(sources.open("cgan"), tmp_path / "a", "onnx")
    assert not (tmp_path / "a").exists()


def test_somebody_elses_generator_is_refused(tmp_path):
    path = tmp_path / "mine.keras"
    generation.load_model(generation.ASSETS / "dcgan" / "generator.keras").save(path)
    with pytest.raises(InputError, match="is no model of this package"):
        export.export(sources.open(path), tmp_path / "a", "tflite")


@pytest.mark.parametrize("name", generation.shipped())
def test_the_card_that_lies_beside_a_shipped_model_is_that_of_its_records(name):
    text = (generation.ASSETS / name / "README.md").read_text()
    assert text == export.card(generation.ASSETS / name), "run python assets/make/records.py tables"
    assert "FID-FMNIST" in text and "| seed |" in text and "{" not in text


def test_the_card_of_a_run_that_was_not_measured(tmp_path):
    record = json.loads((generation.ASSETS / "dcgan" / "run.json").read_text())
    own = {"parameters": [1234, 5678], "dataset": "shapes", "fingerprint": "0123456789abcdef"}
    (tmp_path / "run.json").write_text(json.dumps(record | own))
    text = export.card(tmp_path)
    assert "1,234 parameters, trained on shapes" in text and "shapes, 0123456789ab |" in text
    assert "Not measured" in text and "Xiao" not in text and "arxiv" not in text


def test_the_command_says_what_it_wrote(tmp_path, capsys):
    assert main(["export", "dcgan", "--format", "tflite", "--output", str(tmp_path)]) == 0
    assert "generator.tflite" in capsys.readouterr().out
    assert "`generator.tflite`" in (tmp_path / "README.md").read_text()


def test_tensorboard_gets_losses_scores_and_grids_also_of_a_resumed_run(tmp_path, fashion_mnist):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    small = ["--set", "batch_size=8", "--set", "steps_per_epoch=50", "--tensorboard", "--output", str(run)]
    assert main(["train", "dcgan", "--epochs", "1", *small]) == 0
    assert main(["train", "--resume", str(run), "--epochs", "2"]) == 0
    steps = EventAccumulator(str(run / "tensorboard" / "steps")).Reload()
    assert [each.step for each in steps.Tensors("generator_loss")] == [50, 100]
    grids = steps.Tensors("samples")
    assert [each.step for each in grids] == [50, 100]
    sheet = tf.io.decode_png(grids[1].tensor_proto.string_val[2])  # after its width and height
    np.testing.assert_array_equal(sheet[..., 0], imageio.imread(run / "samples" / "epoch_002.png"))
    epochs = EventAccumulator(str(run / "tensorboard" / "validation")).Reload()
    assert [each.step for each in epochs.Tensors("epoch_fid")] == [0, 1]


def test_without_tensorboard_the_package_is_named(tmp_path, monkeypatch, capsys, fashion_mnist):
    if importlib.util.find_spec("tensorboard"):
        pytest.skip("it is here")
    assert main(["train", "dcgan", "--tensorboard", "--output", str(tmp_path / "run")]) == 2
    assert "pip install tensorboard" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
