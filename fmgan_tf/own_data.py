"""A dataset of one's own: gray images of TFDS, a folder of pictures, or arrays, as a datasets.Dataset."""

import difflib
import pathlib

import numpy as np

from fmgan_tf import InputError, data, datasets, pictures

FORMS = (
    "a dataset of TFDS like kmnist or emnist/letters, a folder of pictures (a sub-folder for every class, or "
    "none), a .csv (label, then pixels) or an .npz (images, labels)"
)
FEWEST = 50  # images: a batch of 32 to train on, and some to test


def load(name=datasets.DEFAULT, image_size=28):
    """Loads what --data names: Dataset, with images uint8 (N, image_size, image_size, 1).

    Images become gray and square (the middle of them), and are resized with antialiasing. Where nothing is
    kept for testing, a fifth of the images is, at most 10,000: stratified, the same in every run.

    Args:
        name: "fashion_mnist", see datasets.load(), which keeps its 28 x 28 pixels; or one of FORMS.
    Raises:
        InputError: nothing of the kind, or too few images.
    """
    if name == datasets.DEFAULT:
        return datasets.load()
    path = pathlib.Path(name).expanduser()
    train, test, source = _of_files(path, image_size) if path.exists() else _of_tfds(name)
    title = path.resolve().stem if path.exists() else name
    labels = [part[1] for part in (train, test) if part and part[1] is not None]
    names = ()
    if labels and isinstance(labels[0], tuple):  # of TFDS, numbers with their names
        names, labels = labels[0][1], [part[0] for part in labels]
    elif labels:
        numbers, names = pictures.class_names(np.concatenate(labels))
        labels = np.split(numbers, [len(labels[0])])[: len(labels)]
    images = [_squares(part[0], image_size, title) for part in (train, test) if part]
    labels = labels or [np.zeros(len(part), "int64") for part in images]
    if sum(map(len, images)) < FEWEST:
        raise InputError(f"{name} holds {sum(map(len, images))} images, expected at least {FEWEST}")
    if test is None:
        images, labels = _split(images[0], labels[0])
    where = str(path.resolve()) if path.exists() else name
    parts = images[0], labels[0], images[1], labels[1]
    return datasets.Dataset(*parts, source, where, title, tuple(names) or ("image",), where)


def _of_files(path, size):
    """((images, labels), the same for testing or None, source) of a file or folder."""
    arrays = pictures.read_arrays(path) if path.suffix.lower() == ".npz" and path.is_file() else {}
    if "train_images" in arrays:  # as MedMNIST has it
        parts = []
        for part in [part for part in ("train", "test") if f"{part}_images" in arrays]:
            images, labels = arrays[f"{part}_images"], arrays.get(f"{part}_labels")
            if labels is not None and not pictures.is_label(labels, len(images)):
                raise InputError(f"{path}: labels {labels.shape}, expected one class for every image")
            parts.append((images, labels))
        return parts[0], parts[1] if len(parts) > 1 else None, path.name
    images, labels, notes = pictures.read(path, size)
    return (images, labels), None, ", ".join([path.name, *notes])


def _of_tfds(name):
    """The same of TensorFlow Datasets, with labels as (numbers, names)."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
    except ValueError as error:  # DatasetNotFoundError, and configurations that there are not
        near = difflib.get_close_matches(name, tfds.list_builders(with_community_datasets=False), 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        what = f"--data {name} is no file, no folder and no dataset of TFDS. It takes {FORMS}.{hint}"
        raise InputError(what) from error
    kinds = builder.info.features
    shape = kinds["image"].shape if "image" in kinds else ()
    if len(shape) != 3 or None in shape:
        raise InputError(f"--data {name} has no images of one size to train on; it takes {FORMS}")
    try:
        builder.download_and_prepare()
    except Exception as error:  # of the network, TFDS and the file system, each with their own
        raise InputError(f"TFDS cannot fetch {name} ({error})") from error
    if "train" not in builder.info.splits:  # which may be known only now
        raise InputError(f"--data {name} has {', '.join(builder.info.splits)}, expected `train`")
    parts = []
    for split in ("train", "test"):
        if split in builder.info.splits:
            found = builder.as_dataset(split, batch_size=-1)
            images = found["image"].numpy()
            if name.startswith("emnist"):  # which TFDS has with rows and columns exchanged
                images = images.swapaxes(1, 2)
            labels = (found["label"].numpy(), tuple(kinds["label"].names)) if "label" in kinds else None
            parts.append((images, labels))
    return parts[0], parts[1] if len(parts) > 1 else None, "TFDS"


def _squares(images, size, what):
    """Images of any layout() as uint8 (N, size, size, 1): the middle square, resized."""
    gray, _ = pictures.to_bytes(images, f"{what}: images")
    side = min(gray.shape[1:])
    top, left = ((length - side) // 2 for length in gray.shape[1:])
    return data.resize(gray[:, top : top + side, left : left + side, None], size)


def _split(images, labels):
    """([train_images, test_images], [train_labels, test_labels])."""
    from sklearn.model_selection import train_test_split

    count = min(len(images) // 5, 10_000)
    found = np.unique(labels, return_counts=True)[1]
    stratify = labels if found.min() > 1 and len(found) <= count else None
    places = train_test_split(np.arange(len(images)), test_size=count, random_state=0, stratify=stratify)
    return [images[part] for part in places], [labels[part] for part in places]


def problems(dataset):
    """What will hurt a training on a Dataset, list of str, one line each."""
    images, counts = dataset.train_images, np.bincount(dataset.train_labels)
    found = []
    if len(images) < 2000:
        found.append(f"{len(images):,} images are few: the generator may copy them; measure with evaluate")
    if counts.max() > 3 * counts.min():
        found.append(f"classes out of balance: from {counts.min():,} to {counts.max():,} images")
    border = np.concatenate([images[:, [0, -1]].ravel(), images[:, :, [0, -1]].ravel()])
    if np.median(border) > 127:
        found.append("white background: shifts fill the border with black; invert the images")
    constant = int((images.min((1, 2, 3)) == images.max((1, 2, 3))).sum())
    if constant:
        found.append(f"of one gray level only: {constant:,}")
    copies = len(images) - len({image.tobytes() for image in images})
    if copies:
        found.append(f"copies of other images: {copies:,}")
    return found
