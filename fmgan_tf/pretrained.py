"""What assets/ holds, verified by hash. Imports no Keras before a model is loaded."""

import hashlib
import pathlib

from fmgan_tf import InputError, recipes

ASSETS = pathlib.Path(__file__).parent.parent / "assets"
SUMS = "SHA256SUMS"  # in ASSETS: a line for every shipped model, as sha256sum writes and checks them


def digests():
    """The SHA-256 of every shipped model: dict from its name, like "cgan/generator.keras", to its digits."""
    path = ASSETS / SUMS
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def verified(name):
    """The path of a shipped file, a key of digests(), or an InputError if it is missing or damaged."""
    path, fix = ASSETS / name, "Fetch it again from the repository."
    try:
        content = path.read_bytes()
        expected = digests()[name]
    except OSError as error:
        raise InputError(f"The shipped file {path} cannot be read ({error.strerror}). {fix}") from error
    except KeyError:
        raise InputError(f"{ASSETS / SUMS} is missing or has no line for {name}. {fix}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        found = f"{len(content):,} bytes, SHA-256 {digest}"
        raise InputError(f"{path} is damaged: {found}, expected {expected}. {fix}")
    return path


def shipped():
    """The names of the recipes whose generators are shipped."""
    return tuple(name.split("/")[0] for name in digests() if name.endswith("/generator.keras"))


def load_pretrained(recipe):
    """The shipped generator of a recipe, one of shipped(): the moving average at the end of a full run.

    Returns:
        keras.Model, float32 noise (N, latent_dim), and with it int labels (N,) where the recipe is
        conditional -> float32 images (N, height, width, 1), in [-1, 1] or, of dense-cgan, in [0, 1].
    Raises:
        InputError: no generator of that recipe is shipped, or its file is missing or damaged.
    """
    known = shipped()
    if recipe not in known:
        listing = "none is shipped yet; `train` makes one"
        if known:
            near = recipes.nearest(recipe, known)
            listing = f"those of {', '.join(known)} are shipped. Did you mean {near!r}?"
        raise InputError(f"No pretrained generator of {recipe!r}: {listing}")
    path = verified(f"{recipe}/generator.keras")

    import keras

    return keras.models.load_model(path, compile=False)  # safe mode: no code from the file is run
