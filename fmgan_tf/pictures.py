"""Images in files, of any size, range and channels: arrays (.npz, .npy, .csv) and folders of pictures.

Pillow reads pictures; transparency is laid on black, color becomes gray, hidden files are passed over.
"""

import itertools
import math
import sys
import warnings

import numpy as np
from tqdm import tqdm

from fmgan_tf import InputError, data

ARRAYS = (".npz", ".npy", ".csv")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
LABEL_NAMES = ("labels", "label", "y", "y_train", "y_test", "target", "targets")  # of arrays
EXPECTED = (
    "expected images (.npz, .npy, .csv) or a folder of pictures. In any other program save images: "
    'np.savez("images.npz", images=..., labels=...)'
)


def layout(shape):
    """(height, width) of images (N, *shape), or None: 1, 3, 4 or no channels, last or first, or flat."""
    if len(shape) == 1 and shape[0] in (784, 1024, 4096):
        return (math.isqrt(shape[0]),) * 2
    if len(shape) == 3:
        shape = shape[:2] if shape[2] in (1, 3, 4) else shape[1:] if shape[0] in (1, 3, 4) else ()
    return tuple(shape) if len(shape) == 2 and all(shape) and min(shape) >= 8 else None


def to_gray(images):
    """Images of any layout() as (N, height, width); of color the brightness, transparency laid on black."""
    size = layout(images.shape[1:])
    if images.ndim < 4 or 1 in (images.shape[1], images.shape[3]):
        return images.reshape(-1, *size)
    red, green, blue, *alpha = np.moveaxis(images, -1 if images.shape[1:3] == size else 1, 0)
    gray = 0.299 * red + 0.587 * green + 0.114 * blue
    gray = gray * (alpha[0] / max(1, alpha[0].max())) if alpha else gray
    return np.rint(gray).astype("uint8") if images.dtype == np.uint8 else gray


def pixel_range(images, what):
    """How pixels of any shape, which may overshoot a little, are written: key of data.RANGES."""
    low, high = np.percentile(np.asarray(images[:500], "float32"), (0.1, 99.9))
    if images.dtype == np.uint8 or (low > -20 and 16 < high < 300):
        return "byte"
    if images.dtype == bool or (low > -0.1 and high < 1.5):
        return "unit"
    halves = -0.6 < low < -0.45 and high < 0.6  # x / 255 - 0.5
    if -1.5 < low and high < 1.5 and not halves:
        return "tanh"
    raise InputError(
        f"{what} has pixels from {low:.5g} to {high:.5g}, which fits none of the usual ranges, or several. "
        "Say which with --pixels: unit for [0, 1], tanh for [-1, 1], byte for [0, 255]; or convert them"
    )


def to_bytes(images, what, pixels=None):
    """Images of any layout() as (uint8 (N, height, width), key of data.RANGES: pixels, or what was told)."""
    what = f"{what} {images.dtype} {images.shape}"
    if not layout(images.shape[1:]) or not len(images) or images.dtype.kind not in "biuf":
        raise InputError(f"{what}, expected numbers (N, 28, 28, 1) or (N, 784)")
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise InputError(f"{what} holds values that are NaN or infinite")
    gray = to_gray(images)
    pixels = pixels or pixel_range(gray, what)
    return gray if gray.dtype == np.uint8 else data.RANGES[pixels][1](gray), pixels


def read(path, size=None, fits=None):
    """Images of a file or folder, with what is said of their classes.

    Args:
        path: pathlib.Path.
        size: int; pictures of a folder are made squares of that size, see square(), and those that cannot be
            read are left out. None to take them as they are: all of one size, and whole.
        fits: what tells whether an array holds the classes of so many images, by default is_label().
    Returns:
        (images, labels, notes): array (N, ...) in some layout(); array (N,) or (N, classes) of numbers or
        names, or None; list of str.
    """
    fits = fits or is_label
    if path.is_dir():
        images, labels, notes = _read_folder(path, size)
        labels = labels if labels is not None and fits(labels, len(images)) else None
        return images, labels, notes + (["labels from their folders"] if labels is not None else [])
    arrays = read_arrays(path)
    found = ["images"] if "images" in arrays else [name for name in arrays if layout(arrays[name].shape[1:])]
    if len(found) != 1 or not arrays[found[0]].ndim:
        listing = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
        raise InputError(f"{path} holds {listing or 'nothing'}; expected one array of images, named `images`")
    images = arrays.pop(found[0])
    notes = [] if found == ["images"] else [f"images from `{found[0]}`"]
    named = [name for name in arrays if name.lower() in LABEL_NAMES]
    for name in named or arrays:
        if fits(arrays[name], len(images)):
            return images, arrays[name], notes + ([] if name == "labels" else [f"labels from `{name}`"])
        if named:
            expected = f"{len(images)} classes as numbers, names or one-hot"
            raise InputError(f"{path}: {name} is {arrays[name].shape}, expected {expected}")
    return images, None, notes


