import logging
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
import small
from parallel import pytest_configure  # noqa: F401

from fmgan_tf.datasets import load
from fmgan_tf.fetch import DataError

LONG = "training distribute gan kill own_data evaluation race analysis sources".split()
SHORT = "cli data fuzz losses metrics models notebooks package readme setup".split()


def pytest_collection_modifyitems(items):
    """The longest files first and the shortest last, so that two workers end at about the same time."""
    rank = {f"test_{name}.py": place for place, names in ((-1, LONG), (1, SHORT)) for name in names}
    items.sort(key=lambda item: rank.get(item.path.name, 0))


@pytest.fixture(scope="session", autouse=True)
def nothing_deprecated():
    """TensorFlow logs, once, who calls something that is on its way out: it must not be the course."""
    found = []

    def note(record):
        text = record.getMessage()
        if "deprecated" in text and "fmgan_tf" in text:
            found.append(text)
        return True

    log = logging.getLogger("tensorflow")
    log.addFilter(note)
    yield
    log.removeFilter(note)
    assert not found, "\n".join(found)


@pytest.fixture(scope="module", autouse=True)
def own_environment():
    """The command line sets matplotlib's backend. The notebook that this process runs next needs another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "agg")
        patch.delenv("MPLBACKEND")  # undone after the module, whatever it was before
        yield


@pytest.fixture(scope="session")
def fashion_mnist():
    """The real dataset; tests that need it are skipped, with the reason, where it is not available."""
    try:
        dataset = load()
    except DataError as error:
        pytest.skip(f"needs the real dataset: {error}")
    if dataset.is_stand_in:
        pytest.skip(
            f"needs the real dataset, found a {dataset.source}; the warning says how to get the real one"
        )
    return dataset


@pytest.fixture(scope="session")
def few(fashion_mnist):
    """The first of the real images: enough for 128 features, few enough for seconds."""
    return fashion_mnist._replace(
        train_images=fashion_mnist.train_images[:3000],
        train_labels=fashion_mnist.train_labels[:3000],
        test_images=fashion_mnist.test_images[:1500],
        test_labels=fashion_mnist.test_labels[:1500],
    )


@pytest.fixture(scope="session")
def blobs():
    """A tiny dataset of the same form: bright squares of random size, 200 training and 50 test images."""
    return small.squares()
