"""Kills a training again and again, and compares what comes out with one that was left alone: python
tests/kill.py [--kills 20]

A run gets SIGKILL at random moments, is resumed after each, and must end in the same weights, optimizers and
average, bit for bit, with records without gaps or doubles. When a run ends before enough kills were dealt,
another one begins: cgan, whose discriminator another one replaces on the way, and dense-cgan, which has
patience and keeps its best weights, take turns.
"""

import argparse
import csv
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np

LENGTH = ["--seed", "5", "--deterministic", "--set", "steps_per_epoch=60"]
RECIPES = (
    ["cgan", "--epochs", "3", "--set", "second_epoch=1"],
    ["dense-cgan", "--epochs", "4", "--set", "patience=2"],
)
SMALL = [*LENGTH[:-1], "steps_per_epoch=12", "--set", "batch_size=8"]
PROGRAM = {False: ("-m", "fmgan_tf"), True: (pathlib.Path(__file__).with_name("small.py"),)}


def start(*arguments, small=False, two_classes=False, **options):
    """A training in a process of its own; a small one on squares, which loads and compiles faster."""
    classes = {"FMGAN_TEST_TWO_CLASSES": "1"} if two_classes else {}
    return subprocess.Popen(
        [sys.executable, *PROGRAM[small], "train", *map(str, arguments)],
        **options,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | classes | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def finish(process):
    _, errors = process.communicate(timeout=1200)
    if process.returncode:
        raise SystemExit(f"training failed with exit code {process.returncode}:\n{errors}")


def arrays(path):
    """Every array of an HDF5 file by its name."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
        )
    return found


def compare(left_alone, killed):
    """Raises AssertionError unless both folders hold the same run."""
    first, second = (arrays(folder / "checkpoint.weights.h5") for folder in (left_alone, killed))
    assert first.keys() == second.keys() and len(first) > 50
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)
    assert (left_alone / "history.csv").read_text() == (killed / "history.csv").read_text()
    steps = []
    for folder in (left_alone, killed):
        with open(folder / "steps.csv", newline="") as file:
            steps.append([{key: row[key] for key in row if key != "seconds"} for row in csv.DictReader(file)])
    assert steps[0] == steps[1] and [int(row["step"]) for row in steps[0]] == list(
        range(1, len(steps[0]) + 1)
    )
    both = (left_alone, killed)
    names = [
        sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()) for folder in both
    ]
    assert names[0] == names[1], set(names[0]) ^ set(names[1])
    assert not list(killed.rglob("*.part")) and not list(killed.glob(".part*"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--small", action="store_true", help="a small training, on squares")
    arguments = parser.parse_args()
    small, length = arguments.small, SMALL if arguments.small else LENGTH
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder, seconds = pathlib.Path(folder), []
        for number, recipe in enumerate(RECIPES):
            begun = time.perf_counter()
            output = ("--output", folder / f"alone-{number}")
            finish(start(*recipe, *length, *output, small=small, two_classes=number == 1))
            seconds.append(time.perf_counter() - begun)
            print(f"{recipe[0]} left alone: {seconds[-1]:.0f} s", flush=True)
        kills = runs = 0
        while kills < arguments.kills or runs < len(RECIPES):
            number, output = runs % len(RECIPES), folder / f"killed-{runs}"
            runs += 1
            while True:
                begin = ["--resume"] if (output / "run.json").exists() else [*RECIPES[number], *length]
                process = start(*begin, "--output", output, small=small, two_classes=number == 1)
                if kills < arguments.kills and not (runs < len(RECIPES) and kills >= arguments.kills / 2):
                    try:
                        process.wait(timeout=moments.uniform(0.1, 1.0) * seconds[number])
                    except subprocess.TimeoutExpired:
                        os.kill(process.pid, signal.SIGKILL)
                        process.communicate()
                        kills += 1
                        continue
                finish(process)
                break
            compare(folder / f"alone-{number}", output)
            print(f"run {runs}, {RECIPES[number][0]}: equal, {kills} kills so far", flush=True)


if __name__ == "__main__":
    main()
