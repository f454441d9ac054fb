"""Makes .keras files small: rounded weights, compressed. Used by records.py."""

import io
import zipfile

import h5py
import numpy as np

from fmgan_tf.runs.folder import save_model


def round_weights(weights):
    """Rounds float32 to multiples of a power of two, at most a 16th of their deviation; up to 1,000 stay."""
    if weights.size <= 1000 or not weights.std():
        return weights
    step = 2.0 ** np.floor(np.log2(weights.std() / 16))
    return (np.rint(weights / step) * step).astype("float32")


def save_small(model, path):
    """Saves a model, its weights rounded in place, as a plain .keras file that is far smaller."""
    model.set_weights([round_weights(weight) for weight in model.get_weights()])
    save_model(model, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["model.weights.h5"] = compress(parts["model.weights.h5"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def compress(content):
    """An HDF5 file with its large arrays compressed, bytes of equal weight side by side (HDF5's shuffle)."""
    packed = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as source, h5py.File(packed, "w") as target:

        def copy(name, item):
            if isinstance(item, h5py.Dataset):
                large = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
                made = target.create_dataset(name, data=item[()], **large if item.size > 1000 else {})
            else:
                made = target.require_group(name)
            made.attrs.update(item.attrs)

        target.attrs.update(source.attrs)
        source.visititems(copy)
    return packed.getvalue()
