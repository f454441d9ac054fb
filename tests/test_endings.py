"""Leftovers of other projects, displays that are gone, and polite endings: what surrounds a training.

Each test starts a process, so each tries several things at once.
"""

import fcntl
import json
import os
import pathlib
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

SMALL = [sys.executable, pathlib.Path(__file__).with_name("small.py")]
LENGTH = ("--set", "batch_size=8", "--set", "steps_per_epoch=5")
TRAIN = [*SMALL, "train", "dcgan", *LENGTH]


def finished(folder):
    record = json.loads((folder / "run.json").read_text())
    assert (folder / "generator.keras").exists()
    return record["status"]


@pytest.fixture
def leftovers(tmp_path):
    """An environment in which another project has left its settings, and a home that it has left them in."""
    (tmp_path / ".keras").mkdir()
    settings = {
        "floatx": "float16",
        "epsilon": 1e-3,
        "backend": "torch",
        "image_data_format": "channels_first",
    }
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    own = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return own | {
        "HOME": str(tmp_path),
        "KERAS_BACKEND": "jax",
        "TF_USE_LEGACY_KERAS": "1",
        "MPLBACKEND": "module://gone",
        "PYTHONIOENCODING": "ascii",
    }


def test_leftovers_of_other_projects_and_a_pipe_that_closes(leftovers, tmp_path):
    """The training goes on and is saved, in float32, with nothing on standard error: cgan's train step is one
    of those of which TensorFlow logs that its remapper failed."""
    process = subprocess.Popen(
        [*SMALL, "train", "cgan", *LENGTH, "--epochs", "2", "--output", tmp_path / "run"],
        env=leftovers,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert b"Training cgan into" in process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(timeout=120) == 0
    assert finished(tmp_path / "run") == "complete"


def test_standard_output_and_error_that_are_closed(tmp_path):
    """Not even their numbers may be taken by files: TensorFlow would write into those."""
    command = shlex.join(map(str, [*TRAIN, "--epochs", "1", "--output", "run"])) + " >&- 2>&-"
    assert subprocess.run(command, shell=True, cwd=tmp_path, timeout=120).returncode == 0
    assert finished(tmp_path / "run") == "complete"


def test_a_list_into_a_pipe_that_closes_ends_silently():
    process = subprocess.Popen(
        [*SMALL, "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(timeout=60) == 0


def test_a_narrow_terminal_and_a_polite_end(tmp_path, width=60, term="dumb"):
    """One line in place, cut to the width, without escape codes; SIGTERM saves, and the exit code says so."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = subprocess.Popen(
        [*TRAIN, "--minutes", "5", "--output", tmp_path / "run"],
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"TERM": term},
    )
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + 120
    while shown.count(b"\r") < 12 and time.monotonic() < deadline:
        shown += os.read(ours, 10_000)
    process.send_signal(signal.SIGTERM)
    try:
        while part := os.read(ours, 10_000):
            shown += part
    except OSError:  # how a terminal ends on Linux
        pass
    assert process.wait(timeout=120) == 128 + signal.SIGTERM
    assert finished(tmp_path / "run") == "interrupted"
    text = shown.decode()
    assert "\x1b" not in text and "Stopping after this step, then saving" in text
    bar = [part for part in re.split(r"[\r\n]+", text) if re.match(r" *\d+%", part)]
    assert len(bar) > 3 and max(map(len, bar)) <= width
    assert "TensorFlow" not in text and "oneDNN" not in text and "absl" not in text
