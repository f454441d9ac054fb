"""What nbval compares: everything but pictures, whose last bits depend on the machine (it leaves PNG and JPEG
out by itself), and stderr, where TensorFlow greets differently everywhere. Where generated images stand in
for the dataset it compares nothing: the stored outputs are the real dataset's, and all that can be said is
that the cells run."""

import functools
import os
import pathlib

from parallel import pytest_configure  # noqa: F401


@functools.cache
def stand_in():
    """Whether the notebooks will find the stand-in. Loads the dataset only where nothing cheaper tells."""
    import tensorflow_datasets as tfds  # without TensorFlow, which it imports when it reads a dataset

    prepared = pathlib.Path(tfds.builder("fashion_mnist").data_dir, "dataset_info.json").exists()
    if prepared or os.environ.get("FMGAN_DATA_DIR"):
        return False
    from fmgan_tf import datasets

    try:
        return datasets.load().is_stand_in
    except datasets.DataError:
        return False  # the cells will say why


def pytest_report_header(config):
    if (config.option.nbval or config.option.nbval_lax) and stand_in():
        return "notebooks: generated images stand in for the dataset; cells must run, no outputs are compared"


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr", "image/gif")
        if stand_in():
            collector.compare_outputs = False


def pytest_collection_modifyitems(items):
    for item in items:
        if hasattr(item, "output_timeout"):
            # between a cell's last output and its end; nbval's 5 s are short for a busy machine
            item.output_timeout = 60
