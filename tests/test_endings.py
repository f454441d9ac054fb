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
    of those of which TensorFlow logs that its remapper failed. Nor has a command of bench/ anything there."""
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
    assert not (tmp_path / "~").exists()
    code = (
        "import sys\nimport fmgan_tf.bench\nimport keras\n"  # as the commands of bench/ do
        "model = keras.models.load_model(sys.argv[1], compile=False)\n"
        "assert keras.backend.backend() == 'tensorflow' and model.compute_dtype == 'float32'\n"
        "assert keras.config.image_data_format() == 'channels_last' and keras.config.epsilon() == 1e-7\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "run" / "generator.keras"]
    result = subprocess.run(command, env=leftovers, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0 and result.stderr == "", result.stderr


def test_standard_output_and_error_that_are_closed(tmp_path):
    """Not even their numbers may be taken by files: TensorFlow would write into those."""
    command = shlex.join(map(str, [*TRAIN, "--epochs", "1", "--output", "run"])) + " >&- 2>&- <&-"
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


@pytest.mark.parametrize("width, term", [(80, "xterm"), (40, "dumb")])
def test_a_narrow_terminal_and_a_polite_end(tmp_path, width, term):
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
    assert "\x1b" not in text and "Stopping after this step; everything is saved" in text
    bar = [part for part in re.split(r"[\r\n]+", text) if re.match(r" *\d+%", part)]
    assert len(bar) > 3 and max(map(len, bar)) <= width
    assert "TensorFlow" not in text and "oneDNN" not in text and "absl" not in text


def test_real_errors_come_through_the_silence(tmp_path):
    """What is written to standard error while TensorFlow starts is shown, but for its start-up lines."""
    code = (
        "import os\nfrom fmgan_tf.runs import terminal\n"
        "with terminal.without_start_up_lines():\n"
        "    os.write(2, b'I0000 00:00:1.2 34 port.cc:153] oneDNN custom operations are on.\\n')\n"
        "    os.write(2, b'libcudart.so: cannot open shared object file\\n')\n"
        "    raise ImportError('DLL load failed')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "cannot open shared object" in result.stderr and "DLL load failed" in result.stderr
    assert "oneDNN" not in result.stderr
