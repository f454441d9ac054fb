"""How well a train step uses the processor: python -m fmgan_tf roofline.

An operation does so much arithmetic (FLOPs) and moves so many bytes between processor and memory. It can be
no faster than the slower of the two allows: the roof is peak * min(1, intensity / ridge), with intensity =
FLOPs / bytes and ridge = peak / bandwidth. Below the ridge it is memory-bound: the processor waits for
numbers.
Source: Williams, Waterman and Patterson 2009, https://doi.org/10.1145/1498765.1498785.
"""

import time
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from fmgan_tf import data
from fmgan_tf.bench import race

# Operations that neither compute nor copy, and those that only copy. All others count one FLOP per number.
_FREE = set(
    "Const Placeholder Identity IdentityN NoOp ReadVariableOp Reshape Squeeze ExpandDims Shape ShapeN "
    "StopGradient PreventGradient BroadcastGradientArgs".split()
)
_COPIES = set(
    "AssignVariableOp BroadcastTo Cast ConcatV2 Fill GatherNd GatherV2 MirrorPad OneHot Pack Pad PadV2 "
    "ResourceGather Slice Split StridedSlice Tile Transpose Unpack ZerosLike".split()
)
# How often these touch their variable, which is itself a resource of unknown size
_ASSIGNED = {"AssignVariableOp": 2, "AssignAddVariableOp": 3, "AssignSubVariableOp": 3}


class Operation(NamedTuple):
    """One operation of a step: its FLOPs (multiplications and additions), all bytes read and written once."""

    name: str
    kind: str
    flops: int
    bytes: int


class View(NamedTuple):
    """A train step on the roofline of its machine: real images a step, Operations and median seconds of one
    step, and the machine's peak in FLOP/s and bandwidth in bytes/s."""

    name: str
    batch_size: int
    operations: list
    seconds: float
    peak: float
    bandwidth: float

    @property
    def flops(self):
        """FLOPs of a step."""
        return sum(operation.flops for operation in self.operations)

    @property
    def bytes(self):
        """Bytes of a step."""
        return sum(operation.bytes for operation in self.operations)

    def roof(self, operation):
        """Seconds that an operation takes at least: (by arithmetic, by memory)."""
        return operation.flops / self.peak, operation.bytes / self.bandwidth

    @property
    def least(self):
        """Seconds of a step if every operation reached its roof."""
        return sum(max(self.roof(operation)) for operation in self.operations)

    @property
    def memory_bound(self):
        """Share of those seconds that goes to memory-bound operations, in [0, 1]."""
        bound = [max(times) for times in map(self.roof, self.operations) if times[1] > times[0]]
        return sum(bound) / self.least


def _numbers(tensor):
    """How many numbers a tensor holds; 0 where its shape is unknown or it holds none."""
    if tensor.dtype in (tf.resource, tf.variant, tf.string) or not tensor.shape.is_fully_defined():
        return 0
    return tensor.shape.num_elements()


def _count(operation):
    """The Operation that a tf.Operation is."""
    kind, inputs, outputs = operation.type, operation.inputs, operation.outputs
    if kind in _FREE:
        return Operation(operation.name, kind, 0, 0)
    tensors = [*inputs, *outputs]
    moved = sum(_numbers(tensor) * tensor.dtype.size for tensor in tensors if _numbers(tensor))
    moved *= _ASSIGNED.get(kind, 1)
    if kind == "MatMul":
        flops = 2 * _numbers(outputs[0]) * inputs[0].shape[0 if operation.get_attr("transpose_a") else 1]
    elif kind == "BatchMatMulV2":
        flops = 2 * _numbers(outputs[0]) * inputs[0].shape[-2 if operation.get_attr("adj_x") else -1]
    elif kind == "Conv2D":
        flops = 2 * _numbers(outputs[0]) * np.prod(inputs[1].shape[:3])
    elif kind == "Conv2DBackpropInput":  # a transposed convolution too
        flops = 2 * _numbers(inputs[2]) * np.prod(inputs[1].shape[:3])
    elif kind == "Conv2DBackpropFilter":
        flops = 2 * _numbers(inputs[2]) * np.prod(outputs[0].shape[:3])
    else:
        flops = 0 if kind in _COPIES else max(map(_numbers, tensors), default=0)
    return Operation(operation.name, kind, int(flops), moved)


