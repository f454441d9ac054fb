"""fmgan_tf: the helper package of the fmgan course. Import its modules; this file costs nothing to import."""

import os
import pathlib
import re

# TensorFlow turns its fast convolutions (oneDNN) on by itself only on processors with AVX-512 instructions
# for neural networks; most laptops have none, and gain as well. Has to be set before TensorFlow is imported.
# What it buys on a machine: tests/benchmark.py with and without TF_ENABLE_ONEDNN_OPTS=0.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# The course is written for this backend, whatever another project left in the environment or in keras.json
os.environ["KERAS_BACKEND"] = "tensorflow"


class InputError(ValueError):
    """Something a user gave cannot be used. The message names it, what was expected, and how to fix it; it is
    one line, whatever it quotes of others."""

    def __init__(self, message):
        super().__init__(" ".join(re.sub(r"\x1b\[[\d;]*m", "", str(message)).split()))


class Diverged(Exception):
    """A loss became NaN or infinite. The message says at which step and what was kept."""


def write_whole(path, content):
    """Writes bytes or a str (as UTF-8) whole or not at all: under another name first, then renamed."""
    path = pathlib.Path(path)
    part = path.with_name(f".part-{path.name}")  # nobody's own file has that name
    try:
        part.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
