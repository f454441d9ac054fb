"""Every named system, as data: which networks, which loss, which hyper-parameters. Imports no TensorFlow."""

import dataclasses
import difflib

from fmgan_tf import InputError


def _setting(default, expected, valid):
    """A field that --set may change: its default, and what a value must be, in words and as a test."""
    return dataclasses.field(default=default, metadata={"expected": expected, "valid": valid})


LOSSES = ("non_saturating", "minimax", "hinge", "damped_hinge")


def _positive(value):
    return value >= 1


def _share(value):
    return 0 <= value < 1


def _rate(value):
    return 0 < value <= 1


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that defines a training run, except for the data, the seed and the budget.

    loss: key of losses.LOSSES.
    epochs, minutes: length of the full run, and of a run when nobody says how long.
    generator_learning_rate, discriminator_learning_rate, beta_1, beta_2: of Adam.
    cooldown: last share of the run in which the learning rates fall linearly to zero.
    ema_decay: of the generator's moving average; 0 turns it off.
    patience: stop after so many epochs without a lower val_fid, and restore the best average; 0 turns it off.
    shift, label_weight, label_decay: see gan.ConditionalGAN; 0 turns each off.
    """

    name: str  # what the command line calls it
    summary: str  # one line for `list`
    generator: str  # name of its builder in models.py
    discriminator: str
    pixels: str = "tanh"  # the generator's last activation (images in [-1, 1]), or "sigmoid" (in [0, 1])
    conditional: bool = False  # whether both networks take the label as well
    classes: int = 10  # the first so many are learned, see data.parts
    loss: str = _setting(
        "non_saturating", "non_saturating, minimax, hinge or damped_hinge", LOSSES.__contains__
    )
    image_size: int = _setting(28, "28, 32 or 64", (28, 32, 64).__contains__)
    latent_dim: int = _setting(100, "1 or more", _positive)
    batch_size: int = _setting(64, "1 to 60000", lambda value: 1 <= value <= 60_000)
    epochs: int = _setting(50, "1 or more", _positive)
    minutes: float = _setting(3.0, "more than 0", lambda value: 0 < value < float("inf"))
    steps_per_epoch: int = _setting(0, "0 (one pass over the images) or more", lambda value: value >= 0)
    generator_learning_rate: float = _setting(8e-4, "more than 0, at most 1", _rate)
    discriminator_learning_rate: float = _setting(8e-4, "more than 0, at most 1", _rate)
    beta_1: float = _setting(0.5, "0 or more, less than 1", _share)
    beta_2: float = _setting(0.99, "0 or more, less than 1", _share)
    cooldown: float = _setting(0.0, "0 to 1", lambda value: 0 <= value <= 1)
    ema_decay: float = _setting(0.995, "0 or more, less than 1", _share)
    patience: int = _setting(0, "0 (never stop early) or more", lambda value: value >= 0)
    shift: int = _setting(0, "0 to 8", lambda value: 0 <= value <= 8)
    label_weight: float = _setting(0.0, "0 to 100", lambda value: 0 <= value <= 100)
    label_decay: float = _setting(0.0, "0 to 1", lambda value: 0 <= value <= 1)


FIELDS = {field.name: field for field in dataclasses.fields(Recipe)}
SETTINGS = tuple(name for name, field in FIELDS.items() if field.metadata)  # what --set may change
BOTH_RATES = ("generator_learning_rate", "discriminator_learning_rate")  # what learning_rate sets

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="dcgan",
            summary="convolutional GAN, all classes, unconditional (notebooks 02 and 03)",
            generator="build_dcgan_generator",
            discriminator="build_dcgan_discriminator",
        ),
        Recipe(
            name="deconv-gan",
            summary="transposed-convolution generator against a dense discriminator (notebook 03)",
            generator="build_deconv_generator",
            discriminator="build_dense_discriminator",
            batch_size=128,
            generator_learning_rate=1e-4,
            discriminator_learning_rate=1e-4,
        ),
        Recipe(
            name="deconv-gan-tuned",
            summary="the networks of deconv-gan with other rates, batches and average (notebook 03)",
            generator="build_deconv_generator",
            discriminator="build_dense_discriminator",
            batch_size=32,
            discriminator_learning_rate=4e-4,
            ema_decay=0.999,
        ),
        Recipe(
            name="cgan",
            summary="convolutional conditional GAN, all classes, the flagship (a simpler one in notebook 04)",
            generator="build_modulated_generator",
            discriminator="build_classifying_discriminator",
            conditional=True,
            loss="damped_hinge",
            latent_dim=64,
            batch_size=32,
            ema_decay=0.999,
            shift=2,
            label_weight=1.0,
            label_decay=5e-4,
        ),
        Recipe(
            name="dense-cgan",
            summary="fully connected conditional GAN, T-shirt/top and Trouser (notebook 04)",
            generator="build_dense_cgan_generator",
            discriminator="build_dense_cgan_discriminator",
            pixels="sigmoid",
            conditional=True,
            classes=2,
            batch_size=32,
            generator_learning_rate=4e-4,
            discriminator_learning_rate=4e-4,
            ema_decay=0.998,
            patience=25,
        ),
    )
}
DEFAULT = "cgan"


def nearest(name, known):
    """The known name that looks most like `name`; one that begins or ends like it comes first."""
    alike = [word for word in known if name and (word.startswith(name) or word.endswith(name))]
    return difflib.get_close_matches(name, alike or known, n=1, cutoff=0.0)[0]


def get(name):
    """The recipe of that name, or an InputError that lists them and the nearest."""
    if name not in RECIPES:
        near = nearest(name, RECIPES)
        raise InputError(f"No recipe {name!r}. The recipes are {', '.join(RECIPES)}. Did you mean {near!r}?")
    return RECIPES[name]


def from_record(fields):
    """The recipe of a run.json, from what json made of dataclasses.asdict(recipe).

    Raises:
        InputError: a field is missing, unknown, of the wrong type or out of range.
    """
    try:
        recipe = Recipe(**fields)
    except TypeError as error:
        raise InputError(f"no recipe: {error}") from error
    for name, field in FIELDS.items():
        value = getattr(recipe, name)
        right_type = type(value) in ({int, float} if field.type is float else {field.type})
        if not right_type or (field.metadata and not field.metadata["valid"](value)):
            raise InputError(f"no recipe: {name} is {value!r}")
    if recipe.pixels not in ("tanh", "sigmoid") or not 1 <= recipe.classes <= 10:
        raise InputError(f"no recipe: pixels is {recipe.pixels!r} and classes {recipe.classes}")
    return recipe


def override(recipe, settings):
    """The recipe with some hyper-parameters changed.

    Args:
        settings: dict from name to value; strings are converted. `learning_rate` sets both networks'.
    Raises:
        InputError: unknown name, or a value of the wrong type or out of range.
    """
    changes = {}
    for name, value in settings.items():
        for field in BOTH_RATES if name == "learning_rate" else (name,):
            changes[field] = _converted(recipe, name, field, value)
    return dataclasses.replace(recipe, **changes)


def _converted(recipe, name, field, value):
    """The value of a setting in the type of its field; `name` is what the user called it."""
    if field not in SETTINGS:
        known = [*SETTINGS, "learning_rate"]
        near = nearest(name, known)
        raise InputError(f"No setting {name!r}. The settings are {', '.join(known)}. Did you mean {near!r}?")
    kind, bounds, before = FIELDS[field].type, FIELDS[field].metadata, getattr(recipe, field)
    try:
        converted = kind(value)
    except (TypeError, ValueError):
        converted = None
    if converted is None or not bounds["valid"](converted):
        raise InputError(f"{name} is {value!r}, expected {kind.__name__}: {bounds['expected']}")
    if field in ("shift", "label_weight", "label_decay") and converted and not before:
        raise InputError(f"{recipe.name} has no {name}: it is {before} there, and can be nothing else")
    return converted
