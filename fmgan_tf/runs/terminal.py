"""Standard output and error, whatever they are connected to, without TensorFlow's start-up lines."""

import contextlib
import os
import re
import sys
import tempfile

# What TensorFlow, absl and the CUDA loader say at every start on a machine without a GPU
START_UP = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog|I0000 |\d{4}-\d\d-\d\d [\d:.]+: I |"
    rb"[EW]0000 .*(cuda|cuInit|cuDNN|cuFFT|cuBLAS|computation placer|TensorRT)|"
    rb"To enable the following instructions:"
)


class Display:
    """A text stream that never fails, since no closed pipe or terminal must cost a training. What it cannot
    show is dropped, unknown characters are replaced."""

    def __init__(self, stream):
        self.stream = stream
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="replace")

    def _try(self, do):
        try:
            return do()
        except (OSError, ValueError):  # from here on nowhere, what is still in the buffer too
            with contextlib.suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def write(self, text):
        return self._try(lambda: self.stream.write(text))

    def flush(self):
        return self._try(lambda: self.stream.flush())

    def __getattr__(self, name):
        return getattr(self.stream, name)


@contextlib.contextmanager
def displays():
    """Within it standard output and error never fail, even where they were closed before."""
    with contextlib.suppress(OSError):  # or the next file that is opened would be taken for one of them
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(number)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Display(stream or open(os.devnull, "w")) for stream in before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def without_start_up_lines():
    """Within it what is written to standard error waits; then all of it is shown but for start-up lines."""
    with tempfile.TemporaryFile() as kept:
        error = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(error, 2)
            os.close(error)
            kept.seek(0)
            lines = [line for line in kept if line.strip() and not START_UP.match(line)]
            with contextlib.suppress(OSError):
                os.write(2, b"".join(lines))


def start_tensorflow():
    """Imports TensorFlow quietly, and Keras as the course needs it, whatever is in keras.json."""
    # What TensorFlow logs concerns nobody here, not even as an error: "remapper failed" says that one of its
    # shortcuts does not apply. Whatever stops it comes as an exception
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with without_start_up_lines():
        import keras
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for GPUs, and says so
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
