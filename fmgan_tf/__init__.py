"""fmgan_tf: the helper package of the fmgan course. Import its modules; this file costs nothing to import."""


class InputError(ValueError):
    """Something a user gave cannot be used. The message names it, what was expected, and how to mend it."""


class Diverged(Exception):
    """A loss became NaN or infinite. The message says at which step and what was kept."""
