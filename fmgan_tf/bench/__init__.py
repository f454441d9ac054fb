"""How the course's own figures and shipped files were made. Nothing else in the package needs it."""

from fmgan_tf.runs.terminal import start_tensorflow

start_tensorflow()  # before a command of this folder does, so that it prints its own lines alone
