"""What the command line says, and TensorFlow's start."""

import contextlib
import os
import sys


def say(text, file=None):
    """Prints a line at once. A terminal or pipe that is gone is no reason to lose a training."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=file or sys.stdout, flush=True)


@contextlib.contextmanager
def hidden_stderr():
    """Within it what is written to file descriptor 2 goes nowhere."""
    sys.stderr and sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # it was closed before
        yield
        return
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def start_tensorflow():
    """Imports TensorFlow without its start-up lines, and Keras as the course needs it, whatever is in
    keras.json. Whatever stops TensorFlow comes as an exception."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with hidden_stderr():
        import keras
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for GPUs, and says so
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