def operations(function, *inputs):
    """What a compiled function computes of tensors or tf.TensorSpec of known shape, list of Operation,
    without what nobody needs. Fused operations count as not fused, zeros at the edge of a convolution as
    multiplied with."""
    graph = tf.function(function).get_concrete_function(*inputs).graph
    wanted = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    needed = {}
    while wanted:
        operation = wanted.pop()
        if operation.name not in needed:
            needed[operation.name] = operation
            wanted += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    counted = [_count(operation) for operation in graph.get_operations() if operation.name in needed]
    return [operation for operation in counted if operation.flops or operation.bytes]


def _seconds(function, least=1.0):
    """Durations of a function, called again and again for so many seconds after two calls: float array."""
    function(), function()
    times = []
    while sum(times) < least:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return np.array(times)


def measure_peak(size=2048):
    """The arithmetic roof: FLOP/s of a float32 matrix product (size, size), the best of a second."""
    matrix = tf.random.stateless_normal((size, size), (0, 0))
    multiply = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))
    return 2 * size**3 / _seconds(lambda: multiply().numpy()).min()


def measure_bandwidth(megabytes=256):
    """The memory roof: bytes/s of adding arrays larger than the caches, the best of a second."""
    size = megabytes * 2**20 // 4
    total, term = tf.Variable(tf.zeros(size)), tf.ones(size)

    @tf.function
    def add():
        total.assign_add(term, read_value=False)

    return 3 * 4 * size / _seconds(add).min()


def view(recipe, dataset, peak, bandwidth):
    """Counts and times the train step of a recipe, see race.contender, as a View."""
    model = race.build(recipe, seed=0)
    batch = tf.constant(data.to_tanh_range(dataset.train_images[: recipe.batch_size]))
    if recipe.conditional:
        batch = batch, tf.constant(dataset.train_labels[: recipe.batch_size])
    step = tf.function(model.train_step)
    times = _seconds(lambda: float(step(batch)["generator_loss"]), least=2.0)
    found = operations(model.train_step, batch)
    return View(recipe.name, recipe.batch_size, found, float(np.median(times)), peak, bandwidth)


def table(views):
    """What the views say, a line for each."""
    peak, bandwidth = views[0].peak, views[0].bandwidth
    lines = [
        f"matrix product {peak / 1e9:.0f} GFLOP/s, memory {bandwidth / 1e9:.0f} GB/s, "
        f"ridge at {peak / bandwidth:.0f} FLOP/byte",
        f"{'':<12}{'MFLOP/image':>12}{'MB/image':>10}{'images/s':>10}{'GFLOP/s':>9}{'of peak':>9}"
        f"{'roof, ms':>10}{'step, ms':>10}{'memory-bound':>14}",
    ]
    for one in views:
        achieved, per_image = one.flops / one.seconds, 1e-6 / one.batch_size
        lines.append(
            f"{one.name:<12}{one.flops * per_image:>12.1f}{one.bytes * per_image:>10.2f}"
            f"{one.batch_size / one.seconds:>10,.0f}{achieved / 1e9:>9.1f}{achieved / one.peak:>9.1%}"
            f"{1e3 * one.least:>10.1f}{1e3 * one.seconds:>10.1f}{one.memory_bound:>14.0%}"
        )
    return "\n".join(lines)


def show(views):
    """The roof, each step (View) where it was measured, and where its operations meet the roof."""
    figure, axis = plt.subplots(figsize=(7, 4.4))
    peak, bandwidth = views[0].peak, views[0].bandwidth
    intensities = np.geomspace(0.03, 3000, 200)
    axis.plot(intensities, np.minimum(peak, intensities * bandwidth) / 1e9, color="black")
    for number, one in enumerate(views):
        color = race.COLORS[number % len(race.COLORS)]
        drawn = [operation for operation in one.operations if operation.flops and operation.bytes]
        x = np.array([operation.flops / operation.bytes for operation in drawn])
        share = np.array([max(one.roof(operation)) for operation in drawn]) / one.least
        # Beside each other, not on top of each other
        roof = np.minimum(peak, x * bandwidth) / 1e9 * 1.25**number
        axis.scatter(x, roof, 1500 * share, color=color, alpha=0.5, linewidths=0)
        star = {"marker": "*", "markersize": 16, "markeredgecolor": "white"}
        axis.plot(one.flops / one.bytes, one.flops / one.seconds / 1e9, color=color, label=one.name, **star)
    axis.axvline(peak / bandwidth, color="black", linestyle=":", linewidth=1)
    axis.set(xscale="log", yscale="log", xlabel="intensity, FLOP per byte", ylabel="GFLOP/s")
    axis.set_title("train steps of " + " and ".join(one.name for one in views) + ", and this machine's roof")
    said = "star: the whole step, measured\ndots: operations at their roof,\narea: share of seconds"
    axis.legend(title=said, frameon=False)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure
