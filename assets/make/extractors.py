"""Trains an extractor of features: python assets/make/extractors.py {classifier,label-free} FOLDER

It made assets/classifier and assets/label-free. Neither sees a test image before its last step; what is
recorded of them shapes nothing.
"""

import os
import pathlib
import time

import script
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fmgan_tf import InputError, data, datasets, features, plots
from fmgan_tf.runs.folder import save_model, versions, writable, write_csv, write_record

PROBE_IMAGES = 10_000  # from which a linear classifier of the label-free features learns


def outputs(model, images):
    return model.predict(data.to_tanh_range(images), batch_size=500, verbose=0)


def judge_classifier(model, history, dataset, folder):
    """What the record says of it; confusion.png shows the same."""
    recognized, names = outputs(model, dataset.test_images).argmax(1), dataset.class_names
    confusion = plots.show_confusion(dataset.test_labels, recognized, names, "the classifier, test images")
    plots.save_figure(folder / "confusion.png", confusion)
    right = recognized == dataset.test_labels
    by_class = {name: float(right[dataset.test_labels == label].mean()) for label, name in enumerate(names)}
    record = {"features": model.get_layer("features").output.shape[-1], "test_accuracy": float(right.mean())}
    return record | {"class_accuracy": by_class}


def judge_encoder(model, history, dataset, folder):
    """How many test images a linear classifier of the features recognizes: it shows what they hold."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    probe.fit(outputs(model, dataset.train_images[:PROBE_IMAGES]), dataset.train_labels[:PROBE_IMAGES])
    accuracy = float(probe.score(outputs(model, dataset.test_images), dataset.test_labels))
    return {"squared_error": history["loss"][-1], "linear_probe_accuracy": accuracy}


KINDS = {
    "classifier": (features.train_classifier, features.CLASSIFIER_SETTINGS, judge_classifier),
    "label-free": (features.train_encoder, features.ENCODER_SETTINGS, judge_encoder),
}
FILES = {"classifier": "classifier.keras", "label-free": "encoder.keras"}


def make(kind, dataset, folder, seed=0, verbose=2, **changes):
    """Trains one of KINDS into a folder and returns the content of its run.json; changes are of settings."""
    train, settings, judge = KINDS[kind]
    folder = writable(folder)
    if (folder / "run.json").exists():
        raise InputError(f"{folder} holds a run already; choose another folder")
    start = time.perf_counter()
    model, history = train(dataset, seed, verbose, **changes)
    record = {"recipe": {"name": kind} | settings | changes, "seed": seed, "data": dataset.source}
    record |= {"versions": versions(), "cores": os.cpu_count(), "parameters": model.count_params()}
    record |= {"status": "complete", "seconds": round(time.perf_counter() - start, 1)}
    folder.mkdir(parents=True, exist_ok=True)
    record |= judge(model, history, dataset, folder)
    save_model(model, folder / FILES[kind])
    columns = [name for name in ("loss", "accuracy") if name in history]
    rows = zip(range(1, len(history["loss"]) + 1), *(history[name] for name in columns), strict=True)
    write_csv(folder / "history.csv", ("epoch", *columns), rows)
    write_record(folder, record)
    return record


def main():
    parser = script.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=pathlib.Path, help="folder to train into")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    arguments = parser.parse_args()
    record = make(arguments.kind, datasets.load(), arguments.folder, arguments.seed)
    print(f"Complete: {record['seconds']:.0f} s")


if __name__ == "__main__":
    script.run(main)
