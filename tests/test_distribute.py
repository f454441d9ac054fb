"""Several devices do what one does. They are in processes of their own: devices and clusters are set up once,
before anything computes."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import distributed
import keras
import numpy as np
import pytest

from fmgan_tf import InputError, losses
from fmgan_tf.__main__ import main
from fmgan_tf.runs import distribute
from fmgan_tf.runs import folder as run_folder

SCRIPT = pathlib.Path(__file__).with_name("distributed.py")


def cluster(count=2):
    """TF_CONFIG for workers on loopback, as text for each."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    workers = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return [
        json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        for index in range(count)
    ]


def start(*command, config=None):
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    if config:
        environment["TF_CONFIG"] = config
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read(path):
    """A table of a run as a dict from column to values."""
    header, table = run_folder.read_csv(path)
    return dict(zip(header, table.T, strict=True))


def finish(*processes, expected=0):
    texts = [process.communicate(timeout=600) for process in processes]
    for process, text in zip(processes, texts, strict=True):
        assert process.returncode == expected, "\n".join(text)[-3000:]
    return texts


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "one.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.optimizers, "Adam", keras.optimizers.Adam)  # main() puts another in its place
        patch.setitem(losses.LOSSES, "relativistic", losses.LOSSES["relativistic"])  # and so there
        distributed.main("one", path)
    return dict(np.load(path))


def compare(one, several):
    assert one["replicas"] == 1 and several["replicas"] == 2
    assert one.keys() == several.keys()
    for name, value in one.items():
        if name.endswith("/fid"):  # the replicas draw other noise
            assert several[name] == pytest.approx(float(value), rel=0.3), name
        elif name.endswith("/change"):
            # Half a batch rounds otherwise than a whole one, and where that carries a value across the kink
            # of a LeakyReLU, weights change by up to 2.5 % otherwise. Gradients that are 3 % too large show
            # as 6 % or more, batch normalization of each half alone as more than 100 %
            apart, length = np.linalg.norm(several[name] - value), np.linalg.norm(value)
            assert apart <= 0.05 * length + 1e-6, (name, apart, length)
        elif name != "replicas":
            np.testing.assert_allclose(several[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_two_devices_do_what_one_does(one_device, tmp_path):
    finish(start(SCRIPT, "mirrored", tmp_path / "two.npz"))
    compare(one_device, dict(np.load(tmp_path / "two.npz")))


def test_two_workers_do_what_one_device_does(one_device, tmp_path):
    paths = [tmp_path / "first.npz", tmp_path / "second.npz"]
    finish(
        *(
            start(SCRIPT, "multiworker", path, config=text)
            for path, text in zip(paths, cluster(), strict=True)
        )
    )
    first, second = (dict(np.load(path)) for path in paths)
    compare(one_device, first)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)  # both workers hold the same


SMALL = pathlib.Path(__file__).with_name("small.py")
LENGTH = ("--epochs", 3, "--set", "steps_per_epoch=10", "--set", "batch_size=8")
TRAIN = (SMALL, "train", "dcgan", *LENGTH, "--strategy", "multiworker")


def test_a_run_of_two_workers_and_one_that_dies(tmp_path, blobs, monkeypatch):
    """The survivor says so and ends; the run goes on from its checkpoint, on two workers or on one device."""
    folder = tmp_path / "run"
    workers = [start(*TRAIN, "--output", folder, config=text) for text in cluster()]
    deadline = time.monotonic() + 300
    while not (folder / "history.csv").exists() or len(read(folder / "history.csv")["epoch"]) < 1:
        assert time.monotonic() < deadline and all(worker.poll() is None for worker in workers)
        time.sleep(0.05)
    workers[1].kill()
    _, errors = workers[0].communicate(timeout=300)
    assert workers[0].returncode == 2, errors[-3000:]
    assert "Another worker is gone" in errors and "--resume" in errors and "Traceback" not in errors
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    resume = (SMALL, "train", "--resume", "--output", folder, "--strategy", "multiworker")
    finish(*(start(*resume, config=text) for text in cluster()))
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "complete" and record["steps"] == 30 and record["replicas"] == 2
    history = read(folder / "history.csv")
    assert list(history["epoch"]) == [1, 2, 3] and np.isfinite(history["val_fid"]).all()
    assert list(read(folder / "steps.csv")["step"]) == list(range(1, 31))
    assert main(["generate", str(folder), "--count", "10", "--output", str(tmp_path / "images.npz")]) == 0
    monkeypatch.setattr("fmgan_tf.datasets.load", lambda: blobs)
    assert main(["train", "--resume", "--epochs", "4", "--output", str(folder)]) == 0  # alone
    assert json.loads((folder / "run.json").read_text())["replicas"] == 1


def test_a_cluster_that_is_none(monkeypatch, tmp_path, capsys):
    worker = {"type": "worker", "index": 0}
    for text in (
        "",
        "{",
        "[]",
        json.dumps({"task": worker}),
        json.dumps({"cluster": {"worker": []}, "task": worker}),
    ):
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(InputError, match="TF_CONFIG is .*expected JSON like"):
            distribute.build_strategy("multiworker")
    monkeypatch.delenv("TF_CONFIG")
    assert main(["train", "--strategy", "multiworker", "--output", str(tmp_path / "run")]) == 2
    assert "TF_CONFIG" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_cluster_that_does_not_come_about(tmp_path):
    """A port that is taken, as by a worker left over from yesterday, and hosts without ports."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        clusters = [["host-a", "host-b"], [f"127.0.0.1:{taken.getsockname()[1]}"] * 2]
        code = (
            "import json, os, sys\nfrom fmgan_tf.__main__ import main\n"
            "for workers in json.loads(sys.argv[1]):\n"
            "    task = {'type': 'worker', 'index': 0}\n"
            "    os.environ['TF_CONFIG'] = json.dumps({'cluster': {'worker': workers}, 'task': task})\n"
            "    train = ['train', '--epochs', '1', '--strategy', 'multiworker', '--output', sys.argv[2]]\n"
            "    assert main(train) == 2\n"
        )
        process = start("-c", code, json.dumps(clusters), tmp_path / "run")
        ((_, errors),) = finish(process)
    last = errors.splitlines()[-2:]
    for line, workers in zip(last, clusters, strict=True):
        assert (
            f"{workers[0]}" in line and "expected JSON like" in line and "free ports and all others" in line
        )
    assert "Traceback" not in errors and not (tmp_path / "run").exists()


def test_a_batch_that_cannot_be_split():
    class Strategy:
        num_replicas_in_sync = 3

    with pytest.raises(run_folder.RunError, match="batch_size is 64, expected a multiple of 3"):
        distribute.split(None, 64, Strategy())
