"""What SOURCE means: a run folder, a shipped model, somebody else's generator, or images.

open() says in a moment, without TensorFlow, what a source is; images are read and checked there. Of our own
models run.json says everything. Of others three things are told by a rule: which input is the label
(label_input), the range of pixels (pixel_range), and an empty border (border_crop). `assumed` says in one
line what they found, and Options overrule them.
"""

import dataclasses
import difflib
import functools
import math
import pathlib
import tempfile

import numpy as np

from fmgan_tf import InputError, data, datasets, generation, recipes

SIZE = 28  # pixels, of the images that scores are computed from
LABEL_FORMS = ("none", "number", "one-hot", "in-noise", "in-noise-first")
LABEL_NAMES = ("labels", "label", "y", "y_train", "y_test", "target", "targets")  # of arrays
LABEL_WORDS = ("label", "class", "klas", "cond", "categ", "digit", "target")  # in names of inputs
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
EXPECTED = (
    "expected a run folder, a shipped model, a generator (.keras, .h5), images (.npz, .npy) or a folder of "
    'pictures. In any other program save images: np.savez("images.npz", images=..., labels=...)'
)


@dataclasses.dataclass(frozen=True)
class Options:
    """What a user says of a generator or of images that somebody else made; None leaves it to a rule.

    noise: "normal", or "uniform" in [-1, 1].
    label: one of LABEL_FORMS; in-noise is one-hot in the last values of the noise, in-noise-first the first.
    pixels: key of data.RANGES.
    fit: "crop" cuts the middle out of larger images, "resize" resizes them, empty border and all.
    """

    noise: str | None = None
    label: str | None = None
    pixels: str | None = None
    fit: str | None = None


@dataclasses.dataclass(eq=False)
class Source:
    """What open() found: images with labels or None, or what a generator is loaded from."""

    name: str  # as the user gave it
    path: pathlib.Path
    options: Options
    recipe: recipes.Recipe | None = None  # of a run or a shipped model
    class_names: tuple = datasets.CLASS_NAMES
    images: np.ndarray | None = None  # uint8 (N, height, width, 1)
    given: np.ndarray | None = None  # the labels of images, int64 (N,)
    assumed: str = ""  # one line on what was told by a rule, "" where nothing had to be

    @functools.cached_property
    def generator(self):
        """The generation.Generator of this source; InputError if it holds none that can be loaded."""
        if self.images is not None:
            raise InputError(f"{self.name} holds images, expected a generator: a run folder or a .keras file")
        if self.recipe is None:
            generator, self.assumed = load_foreign(self.path, self.options)
            return generator
        if (self.path / "generator.keras").exists():
            return generation.load_generator(self.path)
        model, self.assumed = load_checkpoint(self.path, self.recipe)
        return generation.of_recipe(model, self.recipe, self.class_names)

    def labels(self, asked=None):
        """The labels that are asked for by name or number, list of int; by default all that it knows, [] if
        it takes none. InputError for one that it has never seen."""
        recipe = self.recipe
        known = self.generator.classes if recipe is None else recipe.classes if recipe.conditional else 0
        if asked and not known:
            raise InputError(f"{self.name} takes no label: what it makes is of no class in particular")
        labels = [
            datasets.class_index(label, self.class_names) for label in asked or self.class_names[:known]
        ]
        for label in labels:
            if label >= known:
                listing = ", ".join(self.class_names[:known])
                raise InputError(
                    f"{self.name} has never seen {self.class_names[label]!r}; it knows {listing}"
                )
        return labels

    def sample(self, count, seed):
        """Images as scores are computed from them: (uint8 (N, height, width, 1), labels int64 (N,) or None).
        Of files a random choice, all where they hold fewer; the seed is of noise, labels and choice."""
        random = np.random.default_rng(seed)
        if self.images is not None:
            # Shuffled even where all are taken: files are often sorted, and some scores take the first few
            chosen = random.permutation(len(self.images))[:count]
            return self.images[chosen], None if self.given is None else self.given[chosen]
        labels = None
        if self.generator.classes:  # in an order that has nothing to do with the noise
            labels = random.permutation(np.arange(count) % self.generator.classes)
        noise = generation.sample_noise(seed, count, self.generator.latent_dim)
        return generation.sample_images(self.generator, noise, labels), labels


