"""What assets/ holds, verified by hash. Imports no Keras before a model is loaded."""

import difflib
import hashlib
import pathlib

from fmgan_tf import InputError

ASSETS = pathlib.Path(__file__).parent.parent / "assets"

# Every model that is shipped. A recipe's averaged generator is RECIPE/generator.keras.
SHA256 = {
    "classifier/classifier.keras": "e01de442165552588fd721fd8af587d1d715d91b5e7109ccb1ea47efc13c7e51",
    "cgan/generator.keras": "a7a957e4b5c52ef319f0599073c946a3f5461e61154b8c69849767691e038330",
    "dcgan/generator.keras": "7208470475370f117629050de5a6d4a176f797ed6d4ff47af089a3a484fb3b1c",
    "dense-cgan/generator.keras": "fc9cf3582301df9444973619201f66328bd96bbb6c8218b2ab48d574abf3cfdf",
    "deconv-gan/generator.keras": "f59316451f5a5c24a652f5dd6729777f5edc88c15e14753c6c4c22d855eb179e",
}


def verified(name):
    """The path of a shipped file, after a check that its content is what was shipped.

    Args:
        name: str, a key of SHA256.

    Returns:
        pathlib.Path.

    Raises:
        InputError: the file is missing, cannot be read or is damaged.
    """
    path = ASSETS / name
    mend = "Fetch it again from the repository."
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"The shipped file {path} cannot be read ({error.strerror}). {mend}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        raise InputError(
            f"{path} is damaged: {len(content):,} bytes, SHA-256 {digest}, expected {SHA256[name]}. {mend}"
        )
    return path


def shipped():
    """The recipes whose generators are shipped.

    Returns:
        tuple of str, names of recipes.
    """
    return tuple(name.removesuffix("/generator.keras") for name in SHA256 if name.endswith("/generator.keras"))


def load_pretrained(recipe):
    """The shipped generator of a recipe: the moving average at the end of a full run.

    Args:
        recipe: str, one of shipped().

    Returns:
        keras.Model, float32 noise (N, latent_dim), and with it integer labels (N,) where the recipe is conditional ->
        float32 images (N, height, width, 1), in [-1, 1] or, of dense-cgan, in [0, 1].

    Raises:
        InputError: no generator of that recipe is shipped (the message lists those that are, and the nearest), or its
            file is missing or damaged.
    """
    recipes = shipped()
    if recipe not in recipes:
        listing = "none is shipped yet; `train` makes one"
        if recipes:
            near = difflib.get_close_matches(recipe, recipes, n=1, cutoff=0.0)[0]
            listing = f"those of {', '.join(recipes)} are shipped. Did you mean {near!r}?"
        raise InputError(f"No pretrained generator of {recipe!r}: {listing}")
    path = verified(f"{recipe}/generator.keras")

    import keras

    return keras.models.load_model(path, compile=False)  # safe mode: no code from the file is run
