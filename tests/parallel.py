"""Two files of tests at a time where pytest-xdist is installed; imported by both conftest.py."""

import importlib.util


def pytest_configure(config):
    """Each file whole, with one thread, because the threads of two that share two cores mostly wait for one
    another; in the order of tests/conftest.py, not by their number of tests. -n 0 turns it off."""
    if importlib.util.find_spec("xdist") is None or hasattr(config, "workerinput"):
        return
    option = config.option
    if getattr(option, "numprocesses", 0) is None and not option.tx and not option.usepdb:
        option.tx = ["2*popen//env:OMP_NUM_THREADS=1//env:TF_NUM_INTRAOP_THREADS=1"]
        option.dist, option.loadscopereorder = "loadfile", False
