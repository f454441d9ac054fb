"""More than one device, or machine, on tf.distribute: replicas together do what one device does with the
whole batch. Each gets its part of the images, noise and shifts; gradients are averaged; batch normalization
sees the whole batch; so every replica takes the same step.
"""

import json
import os

import keras
import tensorflow as tf

from fmgan_tf import InputError

EXAMPLE = '{"cluster": {"worker": ["host-a:12345", "host-b:12345"]}, "task": {"type": "worker", "index": 0}}'


def build_strategy(name):
    """Call it before anything else computes: TensorFlow joins a cluster only at its start.
    Args:
        name: "one" device; "mirrored" on all GPUs of this machine, else all its logical CPU devices; or
            "multiworker", on all machines that TF_CONFIG names, when all of them are there, see
            https://www.tensorflow.org/guide/distributed_training.
    Returns:
        tf.distribute.Strategy.
    Raises:
        InputError: TF_CONFIG names no cluster and task, or the cluster does not come about.
    """
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "multiworker":
        text = os.environ.get("TF_CONFIG", "")
        try:
            config = json.loads(text)
            workers = config["cluster"]["worker"]
            kind, index = config["task"]["type"], config["task"]["index"]
            if kind != "worker" or index not in range(len(workers)):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"TF_CONFIG is {text!r}, expected JSON like {EXAMPLE}, the same cluster on every machine and "
                "an index of its own on each"
            ) from None
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except (tf.errors.OpError, ValueError) as error:
            reason = getattr(error, "message", str(error)).splitlines()[0]
            needs = "Each worker needs HOST:PORT, a free port and all the others"
            raise InputError(f"The cluster {workers} does not come about: {reason}. {needs}") from error
    return tf.distribute.get_strategy()


def is_chief(strategy):
    """Whether this process keeps the run's records: the only one, or the worker with index 0."""
    resolver = getattr(strategy, "cluster_resolver", None)
    return resolver is None or not resolver.task_id


def is_multiworker(strategy):
    """Whether other processes take part."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def split(stream, batch_size, strategy):
    """What fit() takes for every replica to get its rows of each batch, in the order of the replicas, from a
    tf.data.Dataset of whole batches. batch_size is a multiple of the number of replicas."""
    if strategy is tf.distribute.get_strategy():  # one device
        return stream

    def of_worker(context):
        rows = batch_size // context.num_input_pipelines
        first = context.input_pipeline_id * rows

        def mine(*batch):
            parts = tuple(array[first : first + rows] for array in batch)
            return parts if len(parts) > 1 else parts[0]

        return stream.map(mine).rebatch(batch_size // strategy.num_replicas_in_sync, drop_remainder=True)

    return strategy.distribute_datasets_from_function(of_worker)


def shared(kind, batch_size):
    """A subclass of gan.GAN or gan.ConditionalGAN, whose replicas do together what one device does alone with
    `batch_size` images. It is built and trained in a strategy's scope, with averaging() optimizers."""

    class Shared(kind):
        def __init__(self, generator, discriminator, **settings):
            super().__init__(generator, discriminator, **settings)
            _synchronize(generator)
            _synchronize(discriminator)

        def draw(self, count, number):
            return _mine(super().draw(count * _replicas(), number), count)

        def offsets(self, count):
            return _mine(super().offsets(count * _replicas()), count)

        def _maybe_symbolic_build(self, **_):
            """Keras builds models from a batch here, and fails between workers. These are built."""

        def train_step(self, batch):
            def with_rows(array):  # between workers TensorFlow forgets how many
                return tf.ensure_shape(array, (batch_size // _replicas(), *array.shape[1:]))

            return _in_rows(super().train_step(tf.nest.map_structure(with_rows, batch)))

        def test_step(self, batch):
            return _in_rows(super().test_step(batch))

    return Shared


def averaging(kind):
    """A subclass of a Keras optimizer that takes the mean of the replicas' gradients, not the sum."""

    class Averaging(kind):
        def apply(self, gradients, variables):
            super().apply([tf.convert_to_tensor(gradient) / _replicas() for gradient in gradients], variables)

    return Averaging


def _replicas():
    return tf.distribute.get_strategy().num_replicas_in_sync


def _mine(whole, count):
    """This replica's part of what is drawn for all: the one that it would be on one device."""
    parts = tf.reshape(whole, (_replicas(), count, whole.shape[-1]))
    return parts[tf.distribute.get_replica_context().replica_id_in_sync_group]


def _in_rows(values):
    """Scalars; between workers as arrays of one number, for there Keras averages along an axis."""
    if is_multiworker(tf.distribute.get_strategy()):
        return {name: value[None] for name, value in values.items()}
    return values


def _synchronize(network):
    """Makes its batch normalization see the batches of all replicas as one."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
        elif isinstance(layer, keras.Model):
            _synchronize(layer)