def open(name, options=Options()):  # noqa: A001 - sources.open(name)
    """The Source of a path, or of the name of a shipped recipe. Images are read here. InputError if it is
    nothing of the kind, or cannot be told what it is; OSError if it cannot be read."""
    path, name = pathlib.Path(name), str(name)
    if not path.exists() and name in recipes.RECIPES:
        generation.verified(f"{name}/generator.keras")
        path = generation.ASSETS / name
    if (path / "run.json").exists():
        if given := [key for key, value in dataclasses.asdict(options).items() if value is not None]:
            raise InputError(f"{name} is a model of this package, which knows its {given[0]}; leave that out")
        return Source(name, path, options, *generation.read_recipe(path))
    if not path.exists():
        near = difflib.get_close_matches(name, recipes.RECIPES, 1)
        raise InputError(
            f"{name} does not exist; {EXPECTED}" + (f". Did you mean {near[0]!r}?" if near else "")
        )
    if path.suffix.lower() in (".keras", ".h5", ".hdf5") and not path.is_dir():
        return Source(name, path, options)
    images, labels, notes = read_images(path)
    if options.noise or options.label:
        raise InputError(f"{name} holds images, not a generator; leave out --noise and --label-as")
    images, more = normal_form(images, f"{name}: images", options)
    return Source(name, path, options, images=images, given=labels, assumed="; ".join(notes + more))


def load_checkpoint(folder, recipe):
    """The average of a run that has not ended: (keras.Model, a line that says so)."""
    from fmgan_tf import gan

    model = gan.build(recipe)
    try:
        model.load_weights(folder / "checkpoint.weights.h5")
    except (OSError, ValueError, KeyError) as error:
        problem = f"{folder} holds no generator yet, nor a whole checkpoint ({error})"
        raise InputError(f"{problem}. Finish it with train --resume --output {folder}") from error
    return model.averaged_generator, f"a run that has not ended, as it was after {int(model.step):,} steps"


def load_file(path):
    """The model in a .keras or .h5 file, whatever its suffix; Keras goes by that, in small letters."""
    import h5py

    legacy = h5py.is_hdf5(path)
    if legacy:
        with h5py.File(path, "r") as file:
            if "Lambda" in str(file.attrs.get("model_config")):
                raise InputError(f"{path} holds code (a Lambda layer), which is not run; {EXPECTED}")
    with tempfile.TemporaryDirectory() as folder:
        link = pathlib.Path(folder, "model.h5" if legacy else "model.keras")
        link.symlink_to(path.absolute())
        try:
            return generation.load_model(link)
        except InputError as error:
            raise InputError(str(error).replace(str(link), str(path))) from error