def read_arrays(path):
    """The arrays of a .npz, .npy or .csv (a row of names, then a row for every image): a dict by name."""
    suffix = path.suffix.lower()
    if suffix not in ARRAYS:
        raise InputError(f"{path} is something else; {EXPECTED}")
    try:
        if suffix == ".csv":
            with open(path) as file, warnings.catch_warnings(action="error"):  # which says that it is empty
                names = file.readline().strip().split(",")
                table = np.loadtxt(file, "float32", delimiter=",", ndmin=2)
            at = next((place for place, name in enumerate(names) if name.lower() in LABEL_NAMES), None)
            pixels = np.delete(table, [] if at is None else at, 1)
            return {"images": pixels} if at is None else {"images": pixels, "labels": table[:, at]}
        loaded = np.load(path, allow_pickle=False)  # a pickle can run code
        return {"images": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # damaged zips and headers raise a dozen kinds
        raise InputError(f"{path} cannot be read as plain arrays ({error})") from error


def is_label(array, count):
    """Whether an array says the class of so many images: (count,), (count, 1) or one-hot rows."""
    if array.ndim not in (1, 2) or len(array) != count or not array.size:
        return False
    rows = array.reshape(count, -1)
    if rows.shape[1] == 1:
        return array.dtype.kind != "f" or bool((array % 1 == 0).all())
    hot = array.dtype.kind in "biuf" and np.isin(rows, (0, 1)).all()
    return bool(hot and (rows.sum(1, dtype="float64") == 1).all())


def class_names(array):
    """What is_label() takes for labels as (int64 (N,), tuple of str): the names in order, or the numbers."""
    rows = array.reshape(len(array), -1)
    if rows.shape[1] > 1:
        return rows.argmax(1), tuple(map(str, range(rows.shape[1])))
    names, labels = np.unique(rows[:, 0], return_inverse=True)
    texts = [f"{name:.0f}" if array.dtype.kind == "f" else str(name) for name in names]
    if all(map(str.isdecimal, texts)):  # folders 1, 2, ..., 10
        order = np.argsort([int(text) for text in texts], kind="stable")
        labels, texts = np.argsort(order)[labels], [texts[place] for place in order]
    return labels.astype("int64"), tuple(texts)


def find(folder):
    """The pictures in a folder and its sub-folders, sorted, without hidden files."""
    found = [
        item
        for item in itertools.chain(folder.glob("*"), folder.glob("*/*"))
        if item.suffix.lower() in SUFFIXES
        and item.is_file()
        and not any(part.startswith(".") for part in item.relative_to(folder).parts)
    ]
    beside = sum(item.parent == folder for item in found)
    if 0 < beside < len(found):
        raise InputError(
            f"{folder} holds {beside} pictures beside its sub-folders; put each into the one of its class"
        )
    return sorted(found)


def open_gray(path, size=None):
    """A picture as uint8 (height, width), turned as its camera says, on black; as a square if a size is
    given: the middle of it, antialiased. InputError if it cannot be read."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I"):  # 16 bits a pixel
                picture = Image.fromarray((np.asarray(picture) / 257).astype("uint8"))
            black = Image.new("RGBA", picture.size, "black")
            picture = Image.alpha_composite(black, picture.convert("RGBA")).convert("L")
            if size:
                picture = ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
            return np.asarray(picture)
    except Exception as error:  # each format has exceptions of its own
        raise InputError(f"{path} cannot be read as a picture ({error})") from error


def _read_folder(path, size):
    found, pictures, broken = find(path), [], {}
    wait = 2 if sys.stderr and sys.stderr.isatty() else 10
    for item in tqdm(found, "reading pictures", delay=wait, leave=False, dynamic_ncols=True):
        try:
            pictures.append(open_gray(item, size))
        except InputError as error:
            if size is None:
                raise
            broken[item] = error
    found = [item for item in found if item not in broken]
    sizes = sorted({picture.shape for picture in pictures})
    if len(sizes) != 1:
        what = f"pictures of {len(sizes)} sizes, like {sizes[0]} and {sizes[-1]}" if sizes else "no pictures"
        why = f" ({next(iter(broken.values()))})" if broken else ""
        raise InputError(f"{path} holds {what}{why}; {EXPECTED}")
    in_folders = found[0].parent != path
    labels = np.array([item.parent.name for item in found]) if in_folders else None
    notes = [f"{len(found):,} pictures"]
    notes += [f"{len(broken)} left out: {next(iter(broken.values()))}"] if broken else []
    return np.stack(pictures), labels, notes
