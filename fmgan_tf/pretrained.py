"""What assets/ holds, verified by hash. Imports no Keras before a model is loaded."""

import difflib
import hashlib
import pathlib

from fmgan_tf import InputError

ASSETS = pathlib.Path(__file__).parent.parent / "assets"

# Every model that is shipped. A recipe's averaged generator is RECIPE/generator.keras.
SHA256 = {
    "classifier/classifier.keras": "ec9351b499a7b0670fe2d075373b3568c22f28d11c0ab42f54a06d9ddb91bcf9",
    "cgan/generator.keras": "0e3b69b4566a22d45defd711300fe276d57342f434518ea82fa31713c01aecb7",
    "dcgan/generator.keras": "143cd3a36746a0dda16f4eb25c890c1ad83be99483c1d8ed1b41fdaa5ffcd73e",
    "dense-cgan/generator.keras": "bf19c8cc2ec708900feb283a3430bbcc9fd13d5f6a6e9af76177182270058d73",
    "deconv-gan/generator.keras": "ce5bd5326b970d2141510bd1f8f3360e396c0fd3add6ada82d6578c9d0d3bcc3",
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
