"""Runs notebooks alone, in random order, each in an empty folder: python tests/check_notebooks.py [NAME ...]

Says how long each took and how much memory its kernel had at most, and fails where a notebook fails, needs
more than 2.5 GB, or leaves a file in its folder, in the course's or in the home directory. With --record,
assets/notebooks.json keeps it.
"""

import argparse
import json
import os
import pathlib
import random
import sys
import tempfile
import time

import nbformat
from nbclient import NotebookClient

from fmgan_tf.runs import folder as run_folder

ROOT = pathlib.Path(__file__).parent.parent
MEMORY = 2.5e9  # bytes
# Of those who run it
CACHES = {".cache", ".config", ".ipython", ".jupyter", ".keras", ".local", "tensorflow_datasets"}
SKIPPED = {".git", "__pycache__", ".pytest_cache"}


def files(folder, without=()):
    """(path, size, time of change) of every file in a folder."""
    found = set()
    for place, folders, names in os.walk(folder):
        folders[:] = set(folders) - set(without) - SKIPPED
        for name in names:
            path = os.path.join(place, name)
            if os.path.isfile(path):
                state = os.stat(path)
                found.add((path, state.st_size, state.st_mtime_ns))
    return found


def run(path, folder):
    """Executes a notebook; returns the most memory that its kernel had, in bytes."""
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=where)
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        status = pathlib.Path(f"/proc/{client.km.provisioner.pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of names, like 01 (default: all)")
    parser.add_argument("--record", action="store_true", help="keep it in assets/notebooks.json")
    arguments = parser.parse_args()
    paths, names = sorted((ROOT / "notebooks").glob("*.ipynb")), tuple(arguments.names) or ("",)
    paths = [path for path in paths if path.name.startswith(names)]
    random.shuffle(paths)
    failed, measured = [], {}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    home = pathlib.Path.home()
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            before = files(ROOT, {".venv"}) | files(home, CACHES)
            begun = time.perf_counter()
            memory = run(path, folder)
            seconds = time.perf_counter() - begun
            left = files(folder) | ((files(ROOT, {".venv"}) | files(home, CACHES)) - before)
        measured[path.stem] = {"seconds": round(seconds), "gigabytes": round(memory / 1e9, 2)}
        print(f"{path.stem:<28}{seconds:6.0f} s {memory / 1e9:6.2f} GB", flush=True)
        if memory > MEMORY:
            failed.append(f"{path.name} needs {memory / 1e9:.2f} GB")
        failed += [f"{path.name} left {name}" for name, *_ in left]
    if arguments.record:
        file = ROOT / "assets" / "notebooks.json"
        record = {"versions": run_folder.versions(), "cores": len(os.sched_getaffinity(0))}
        kept = json.loads(file.read_text()) if file.exists() else {}
        if record.items() <= kept.items():  # of the same machine and versions: what was not run now stays
            measured = kept["notebooks"] | measured
        file.write_text(json.dumps(record | {"notebooks": dict(sorted(measured.items()))}, indent=2) + "\n")
    print("\n".join(failed) or "all is well")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
