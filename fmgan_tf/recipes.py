"""Every named system, as data: which networks, which loss, which hyper-parameters. Imports no TensorFlow."""

import dataclasses
import difflib

from fmgan_tf import InputError

ANY = 10**9
LOSSES = ("non_saturating", "minimax", "hinge", "damped_hinge", "least_squares")  # keys of losses.LOSSES
MORE_LOSSES = ("non_saturating_r1", "wasserstein_clipped", "wasserstein_penalty", "relativistic")


def _setting(default, low, high=ANY):
    """A field that --set may change, with the lowest and the highest value that it may have."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


def _choice(default, *choices):
    """A field that --set may change to one of some values."""
    return dataclasses.field(default=default, metadata={"choices": choices})


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that defines a training run, except for the data, the seed and the budget.

    loss: key of losses.LOSSES.
    epochs, minutes: length of the full run, and of a run when nobody says how long.
    steps_per_epoch: 0 for one pass over the images.
    generator_learning_rate, discriminator_learning_rate, beta_1, beta_2: of Adam.
    ema_decay: of the generator's moving average; 0 turns it off.
    patience: stop after so many epochs without a lower val_fid, and restore the best weights; 0 turns it off.
    second_epoch, second_discriminator, ...: after so many epochs another discriminator takes over, which
        learns alone for one epoch; then both play on, by that loss, at these rates, and the cost of classes
        weighs second_recognition times as much for it as for the generator. Never with 0, or a patience.
    shift, label_weight, label_decay: see gan.ConditionalGAN; 0 turns each off.
    """

    name: str  # what the command line calls it
    summary: str  # one line for `list`: what it is for, and the notebook that teaches it
    generator: str  # name of its builder in models.py
    discriminator: str = ""  # none where there is no game
    pixels: str = "tanh"  # the range of its images, key of data.RANGES: "tanh" ([-1, 1]) or "unit" ([0, 1])
    conditional: bool = False  # whether both networks take the label as well
    classes: int = 10  # the first so many are learned, see data.split_dataset
    loss: str = _choice("non_saturating", *LOSSES, *MORE_LOSSES)
    image_size: int = _choice(28, 28, 32, 64)
    latent_dim: int = _setting(100, 1)
    batch_size: int = _setting(64, 1)
    epochs: int = _setting(50, 1)
    minutes: float = _setting(3.0, 1e-4)
    steps_per_epoch: int = _setting(0, 0)
    generator_learning_rate: float = _setting(8e-4, 1e-9, 1.0)
    discriminator_learning_rate: float = _setting(8e-4, 1e-9, 1.0)
    beta_1: float = _setting(0.5, 0.0, 0.99999)
    beta_2: float = _setting(0.99, 0.0, 0.99999)
    ema_decay: float = _setting(0.995, 0.0, 0.99999)
    patience: int = _setting(0, 0)
    shift: int = _setting(0, 0, 8)
    label_weight: float = _setting(0.0, 0.0, 100.0)
    label_decay: float = _setting(0.0, 0.0, 1.0)
    second_discriminator: str = ""
    second_epoch: int = _setting(0, 0)
    second_loss: str = _choice("non_saturating", *LOSSES)
    second_recognition: float = _setting(3.0, 0.0, 100.0)
    second_generator_learning_rate: float = _setting(2e-4, 1e-9, 1.0)
    second_discriminator_learning_rate: float = _setting(4e-4, 1e-9, 1.0)


FIELDS = {field.name: field for field in dataclasses.fields(Recipe)}
SETTINGS = tuple(name for name, field in FIELDS.items() if field.metadata)  # what --set may change
OF_A_GAME = tuple(  # settings that mean nothing to a recipe without a discriminator
    name for name in SETTINGS if name.startswith(("loss", "discriminator", "shift", "label", "second"))
)
BOTH_RATES = ("generator_learning_rate", "discriminator_learning_rate")  # what learning_rate sets

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="cgan",
            summary="the flagship: all ten classes by label (04, 07)",
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
            second_discriminator="build_larger_discriminator",
        ),
        Recipe(
            name="dcgan",
            summary="a first convolutional GAN, without labels (02, 03)",
            generator="build_dcgan_generator",
            discriminator="build_dcgan_discriminator",
        ),
        Recipe(
            name="deconv-gan",
            summary="transposed convolutions against a dense discriminator (03)",
            generator="build_deconv_generator",
            discriminator="build_dense_discriminator",
            batch_size=128,
            generator_learning_rate=1e-4,
            discriminator_learning_rate=1e-4,
        ),
        Recipe(
            name="deconv-gan-tuned",
            summary="deconv-gan with better rates, batches and average (03)",
            generator="build_deconv_generator",
            discriminator="build_dense_discriminator",
            batch_size=32,
            discriminator_learning_rate=4e-4,
            ema_decay=0.999,
        ),
        Recipe(
            name="dense-cgan",
            summary="T-shirt/top and Trouser by label, dense layers alone (04)",
            generator="build_dense_cgan_generator",
            discriminator="build_dense_cgan_discriminator",
            pixels="unit",
            conditional=True,
            classes=2,
            batch_size=32,
            generator_learning_rate=4e-4,
            discriminator_learning_rate=4e-4,
            ema_decay=0.998,
            patience=25,
        ),
        Recipe(
            name="flow",
            summary="no game: flow matching, all ten classes by label (08)",
            generator="build_flow_generator",
            conditional=True,
            latent_dim=784,
            batch_size=64,
            steps_per_epoch=3000,
            generator_learning_rate=2e-3,
            beta_1=0.9,
            ema_decay=0.999,
        ),
    )
}
DEFAULT = "cgan"