def load_foreign(path, options):
    """A generator that somebody else saved with Keras: (generation.Generator, one line on what was assumed).
    It takes noise of any shape, in one or more inputs, and perhaps a label."""
    import keras
    from scipy import special

    model = load_file(path)
    tensors = model.inputs
    sizes = [math.prod(tensor.shape[1:]) if None not in tensor.shape[1:] else 0 for tensor in tensors]
    label_at, form = label_input(tensors, sizes, options.label, path)
    if 0 in sizes or not layout(model.outputs[0].shape[1:]):
        shapes = f"{[tuple(tensor.shape) for tensor in tensors]} into {tuple(model.outputs[0].shape)}"
        raise InputError(f"{path} is no generator of single gray images: it turns {shapes}; {EXPECTED}")
    known = {"none": 0, "one-hot": sizes[label_at or 0]}.get(form, len(datasets.CLASS_NAMES))
    if form == "number":  # an embedding says how many
        known = min(
            [known] + [each.input_dim for each in model._flatten_layers() if hasattr(each, "input_dim")]
        )
    names = datasets.CLASS_NAMES[:known]
    latent_dim = sum(size for index, size in enumerate(sizes) if index != label_at)
    latent_dim -= len(names) if form.startswith("in-noise") else 0

    def feed(noise, labels):
        if options.noise == "uniform":
            noise = special.erf(noise / np.sqrt(2)).astype("float32")  # the distribution of what is normal
        one_hot = np.eye(len(names), dtype="float32")[labels] if form not in ("none", "number") else None
        if form.startswith("in-noise"):
            noise = np.concatenate([one_hot, noise] if form == "in-noise-first" else [noise, one_hot], 1)
        values, first = [], 0
        for index, tensor in enumerate(tensors):
            if index == label_at:
                value = labels if form == "number" else one_hot
            else:
                value, first = noise[:, first : first + sizes[index]], first + sizes[index]
            values.append(np.reshape(value, (-1, *tensor.shape[1:])).astype(tensor.dtype))
        return keras.tree.pack_sequence_as(getattr(model, "input", tensors[0]), values)

    def first_output(outputs):
        return to_gray(np.asarray(keras.tree.flatten(outputs)[0], "float32"))

    raw = generation.Generator(model, latent_dim, names, feed, first_output)
    labels = np.arange(256) % max(1, len(names))
    probe = generation.sample_images(raw, generation.sample_noise(0, 256, latent_dim), labels)
    pixels = options.pixels or pixel_range(probe, path)
    cut, notes = border_crop(data.RANGES[pixels][1](probe), options.fit)

    def read(outputs):
        return data.RANGES[pixels][1](first_output(outputs))[cut][..., None]

    hint = " (or one is in the noise: --label-as in-noise)" if form == "none" and latent_dim > 20 else ""
    told = f"label: {form}{hint}" + (f", {len(names)} classes" if names else "")
    assumed = [f"{latent_dim} {options.noise or 'normal'} values", told, f"pixels: {pixels}", *notes]
    return dataclasses.replace(raw, read=read), f"assumed {'; '.join(assumed)}"


def label_input(tensors, sizes, form, path):
    """Which input takes the label, and in which of LABEL_FORMS: (index or None, form)."""
    kinds = {"number": lambda size: size == 1, "one-hot": lambda size: 1 < size <= len(datasets.CLASS_NAMES)}
    found = []
    for index, (tensor, size) in enumerate(zip(tensors, sizes, strict=True)):
        named = any(word in tensor.name.lower() for word in LABEL_WORDS)
        likely = (named, "int" in str(tensor.dtype), size == 1, size == len(datasets.CLASS_NAMES))
        fitting = [kind for kind, fits in kinds.items() if fits(size) and form in (None, kind)]
        found += [(likely, index, kind) for kind in fitting]
    if form in ("none", "in-noise", "in-noise-first") or (form is None and len(tensors) == 1):
        return None, form or "none"
    found.sort(reverse=True)
    if not found or (len(found) > 1 and found[0][0] == found[1][0]) or not any(found[0][0]):
        shapes = [(tensor.name, tuple(tensor.shape)) for tensor in tensors]
        raise InputError(f"{path}: none or several inputs {shapes} could be the label; say --label-as none")
    return found[0][1:]


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


