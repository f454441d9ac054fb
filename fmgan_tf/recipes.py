"""Every named system, as data: which networks, which loss, which hyper-parameters. Imports no TensorFlow."""

import dataclasses
import difflib

from fmgan_tf import InputError


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that defines a training run, except for the data, the seed and the budget.

    name: what the command line calls it.
    summary: one line for `list`.
    generator, discriminator: names of builders in models.py.
    pixels: the generator's last activation, "tanh" (images in [-1, 1]) or "sigmoid" (in [0, 1]).
    conditional: whether both networks take the label as well.
    classes: the first so many are learned. With all ten the dataset's own training images, with fewer 80 % of all 70,000
        images of those classes, see data.parts.
    loss: key of losses.LOSSES.
    image_size: pixels; 28 as it is, 32 or 64 resized.
    latent_dim: number of noise values.
    batch_size: real images per step (as many are generated).
    epochs: length of the full run.
    minutes: length of a run when nobody says how long.
    steps_per_epoch: 0 for one pass over the training images, else this many.
    generator_learning_rate, discriminator_learning_rate: of Adam.
    beta_1, beta_2: of Adam.
    cooldown: last share of the run in which the learning rates fall linearly to zero.
    ema_decay: of the generator's moving average; 0 turns it off.
    patience: stop after so many epochs without a lower val_fid, and restore the best average; 0 turns it off.
    shift, label_weight, label_decay: see gan.ConditionalGAN; 0 turns each off. A label_weight needs a discriminator that
        classifies.
    """

    name: str
    summary: str
    generator: str
    discriminator: str
    pixels: str = "tanh"
    conditional: bool = False
    classes: int = 10
    loss: str = "non_saturating"
    image_size: int = 28
    latent_dim: int = 100
    batch_size: int = 64
    epochs: int = 50
    minutes: float = 3.0
    steps_per_epoch: int = 0
    generator_learning_rate: float = 8e-4
    discriminator_learning_rate: float = 8e-4
    beta_1: float = 0.5
    beta_2: float = 0.99
    cooldown: float = 0.0
    ema_decay: float = 0.995
    patience: int = 0
    shift: int = 0
    label_weight: float = 0.0
    label_decay: float = 0.0


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
            name="cgan",
            summary="convolutional conditional GAN, all classes, the flagship (a simpler one in notebook 04)",
            generator="build_modulated_generator",
            discriminator="build_classifying_discriminator",
            conditional=True,
            loss="hinge",
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
            batch_size=256,
            generator_learning_rate=4e-4,
            discriminator_learning_rate=4e-4,
            patience=10,
        ),
    )
}
DEFAULT = "cgan"


@dataclasses.dataclass(frozen=True)
class ClassifierRecipe:
    """Everything that defines the training of the classifier whose features FID-FMNIST is measured on.

    No picture is ever mirrored: shoes point one way in this dataset, and the features must see when they do not.

    filters: depth of its first layer, see models.build_classifier.
    batch_size: images per step.
    epochs: length of the full run.
    learning_rate: of AdamW at its height; it rises over the first twelfth of the run and falls to zero as a cosine.
    weight_decay: of AdamW.
    shift: images are moved by up to so many pixels each way.
    """

    name: str = "classifier"
    summary: str = "Fashion-MNIST classifier, whose features FID-FMNIST is measured on (notebook 05)"
    filters: int = 32
    batch_size: int = 128
    epochs: int = 12
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    shift: int = 1


CLASSIFIER = ClassifierRecipe()

# What --set may change: what a value must be, in words and as a test.
SETTINGS = {
    "loss": (
        "non_saturating, minimax or hinge",
        lambda value: value in ("non_saturating", "minimax", "hinge"),
    ),
    "image_size": ("28, 32 or 64", lambda value: value in (28, 32, 64)),
    "latent_dim": ("1 or more", lambda value: value >= 1),
    "batch_size": ("1 to 60000", lambda value: 1 <= value <= 60_000),
    "epochs": ("1 or more", lambda value: value >= 1),
    "minutes": ("more than 0", lambda value: 0 < value < float("inf")),
    "steps_per_epoch": ("0 (one pass over the images) or more", lambda value: value >= 0),
    "generator_learning_rate": ("more than 0, at most 1", lambda value: 0 < value <= 1),
    "discriminator_learning_rate": ("more than 0, at most 1", lambda value: 0 < value <= 1),
    "beta_1": ("0 or more, less than 1", lambda value: 0 <= value < 1),
    "beta_2": ("0 or more, less than 1", lambda value: 0 <= value < 1),
    "cooldown": ("0 to 1", lambda value: 0 <= value <= 1),
    "ema_decay": ("0 or more, less than 1", lambda value: 0 <= value < 1),
    "patience": ("0 (never stop early) or more", lambda value: value >= 0),
    "shift": ("0 to 8", lambda value: 0 <= value <= 8),
    "label_weight": ("0 to 100", lambda value: 0 <= value <= 100),
    "label_decay": ("0 to 1", lambda value: 0 <= value <= 1),
}
_BOTH = {"learning_rate": ("generator_learning_rate", "discriminator_learning_rate")}


def nearest(name, known):
    """The known name that looks most like `name`; one that begins or ends like it comes first."""
    alike = [word for word in known if name and (word.startswith(name) or word.endswith(name))]
    return difflib.get_close_matches(name, alike or known, n=1, cutoff=0.0)[0]


def get(name):
    """The recipe of that name: of a GAN, or CLASSIFIER.

    Raises:
        InputError: there is none; the message lists them and the nearest.
    """
    known = {CLASSIFIER.name: CLASSIFIER, **RECIPES}
    if name not in known:
        raise InputError(
            f"No recipe {name!r}. The recipes are {', '.join(known)}. Did you mean {nearest(name, known)!r}?"
        )
    return known[name]


def from_record(fields):
    """The recipe that a run.json holds.

    Args:
        fields: what json made of dataclasses.asdict(recipe).

    Returns:
        Recipe.

    Raises:
        InputError: a field is missing, unknown, of the wrong type or out of range.
    """
    try:
        recipe = Recipe(**fields)
    except TypeError as error:
        raise InputError(f"no recipe: {error}") from error
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        right_type = type(value) in ({int, float} if field.type is float else {field.type})
        if not right_type or (field.name in SETTINGS and not SETTINGS[field.name][1](value)):
            raise InputError(f"no recipe: {field.name} is {value!r}")
    if recipe.pixels not in ("tanh", "sigmoid") or not 1 <= recipe.classes <= 10:
        raise InputError(f"no recipe: pixels is {recipe.pixels!r} and classes {recipe.classes}")
    return recipe


def override(recipe, settings):
    """The recipe with some hyper-parameters changed.

    Args:
        recipe: Recipe.
        settings: dict from name to value; strings are converted. `learning_rate` sets both networks'.

    Returns:
        Recipe.

    Raises:
        InputError: unknown name, or a value of the wrong type or out of range.
    """
    changes = {}
    for name, value in settings.items():
        for field in _BOTH.get(name, (name,)):
            if field not in SETTINGS:
                known = [*SETTINGS, *_BOTH]
                raise InputError(
                    f"No setting {name!r}. The settings are {', '.join(known)}. Did you mean {nearest(name, known)!r}?"
                )
            expected, valid = SETTINGS[field]
            kind = type(getattr(recipe, field))
            try:
                converted = kind(value)
            except (TypeError, ValueError):
                converted = None
            if converted is None or not valid(converted):
                raise InputError(f"{name} is {value!r}, expected {kind.__name__}: {expected}")
            if field in ("shift", "label_weight", "label_decay") and converted and not getattr(recipe, field):
                raise InputError(f"{recipe.name} has no {name}: it is {getattr(recipe, field)} there, and can be nothing else")
            changes[field] = converted
    return dataclasses.replace(recipe, **changes)