def nearest(name, known):
    """The known name that looks most like `name`; one that begins or ends like it comes first."""
    similar = [word for word in known if name and (word.startswith(name) or word.endswith(name))]
    return difflib.get_close_matches(name, similar or known, n=1, cutoff=0.0)[0]


def check_name(name, known, what="recipe"):
    """InputError, with those known and the nearest, for a name that is not among them."""
    if name not in known:
        near = nearest(name, known)
        raise InputError(f"No {what} {name!r}; there are {', '.join(known)}. Did you mean {near!r}?")


def get(name, known=RECIPES):
    """The recipe of that name, or an InputError that lists those known and the nearest."""
    check_name(name, known)
    return known[name]


def from_record(fields):
    """The recipe of a run.json, from what json made of dataclasses.asdict(recipe); fields that are no longer
    in use are passed over. InputError if one is missing, of the wrong type or out of range."""
    fields = {name: value for name, value in fields.items() if name in FIELDS}
    if fields.get("pixels") == "sigmoid":  # what "unit" was called before
        fields["pixels"] = "unit"
    try:
        recipe = Recipe(**fields)
    except TypeError as error:
        raise InputError(f"no recipe: {error}") from error
    for name, field in FIELDS.items():
        value = getattr(recipe, name)
        if type(value) is not field.type and (field.type, type(value)) != (float, int):
            raise InputError(f"no recipe: {name} is {value!r}")
    override(recipe, {name: getattr(recipe, name) for name in SETTINGS}, fixed=())
    if recipe.pixels not in ("tanh", "unit") or recipe.classes < 1:
        raise InputError(f"no recipe: pixels is {recipe.pixels!r} and classes {recipe.classes}")
    return recipe


def override(recipe, settings, fixed=("shift", "label_weight", "label_decay")):
    """The recipe with some hyper-parameters changed.

    Args:
        settings: dict from name to value; strings are converted. `learning_rate` sets both networks'.
        fixed: settings that stay 0 where they are.
    Raises:
        InputError: unknown name, or a value of the wrong type or out of range.
    """
    changes = {}
    both = BOTH_RATES if recipe.discriminator else BOTH_RATES[:1]
    for name, value in settings.items():
        for field in both if name == "learning_rate" else (name,):
            check_name(field, [*SETTINGS, "learning_rate"], "setting")
            changes[field] = _converted(name, FIELDS[field], value)
            if field == "second_epoch" and changes[field] and not recipe.second_discriminator:
                raise InputError(f"{recipe.name} has no second discriminator; leave second_epoch at 0")
            if not recipe.discriminator and field in OF_A_GAME and changes[field] != getattr(recipe, field):
                raise InputError(f"{recipe.name} plays no game, so it has no {field}")
            if field in fixed and changes[field] and not getattr(recipe, field):
                raise InputError(f"{recipe.name} has no {name}: it is 0 there, and can be nothing else")
    return dataclasses.replace(recipe, **changes)


def _converted(name, field, value):
    """The value of a setting in the type of its field; `name` is what the user called it."""
    choices, low, high = (field.metadata.get(key) for key in ("choices", "low", "high"))
    try:
        converted = field.type(value)
        if converted in choices if choices else low <= converted <= high:
            return converted
    except (TypeError, ValueError):
        pass
    expected = ", ".join(map(str, choices)) if choices else f"{field.type.__name__} from {low:g} to {high:g}"
    raise InputError(f"{name} is {value!r}, expected {expected}")
