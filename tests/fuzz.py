"""Feeds damaged files and nonsense to all that reads them: python tests/fuzz.py [--inputs 10000] [--seed 0]

Arrays and pictures in every form, damaged run records and generators, and random command lines. Each must
work or end in one clear error (InputError, or exit code 2 with one line); anything else is printed with its
input and ends this script with 1.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
import traceback
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import imageio.v3 as imageio
import keras
import numpy as np

from fmgan_tf import InputError, __main__, datasets, recipes
from fmgan_tf.runs import folder as run_folder
from fmgan_tf.runs import sources

SHARES = {"command line": 0.6, "images": 0.24, "run.json": 0.1, "steps.csv": 0.04, "keras": 0.02}
WORDS = [
    *"list data train generate evaluate analyze race --strategy mirrored multiworker".split(),
    *["--epochs"],
    *"--minutes --seed --output --resume --set --deterministic --count --label --samples --extractor".split(),
    *"--json --recipes --seeds --help -h -- -1 0 1 10 2e-4 --noise --label-as".split(),
    *"--pixels --fit uniform one-hot in-noise unit tanh crop cgan dcgan dense-cgan deconv-gan".split(),
    *"classifier tutorial inception 9 Bag nan inf 1e400 -0 learning_rate=2e-4 batch_size=0".split(),
    *"batch_size=x image_size=29 =1 a=b loss=hinge epochs=-1 a.png a.npz a.npy a.gif a.txt".split(),
    *(". .. /dev/null ''".split() + ["Ankle boot", "", " ", "\n", "ä", "\x00", "x" * 5000]),
    *("--set=", "--output=", "--seed=--seed", "1" * 400),
]


def damage(content, moments):
    """The bytes with one to four accidents."""
    content = bytearray(content)
    for _ in range(moments.randint(1, 4)):
        if not content:
            break
        place, kind = moments.randrange(len(content)), moments.randrange(5)
        if kind == 0:
            content[place] ^= 1 << moments.randrange(8)
        elif kind == 1:
            del content[place:]
        elif kind == 2:
            content[place:place] = moments.randbytes(moments.randint(1, 40))
        elif kind == 3:
            del content[place : place + moments.randint(1, 200)]
        else:
            content[place : place + 8] = moments.randbytes(8)
    return bytes(content)


def an_array_file(moments):
    """An .npz or .npy as a user might have made it."""
    random_arrays = np.random.default_rng(moments.randrange(2**32))
    count, side = moments.randint(0, 4), moments.choice([28, 28, 28, 32, 14, 200])
    layouts = [(count, side, side, 1), (count, side, side), (count, 1, side, side), (count, side * side)]
    odd = [
        (28, 28),
        (count, side, 20),
        (count, side, side, 3),
        (count, 0, 0, 1),
        (count, 1, 1, 1),
        (),
        (count, 5, 5, 5, 5),
    ]
    pixels = random_arrays.random(moments.choice(3 * layouts + odd)) * (random_arrays.random() < 0.8)
    pixels = moments.choice(
        [pixels, 255 * pixels, 2 * pixels - 1, pixels - 0.5, 1000 * pixels, np.nan * pixels]
    )
    kinds = "float32 float16 float64 uint8 int8 int64 uint64 bool complex64 U3 S2 O".split()
    with np.errstate(all="ignore"):
        images = np.asarray(pixels).astype(moments.choice(kinds[:3] + kinds[:4] + kinds))
    arrays = {moments.choice(["images", "images", "x_train", "arr_0", "X", "labels", "y", ""]): images}
    for name in moments.sample(
        ["labels", "y_train", "arr_1", "noise", "x_test", "images"], moments.randint(0, 3)
    ):
        length = moments.choice([count, count, count + 1])
        labels = random_arrays.integers(
            -2, 12, moments.choice([length, (length, 1), (length, 10), (length, 0)])
        )
        if labels.ndim > 1 and moments.random() < 0.7:
            labels = np.eye(moments.choice([10, 10, 3]))[random_arrays.integers(0, 3, length)]
        arrays[name] = labels.astype(moments.choice(["int64", "uint8", "float64", "bool", "U2"]))
    file = io.BytesIO()
    if moments.random() < 0.3:
        np.save(file, images)
    else:
        np.savez(file, **arrays)
    return file.getvalue() if moments.random() < 0.7 else damage(file.getvalue(), moments)


def some_pictures(folder, moments):
    """Fills a folder with pictures of random forms, some damaged, in folders for classes or not."""
    shutil.rmtree(folder, ignore_errors=True)
    forms = moments.choices(
        [(28, 28), (28, 28, 3), (32, 32), (1, 1), (28, 28, 4)], k=moments.choice([1, 1, 2])
    )
    for index in range(moments.randint(0, 4)):
        path = (
            folder
            / moments.choice(["", "", "3", "Bag", "cats"])
            / f"{index}.{moments.choice(['png', 'jpg', 'txt'])}"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = moments.choice(forms)
        picture = np.full(shape, moments.randrange(256), moments.choice(["uint8", "uint8", "uint16", "bool"]))
        with contextlib.suppress(Exception):  # whatever imageio cannot write is of no use here
            imageio.imwrite(path, picture)
        if path.exists() and moments.random() < 0.2:
            path.write_bytes(damage(path.read_bytes(), moments))
    folder.mkdir(exist_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    warnings.simplefilter("ignore")
    folder = pathlib.Path(tempfile.mkdtemp())
    os.chdir(folder)  # whatever a command writes, it writes here

    def nothing(*given, **named):
        raise InputError("the fuzzer has no dataset")

    datasets.load = nothing
    noise, label = keras.Input((8,)), keras.Input((), dtype="int32")
    both = keras.layers.Concatenate()([noise, keras.layers.Embedding(10, 4)(label)])
    pixels = keras.layers.Dense(784, activation="tanh")(both)
    keras.Model([noise, label], keras.layers.Reshape((28, 28, 1))(pixels)).save(folder / "whole.keras")
    generator = (folder / "whole.keras").read_bytes()
    recipe = {field: getattr(recipes.get("cgan"), field) for field in recipes.Recipe.__dataclass_fields__}
    record = json.dumps(
        {"recipe": recipe, "seed": 1, "status": "complete", "epochs": 1, "minutes": None}, indent=2
    ).encode()
    table = ("step,seconds,a,b,c,d\n1,0.5,1.2,0.7,0.5,0.5\n2,0.6,nan,0.7,0.5,0.5\n").encode()

    def command_line():
        words = [moments.choice(WORDS) for _ in range(moments.randint(0, 6))]
        if moments.random() < 0.7:
            words.insert(0, moments.choice(list(__main__.COMMANDS)))
        return words, lambda: __main__.main(words)

    def file(name, content, read):
        def make():
            made = content()
            (folder / name).write_bytes(made)
            return made, lambda: read(folder / name)

        return make

    def images():
        if moments.random() < 0.1:
            some_pictures(folder / "pictures", moments)
            return sorted((folder / "pictures").rglob("*")), lambda: sources.open(folder / "pictures")
        name = moments.choice(["a.npz", "a.npz", "a.npy", "a.dat"])
        options = sources.Options(
            pixels=moments.choice([None, None, "unit", "tanh", "byte"]),
            fit=moments.choice([None, None, "crop", "resize"]),
        )
        return file(name, lambda: an_array_file(moments), lambda path: sources.open(path, options))()

    (folder / "run").mkdir()
    makers = {
        "command line": command_line,
        "images": images,
        "run.json": file(
            "run/run.json", lambda: damage(record, moments), lambda path: run_folder.read_record(path.parent)
        ),
        "steps.csv": file("run/steps.csv", lambda: damage(table, moments), read_table),
        "keras": file(
            "a.keras", lambda: damage(generator, moments), lambda path: sources.open(path).generator
        ),
    }
    counts = {kind: [0, 0] for kind in SHARES}  # inputs, of which refused
    failures = 0
    for kind, share in SHARES.items():
        for _ in range(round(share * arguments.inputs)):
            made, feed = makers[kind]()
            errors = io.StringIO()
            counts[kind][0] += 1
            try:
                with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
                    code = feed()
                refused = kind == "command line" and code == 2
                if kind == "command line" and code not in (0, 1, 2, None):
                    raise AssertionError(f"exit code {code}")
            except InputError as error:
                refused = True
                if "\n" in str(error):
                    print(f"{kind}: {made!r:.300}\n   more than one line: {error}")
                    failures += 1
            except SystemExit as stop:  # argparse
                refused = stop.code == 2
                if stop.code not in (0, 2):
                    print(f"{kind}: {made!r:.300}\n   exit code {stop.code}")
                    failures += 1
            except Exception:
                print(f"{kind}: {made!r:.300}\n{traceback.format_exc(limit=-4)}")
                failures += 1
                continue
            counts[kind][1] += refused
            if refused and kind == "command line" and errors.getvalue().count("\n") != 1:
                print(f"{kind}: {made!r:.300}\n   not one line: {errors.getvalue()!r:.300}")
                failures += 1
    for kind, (count, refused) in counts.items():
        print(f"{kind:<14}{count:>7,} inputs, {refused:,} refused")
    print(f"{failures} failures")
    return 1 if failures else 0


def read_table(path):
    """As resuming does: damage is a RunError."""
    try:
        return run_folder.read_csv(path, 2)
    except ValueError as error:
        raise run_folder.RunError(" ".join(str(error).split())) from error


if __name__ == "__main__":
    sys.exit(main())