def border_crop(images, fit):
    """What to cut out of uint8 (N, height, width), where a border is empty in all: (slices, notes)."""
    sides, starts = images.shape[1:], []
    background = np.float32(np.median(images[:, [0, 0, -1, -1], [0, -1, 0, -1]]))
    # 4 gray levels: less is overshoot, or JPEG's traces
    filled = np.abs(images[:2000] - background).mean(0) > 4
    for axis, side in enumerate(sides):
        span = np.flatnonzero(filled.any(1 - axis)) if fit is None and filled.any() else np.array([side // 2])
        if fit == "resize" or side < SIZE or span[-1] - span[0] >= SIZE:
            return (slice(None),), []
        starts.append(int(np.clip((side - SIZE) // 2, span[-1] - SIZE + 1, span[0])))
    notes = [f"{sides[0]} x {sides[1]} cropped to {SIZE} x {SIZE}"] if sides != (SIZE, SIZE) else []
    return (slice(None), *(slice(start, start + SIZE) for start in starts)), notes


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


def normal_form(images, what, options):
    """Images in any layout() as (uint8 (N, height, width, 1), notes)."""
    what = f"{what} {images.dtype} {images.shape}"
    if not layout(images.shape[1:]) or not len(images) or images.dtype.kind not in "biuf":
        raise InputError(f"{what}, expected numbers (N, {SIZE}, {SIZE}, 1) or (N, {SIZE**2})")
    if not np.isfinite(images).all():
        raise InputError(f"{what} holds values that are NaN or infinite")
    gray = to_gray(images)
    pixels = options.pixels or pixel_range(gray, what)
    cut, notes = border_crop(data.RANGES[pixels][1](gray), options.fit)
    notes = ([f"pixels: {pixels}"] if images.dtype != np.uint8 else []) + notes
    return data.RANGES[pixels][1](gray)[cut][..., None], notes


def read_images(path):
    """Images of a file or folder, as they are there, with labels: (array, int64 (N,) or None, notes)."""
    if path.is_dir():
        return _read_folder(path)
    if path.suffix.lower() not in (".npz", ".npy"):
        raise InputError(f"{path} is something else; {EXPECTED}")
    try:
        loaded = np.load(path, allow_pickle=False)  # a pickle can run code
        arrays = {"images": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # damaged zips and headers raise a dozen kinds
        raise InputError(f"{path} cannot be read as plain arrays ({error})") from error
    found = ["images"] if "images" in arrays else [name for name in arrays if layout(arrays[name].shape[1:])]
    if len(found) != 1 or not arrays[found[0]].ndim:
        listing = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
        raise InputError(f"{path} holds {listing or 'nothing'}; expected one array of images, named `images`")
    images = arrays.pop(found[0])
    notes = [] if found == ["images"] else [f"images from `{found[0]}`"]
    named = [name for name in arrays if name.lower() in LABEL_NAMES]
    for name in named or arrays:
        labels = as_labels(arrays[name], len(images))
        if labels is not None:
            return images, labels, notes + ([] if name == "labels" else [f"labels from `{name}`"])
        if named:
            expected = f"{len(images)} classes as numbers, names or one-hot"
            raise InputError(f"{path}: {name} is {arrays[name].shape}, expected {expected}")
    return images, None, notes


def _read_folder(path):
    from PIL import Image, ImageOps

    found = [*path.glob("*"), *path.glob("*/*")]
    found = sorted(item for item in found if item.suffix.lower() in PICTURES)
    found = [item for item in found if not any(part.startswith(".") for part in item.relative_to(path).parts)]
    pictures = []
    for item in found:
        try:
            with Image.open(item) as opened:
                picture = ImageOps.exif_transpose(opened)
                if picture.mode.startswith("I"):  # 16 bits a pixel
                    picture = Image.fromarray((np.asarray(picture) / 257).astype("uint8"))
                black = Image.new("RGBA", picture.size, "black")
                shown = Image.alpha_composite(black, picture.convert("RGBA"))
                pictures.append(np.asarray(shown.convert("L")))
        except Exception as error:  # each format has exceptions of its own
            raise InputError(f"{item} cannot be read as a picture ({error})") from error
    sizes = sorted({picture.shape for picture in pictures})
    if len(sizes) != 1:
        what = f"pictures of {len(sizes)} sizes, like {sizes[0]} and {sizes[-1]}" if sizes else "no pictures"
        raise InputError(f"{path} holds {what}; {EXPECTED}")
    labels = as_labels(np.array([item.parent.name for item in found]), len(found))
    notes = [f"{len(found):,} pictures"] + (["labels from their folders"] if labels is not None else [])
    return np.stack(pictures), labels, notes


def as_labels(array, count):
    """Labels int64 (count,), or None: of numbers or names (N,) or (N, 1), or one-hot rows."""
    classes = len(datasets.CLASS_NAMES)
    if array.ndim not in (1, 2) or len(array) != count or not array.size:
        return None
    rows = array.reshape(count, -1)
    if rows.shape[1] > 1:
        numbers = rows.dtype.kind in "biuf" and rows.shape[1] <= classes and np.isin(rows, (0, 1)).all()
        return rows.argmax(1) if numbers and (rows.sum(1, dtype="float64") == 1).all() else None
    names, places = np.unique(rows[:, 0], return_inverse=True)
    try:
        exact = [f"{name:.0f}" if array.dtype.kind == "f" and name % 1 == 0 else str(name) for name in names]
        return np.array([datasets.class_index(name) for name in exact], "int64")[places]
    except InputError:
        return None
