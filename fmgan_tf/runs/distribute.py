"""More than one device, or machine, on tf.distribute. Each replica gets its part of the images, noise and
shifts; gradients are averaged; batch normalization sees the whole batch: all take the same step.
"""

import contextlib
import json
import os
import shutil
import tempfile

import keras
import tensorflow as tf

from fmgan_tf import InputError
from fmgan_tf.runs.folder import RunError

EXAMPLE = '{"cluster": {"worker": ["a:12345", "b:12345"]}, "task": {"type": "worker", "index": 0}}'


def build_strategy(name):
    """A tf.distribute.Strategy: "one" device, "mirrored" on all GPUs of this machine or else its logical CPU
    devices, or "multiworker", see https://www.tensorflow.org/guide/distributed_training. Call it first, since
    TensorFlow joins a cluster only at its start. InputError if that fails."""
    if name == "one":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        config["cluster"]["worker"][config["task"]["index"]]  # without them TensorFlow would train alone
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, ValueError, LookupError, TypeError) as error:
        needs = f"expected JSON like {EXAMPLE}, all but the index the same everywhere"
        raise InputError(
            f"TF_CONFIG is {text!r}, {needs}, free ports and all others there ({error})"
        ) from error


def is_multiworker(strategy):
    """Whether other processes take part."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def own_folder(folder, strategy):
    """A context of the folder to write to: the run's for worker 0, or the only process; for other workers,
    who have to take part in saving a model, a temporary copy."""
    if not is_multiworker(strategy) or not strategy.cluster_resolver.task_id:
        return contextlib.nullcontext(folder)
    temporary = tempfile.TemporaryDirectory()
    if folder.exists():
        shutil.copytree(folder, temporary.name, dirs_exist_ok=True)
    return temporary


def split(stream, batch_size, strategy):
    """What fit() takes for every replica to get its rows of each batch, in the order of the replicas, from a
    tf.data.Dataset of whole batches. RunError if batch_size is no multiple of the number of replicas."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise RunError(
            f"batch_size is {batch_size}, expected a multiple of {replicas}, the number of replicas"
        )
    if replicas == 1:
        return stream

    def of_worker(context):
        rows = batch_size // context.num_input_pipelines
        own = slice(context.input_pipeline_id * rows, (context.input_pipeline_id + 1) * rows)
        parts = stream.map(lambda images, *labels: (images[own], labels[0][own]) if labels else images[own])
        return parts.rebatch(batch_size // replicas, drop_remainder=True)

    return strategy.distribute_datasets_from_function(of_worker)


def adapt(batch_size, kind):
    """A subclass of gan.GAN, or of an optimizer, whose replicas do together what one device does alone with
    `batch_size` images."""

    class Shared(kind):
        def __init__(self, *networks, **settings):
            super().__init__(*networks, **settings)
            for layer in networks[0]._flatten_layers():
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True

        def draw(self, count, number):
            return _own_part(super().draw(count * _replicas(), number), count)

        def offsets(self, count):
            return _own_part(super().offsets(count * _replicas()), count)

        def _maybe_symbolic_build(self, **_):
            """Keras would build models from a batch here, and fails between workers. These are built."""

        def train_step(self, batch):
            shape = (batch_size // _replicas(),)  # between workers TensorFlow forgets it
            known = tf.nest.map_structure(lambda x: tf.ensure_shape(x, shape + x.shape[1:]), batch)
            return _in_rows(super().train_step(known))

        def test_step(self, batch):
            return _in_rows(super().test_step(batch))

        def evaluate(self, *data, **options):
            super().evaluate(*data, **options)
            return {"fid": float(self.fid.result())}  # of all replicas; the last step's is of one

    class Averaging(kind):
        def apply(self, gradients, variables):
            super().apply([tf.convert_to_tensor(each) / _replicas() for each in gradients], variables)

    return Shared if issubclass(kind, keras.Model) else Averaging


def _replicas():
    return tf.distribute.get_strategy().num_replicas_in_sync


def _own_part(whole, count):
    """This replica's part of what is drawn for all: the one that it would be on one device."""
    parts = tf.reshape(whole, (_replicas(), count, whole.shape[-1]))
    return parts[tf.distribute.get_replica_context().replica_id_in_sync_group]


def _in_rows(values):
    """Scalars; between workers as arrays of one number, for there Keras averages along an axis."""
    between = is_multiworker(tf.distribute.get_strategy())
    return {name: value[None] if between else value for name, value in values.items()}
