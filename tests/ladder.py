"""What each change between the tutorial's network and cgan buys: python tests/ladder.py FOLDER [--seconds 45] [--seeds 3]

Every rung of rivals.LADDER trains for equal time, one after another, and is measured once, at the end (FID-FMNIST, 10,000
images against the test images). FOLDER then holds what `race` writes, see fmgan_tf/race.py; a ladder that was stopped goes
on. Half an hour on two cores; run it while nothing else runs.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from fmgan_tf import data, race, rivals


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    race.FIRST = float("inf")  # no measurement on the way
    names = ["tutorial", *rivals.LADDER, "cgan"]
    race.race(names, data.load_fashion_mnist(), arguments.folder, arguments.seconds / 60, arguments.seeds)


if __name__ == "__main__":
    main()
