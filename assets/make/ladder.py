"""The races of notebook 07's ladder, 45 seconds each: python assets/make/ladder.py {rates,climb} FOLDER

rates: every rung with other learning rates, NAME@FACTOR having both multiplied, one seed, against training
    images. It made assets/ladder-rates and chose the rates of the climb.
climb: every rung, and the top without what one rung brought, five seeds, against test images. It made
    assets/ladder.

Both take as long as their contenders together, 16 and 60 minutes; a race that was stopped goes on.
"""

import dataclasses
import pathlib

import script

from fmgan_tf import datasets, race, recipes
from fmgan_tf.runs import folder

MINUTES = 0.75
CHOSEN = 4  # the tutorial's factor in the climb; the rungs keep their rates


def scaled(name, factor=1):
    """A contender with both learning rates multiplied."""
    recipe = race.contender(name)
    rates = {rate: factor * getattr(recipe, rate) for rate in recipes.BOTH_RATES}
    return recipe if factor == 1 else dataclasses.replace(recipe, name=f"{name}@{factor}", **rates)


def rates():
    """The contenders of the race that chooses rates."""
    tutorial = [scaled("tutorial", factor) for factor in (1, 4, 8)]
    rungs = [name for name in race.LADDER if not name.startswith("without-")]
    return tutorial + [scaled(name, factor) for name in rungs for factor in (1, 0.5)]


def climb():
    """The contenders of the race up the ladder."""
    return [scaled("tutorial", CHOSEN), *race.LADDER.values()]


def against_training_images(dataset):
    """The dataset with as many training images in the place of its test images, as for choosing settings."""
    last = slice(-len(dataset.test_images), None)
    return dataset._replace(
        test_images=dataset.train_images[last],
        test_labels=dataset.train_labels[last],
        source=f"{dataset.source}, measured against training images",
    )


def main():
    parser = script.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("rates", "climb"))
    parser.add_argument("output", type=pathlib.Path, metavar="FOLDER")
    arguments = parser.parse_args()
    output, dataset = folder.writable(arguments.output), datasets.load()
    with folder.alone_in(output):
        if arguments.what == "rates":
            race.race(rates(), against_training_images(dataset), output, MINUTES, seeds=1)
        else:
            race.race(climb(), dataset, output, MINUTES, seeds=5)


if __name__ == "__main__":
    script.run(main)
