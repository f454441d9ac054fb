"""What SOURCE means: a run folder, a shipped model, somebody else's generator, or images.

open() says in a moment, without TensorFlow, what a source is; images are read and checked there. Of our own
models run.json says everything. Of others three things are told by a rule: which input is the label
(label_input), the range of pixels (pictures.pixel_range), and an empty border (border_crop). `assumed` says
in one line what they found, and Options overrule them.
"""

import dataclasses
import difflib
import functools
import math
import pathlib
import tempfile

import numpy as np

from fmgan_tf import InputError, data, datasets, generation, pictures, recipes

SIZE = 28  # pixels, of the images that scores are computed from
LABEL_FORMS = ("none", "number", "one-hot", "in-noise", "in-noise-first")
LABEL_WORDS = ("label", "class", "klas", "cond", "categ", "digit", "target")  # in names of inputs
EXPECTED = (
    "expected a run folder, a shipped model, a generator (.keras, .h5), images (.npz, .npy, .csv) or a "
    'folder of pictures. In any other program save images: np.savez("images.npz", images=..., labels=...)'
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
            generator, self.assumed = load_foreign(self.path, self.options, self.class_names)
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


def open(name, options=Options(), class_names=datasets.CLASS_NAMES):  # noqa: A001 - sources.open(name)
    """The Source of a path, or of the name of a shipped recipe; class_names are those of the images that it
    is to be set against. Images are read here. InputError if it is nothing of the kind, or cannot be told
    what it is; OSError if it cannot be read."""
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
        return Source(name, path, options, class_names=class_names)
    if path.is_file() and path.suffix.lower() not in pictures.ARRAYS:
        raise InputError(f"{name} is something else; {EXPECTED}")

    def fits(array, count):
        return pictures.is_label(array, count) and known_labels(array, class_names) is not None

    images, labels, notes = pictures.read(path, fits=fits)
    labels = None if labels is None else known_labels(labels, class_names)
    if options.noise or options.label:
        raise InputError(f"{name} holds images, not a generator; leave out --noise and --label-as")
    images, more = normal_form(images, f"{name}: images", options)
    more = "; ".join(notes + more)
    return Source(name, path, options, class_names=class_names, images=images, given=labels, assumed=more)


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


def load_foreign(path, options, class_names):
    """A generator that somebody else saved with Keras: (generation.Generator, one line on what was assumed).
    It takes noise of any shape, in one or more inputs, and perhaps a label."""
    import keras
    from scipy import special

    model = load_file(path)
    tensors = model.inputs
    sizes = [math.prod(tensor.shape[1:]) if None not in tensor.shape[1:] else 0 for tensor in tensors]
    label_at, form = label_input(tensors, sizes, options.label, path, len(class_names))
    if 0 in sizes or not pictures.layout(model.outputs[0].shape[1:]):
        shapes = f"{[tuple(tensor.shape) for tensor in tensors]} into {tuple(model.outputs[0].shape)}"
        raise InputError(f"{path} is no generator of single gray images: it turns {shapes}; {EXPECTED}")
    known = {"none": 0, "one-hot": sizes[label_at or 0]}.get(form, len(class_names))
    if form == "number":  # an embedding says how many
        known = min(
            [known] + [each.input_dim for each in model._flatten_layers() if hasattr(each, "input_dim")]
        )
    names = class_names[:known]
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
        return pictures.to_gray(np.asarray(keras.tree.flatten(outputs)[0], "float32"))

    raw = generation.Generator(model, latent_dim, names, feed, first_output)
    labels = np.arange(256) % max(1, len(names))
    probe = generation.sample_images(raw, generation.sample_noise(0, 256, latent_dim), labels)
    pixels = options.pixels or pictures.pixel_range(probe, path)
    cut, notes = border_crop(data.RANGES[pixels][1](probe), options.fit)

    def read(outputs):
        return data.RANGES[pixels][1](first_output(outputs))[cut][..., None]

    hint = " (or one is in the noise: --label-as in-noise)" if form == "none" and latent_dim > 20 else ""
    told = f"label: {form}{hint}" + (f", {len(names)} classes" if names else "")
    assumed = [f"{latent_dim} {options.noise or 'normal'} values", told, f"pixels: {pixels}", *notes]
    return dataclasses.replace(raw, read=read), f"assumed {'; '.join(assumed)}"


def label_input(tensors, sizes, form, path, classes):
    """Which input takes the label, and in which of LABEL_FORMS: (index or None, form)."""
    kinds = {"number": lambda size: size == 1, "one-hot": lambda size: 1 < size <= classes}
    found = []
    for index, (tensor, size) in enumerate(zip(tensors, sizes, strict=True)):
        named = any(word in tensor.name.lower() for word in LABEL_WORDS)
        likely = (named, "int" in str(tensor.dtype), size == 1, size == classes)
        fitting = [kind for kind, fits in kinds.items() if fits(size) and form in (None, kind)]
        found += [(likely, index, kind) for kind in fitting]
    if form in ("none", "in-noise", "in-noise-first") or (form is None and len(tensors) == 1):
        return None, form or "none"
    found.sort(reverse=True)
    if not found or (len(found) > 1 and found[0][0] == found[1][0]) or not any(found[0][0]):
        shapes = [(tensor.name, tuple(tensor.shape)) for tensor in tensors]
        raise InputError(f"{path}: none or several inputs {shapes} could be the label; say --label-as none")
    return found[0][1:]


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


def normal_form(images, what, options):
    """Images in any layout() as (uint8 (N, height, width, 1), notes)."""
    gray, pixels = pictures.to_bytes(images, what, options.pixels)
    cut, notes = border_crop(gray, options.fit)
    notes = ([f"pixels: {pixels}"] if images.dtype != np.uint8 else []) + notes
    return gray[cut][..., None], notes


def known_labels(array, class_names):
    """Labels int64 (N,) of what pictures.is_label() holds for labels, or None where these are no classes."""
    labels, names = pictures.class_names(array)
    try:
        return np.array([datasets.class_index(name, class_names) for name in names], "int64")[labels]
    except InputError:
        return None
