"""Images that somebody else made, told by names, shapes and values, without TensorFlow. InputError refuses
what cannot be used at once. Arguments: `path` and `what` name the source in errors; `told` is what was
assumed, in words, list of str; `pixels` is a key of PIXELS.
"""

import math

import numpy as np

from fmgan_tf import InputError, fashion_mnist, one_line

SIZE = 28  # pixels, of the images that figures are made of
LARGEST = 128  # pixels; larger pictures are mostly grids of many images
CLASSES = len(fashion_mnist.CLASS_NAMES)
# How pixels are written: for people, what to add to them, and what to multiply the sum with to get [0, 255]
PIXELS = {"unit": ("[0, 1]", 0.0, 255.0), "tanh": ("[-1, 1]", 1.0, 127.5), "byte": ("[0, 255]", 0.0, 1.0)}
LABEL_NAMES = ("labels", "label", "y", "y_train", "y_test", "target", "targets")
EXPECTED = f"numbers (N, {SIZE}, {SIZE}, 1), (N, {SIZE}, {SIZE}) or (N, {SIZE * SIZE})"


def read_file(path):
    """The arrays of an .npz by name, or the one of an .npy as `images`; no pickle, which can run code."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"images": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except Exception as error:  # damaged zips and headers raise a dozen kinds, NotImplementedError among them
        kind = ".npy" if path.suffix == ".npy" else ".npz"
        raise InputError(f"{path} cannot be read as an {kind} of plain arrays ({one_line(error)})") from error


def read_pictures(path, pictures):
    """Pictures, all of one form, in the folder `path`: (N, height, width) or (N, height, width, channels)."""
    import imageio.v3 as imageio

    images = []
    for picture in pictures:
        try:
            images.append(imageio.imread(picture))
        except Exception as error:  # each of imageio's readers has exceptions of its own
            raise InputError(f"{picture} cannot be read as a picture ({one_line(error)})") from error
        if images[-1].shape != images[0].shape:
            shapes = f"{images[0].shape} and {images[-1].shape} among them"
            raise InputError(f"{path} holds pictures of several forms, {shapes}; expected one")
    return np.stack(images)


def choose(path, arrays):
    """Which array holds the images and which the labels: by name, or else by form.
    Args:
        arrays: dict from name to array.
    Returns:
        (images, labels, told): an array that layout() knows, int64 (N,) or None.
    """

    def listing(names):
        return ", ".join(f"`{name}` {arrays[name].dtype} {arrays[name].shape}" for name in list(names)[:9])

    found = ["images"] if "images" in arrays else [name for name in arrays if layout(arrays[name].shape[1:])]
    if not found or not layout(arrays[found[0]].shape[1:]) or arrays[found[0]].dtype.kind not in "biuf":
        what = listing(found or arrays) or "nothing"
        raise InputError(f"{path} holds {what}, expected `images`, {EXPECTED}")
    if len(found) > 1:
        raise InputError(f"{path} holds several sets of images: {listing(found)}; name the one `images`")
    images, count = arrays[found[0]], len(arrays[found[0]])
    told = [] if found == ["images"] else [f"images from `{found[0]}`"]
    labels = {name: as_labels(array, count) for name, array in arrays.items() if name != found[0]}
    named = ["labels"] if "labels" in labels else [name for name in labels if name.lower() in LABEL_NAMES]
    usable = [name for name in named or labels if labels[name] is not None]
    if named and not usable:
        expected = f"{count} whole numbers from 0 to {CLASSES - 1}, or one-hot rows"
        raise InputError(f"{path}: labels are {listing(named)}, expected {expected}")
    if any(not np.array_equal(labels[name], labels[usable[0]]) for name in usable):
        raise InputError(f"{path} holds several sets of labels: {listing(usable)}; name the one `labels`")
    if not usable:
        return images, None, told
    name, array = usable[0], arrays[usable[0]]
    if name != "labels" or array.ndim > 1 or array.dtype.kind not in "iu":
        kinds = {"f": "floats", "U": "names", "S": "names"}
        form = "one-hot rows" if array.size > count else kinds.get(array.dtype.kind, "numbers")
        told.append(f"labels from {form} in `{name}`")
    return images, labels[name], told


def as_labels(array, count):
    """Labels int64 (count,), or None: of numbers or names (N,) or (N, 1), or one-hot rows (N, 2 to 10)."""
    if array.ndim == 0 or len(array) != count or not array.size:
        return None
    rows = array.reshape(count, -1)
    if rows.dtype.kind in "US" and rows.shape[1] == 1:
        names, places = np.unique(rows[:, 0].astype("U"), return_inverse=True)
        try:
            return np.array([fashion_mnist.class_index(name) for name in names], "int64")[places]
        except InputError:
            return None
    if rows.dtype.kind not in "biuf" or rows.shape[1] > CLASSES:
        return None
    if rows.shape[1] > 1:
        one_hot = np.isin(rows, (0, 1)).all() and (rows.sum(1, dtype="float64") == 1).all()
        return rows.argmax(1) if one_hot else None
    known = rows.dtype.kind != "b" and np.isin(rows, range(CLASSES)).all()
    return rows[:, 0].astype("int64") if known else None


def normal_form(images, what, pixels=None, fit=None):
    """Images in any layout() as (uint8 (N, height, width, 1), square; told). See sources.Reading."""
    what = f"{what} {images.dtype} {images.shape}"
    if not layout(images.shape[1:]) or not len(images) or images.dtype.kind not in "biuf":
        raise InputError(f"{what}, expected {EXPECTED}")
    if not np.isfinite(images).all():
        raise InputError(f"{what} holds values that are NaN or infinite")
    told = [f"rows of {images.shape[1]} values read as images"] if images.ndim == 2 else []
    gray = flat_gray(images, what)
    pixels = pixels or pixels_of(gray, what)
    if images.dtype != np.uint8 or pixels != "byte":
        told.append(f"pixels read as {PIXELS[pixels][0]}")
    gray = to_bytes(gray, pixels)
    cut, note = window(gray, fit, what)
    return gray[cut][..., None], told + note


def layout(shape):
    """(height, width) of images (N, *shape), or None: 1, 3, 4 or no channels, last or first, or flat."""
    if len(shape) == 1 and shape[0] in (784, 1024, 4096):
        return (math.isqrt(shape[0]),) * 2
    if len(shape) == 3:
        shape = shape[:2] if shape[2] in (1, 3, 4) else shape[1:] if shape[0] in (1, 3, 4) else ()
    return tuple(shape) if len(shape) == 2 and min(shape) >= 8 else None


def flat_gray(images, what):
    """Images of any layout() as (N, height, width): one of three equal channels, without their opacity."""
    size = layout(images.shape[1:])
    if images.ndim < 4 or 1 in (images.shape[1], images.shape[3]):
        return images.reshape(-1, *size)
    red, *others = np.moveaxis(images, -1 if images.shape[1:3] == size else 1, 0)[:3].astype("float32")
    # JPEG's channels differ a little
    if max(np.abs(red - other).max() for other in others) > 0.04 * np.ptp(red):
        raise InputError(f"{what} is in color, expected gray images (N, {SIZE}, {SIZE}, 1)")
    return red.astype(images.dtype)


def pixels_of(images, what):
    """How pixels (N, height, width), which may overshoot a little, are written: where the background lies."""
    low, high = images.min(), images.max()
    if images.dtype.kind == "b":
        return "unit"
    if images.dtype.kind in "iu":
        if low == high == 0 or (low >= 0 and 1 < high < 256):
            return "byte"
    else:
        few = np.asarray(images[:: max(1, len(images) // 500)], "float64")
        low, high = np.percentile(few, (0.1, 99.9))
        background = np.median(few[:, [0, 0, -1, -1], [0, -1, 0, -1]])
        # Most of an image is background: in [-1, 1] most of the sum is negative, in [0, 1] hardly any
        negative = -few[few < 0].sum() > 0.4 * np.abs(few).sum() or -1.5 < low < -0.7
        halves = abs(background + 0.5) < 0.06 and high < 0.6  # x / 255 - 0.5
        if 16 < high < 300 and not negative:
            return "byte"
        if -1.5 < low and high < 1.5 and not halves:
            return "tanh" if negative else "unit"
    raise InputError(
        f"{what} has pixels from {low:.5g} to {high:.5g}, which fits none of the usual ranges, or several. "
        "Say which with --pixels: unit for [0, 1], tanh for [-1, 1], byte for [0, 255]; or convert them"
    )


def to_bytes(images, pixels):
    """Pixels as uint8, clipped: data.from_tanh_range and data.from_unit_range without TensorFlow."""
    if pixels == "byte" and images.dtype == np.uint8:
        return images
    _, shift, factor = PIXELS[pixels]
    return np.clip(np.rint((np.asarray(images, "float32") + shift) * factor), 0, 255).astype("uint8")


def window(images, fit, what):
    """What to cut out of uint8 (N, height, width), so that an empty border is cropped rather than shrunk.
    Args:
        fit: "crop", "resize", or None to tell it by where all of them are empty.
    Returns:
        (slices to index them with, told).
    """
    height, width = images.shape[1:]
    size = f"{height} x {width}"
    background = np.float32(np.median(images[:, [0, 0, -1, -1], [0, -1, 0, -1]]))
    few = images[:: max(1, len(images) // 2000)]
    filled = np.abs(few - background).mean(0) > 4  # gray levels: less is overshoot, or JPEG's traces
    spans = [np.flatnonzero(filled.any(axis))[[0, -1]] if filled.any() else (0, 0) for axis in (1, 0)]
    side = max(SIZE, 1 + int(max(last - first for first, last in spans)))
    if fit == "crop":
        side = SIZE
    elif fit == "resize" or (height == width and side > max(SIZE, 0.9 * height)):  # not a frame
        side = max(height, width)
    if height == width and fit != "crop":
        side = min(side, height)
    if side > min(height, width):
        raise InputError(f"{what}: images of {size} are not square, or too small to crop")
    if side > LARGEST and fit != "resize":
        raise InputError(f"{what}: images of {size} look like grids; expected single ones, or --fit resize")
    starts = [(length - side) // 2 for length in (height, width)]
    if fit != "crop":
        reach = [(last - side + 1, first) for first, last in spans]
        starts = [int(np.clip(start, *bounds)) for start, bounds in zip(starts, reach, strict=True)]
    told = [] if side == height == width else [f"{size} cropped to {side} x {side}"]
    told += ["light background left as it is"] if background > 200 else []
    return (slice(None), *(slice(start, start + side) for start in starts)), told
