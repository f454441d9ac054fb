"""One web page in which a generator itself runs: `python -m fmgan_tf page`."""

import base64
import pathlib

import jinja2
import keras
import numpy as np

from fmgan_tf import InputError, write_whole

DIRECTIONS = 6  # sliders through the noise
ACTIVATIONS = ("relu", "tanh", "sigmoid")


class Steps:
    """The layers of a generator as page.html runs them: `steps`, a list of dicts in the order of their work,
    each with the numbers of the steps that it takes, and their weights, `numbers`, as float16."""

    def __init__(self, model):
        self.steps, self.numbers, self.places, self.kept = [], [], {}, []
        noise, *label = model.inputs
        self.add(noise, [], "noise", size=noise.shape[1])
        for tensor in label:
            self.add(tensor, [], "label")
        keras.models.clone_model(
            model, model.input, clone_function=lambda layer: layer, call_function=self.call
        )

    def add(self, tensor, takes, op, **settings):
        self.places[id(tensor)] = len(self.steps)
        self.kept.append(tensor)  # or another one could get its id
        self.steps.append({"op": op, "takes": takes, "shape": list(tensor.shape[1:]), **settings})

    def keep(self, array):
        """The number under which an array of weights is kept."""
        self.numbers.append(np.asarray(array, "float16"))
        return len(self.numbers) - 1

    def call(self, layer, *arguments, **options):
        """What Keras asks of every layer: its output, with the layer noted down. InputError for one that the
        page cannot run."""
        if isinstance(layer, keras.Model):
            inputs = keras.tree.pack_sequence_as(layer.input, keras.tree.flatten(arguments))
            inner = keras.models.clone_model(
                layer, inputs, clone_function=lambda part: part, call_function=self.call
            )
            return inner.outputs[0]
        output, kind = layer(*arguments, **options), type(layer).__name__
        takes = [self.places[id(tensor)] for tensor in keras.tree.flatten(arguments)]
        settings = self.settings(layer, kind)
        name = getattr(getattr(layer, "activation", None), "__name__", "linear")
        if settings is None or getattr(layer, "padding", "same") != "same":
            raise InputError(f"a page cannot run the layer {layer.name!r}, a {kind}")
        self.add(output, takes, kind, **settings)
        if name != "linear":
            if name not in ACTIVATIONS:
                raise InputError(f"a page cannot run the activation {name!r} of the layer {layer.name!r}")
            self.add(output, [self.places[id(output)]], name)
        return output

    def settings(self, layer, kind):
        """What a layer of that kind needs beside its inputs, dict, or None for a kind that is not known."""
        if kind in ("Dense", "Conv2D", "Conv2DTranspose"):
            kernel = np.asarray(layer.kernel)  # transposed ones come as (rows, columns, out, in)
            weights = {"kernel": self.keep(kernel.swapaxes(2, 3) if kind == "Conv2DTranspose" else kernel)}
            weights |= {"bias": self.keep(layer.bias)} if layer.use_bias else {}
            return weights | (
                {} if kind == "Dense" else {"size": kernel.shape[0], "stride": layer.strides[0]}
            )
        if kind == "Embedding":
            return {"table": self.keep(layer.embeddings)}
        if kind == "BatchNormalization":
            scale = 1 / np.sqrt(np.asarray(layer.moving_variance) + layer.epsilon)
            scale = scale * np.asarray(layer.gamma) if layer.scale else scale
            offset = np.asarray(layer.beta) if layer.center else 0.0
            return {"scale": self.keep(scale), "offset": self.keep(offset - scale * layer.moving_mean)}
        if kind == "LeakyReLU":
            return {"slope": layer.negative_slope}
        same = ("Reshape", "Flatten", "Dropout")  # in the page all arrays are flat
        return {} if kind in (*same, "Concatenate", "Add", "Multiply", "ReLU") else None


def directions(model, latent_dim, count=DIRECTIONS):
    """The unit vectors of noise, float (count, latent_dim), that change the first dense layer most. Source:
    Shen and Zhou 2021, https://arxiv.org/abs/2007.06600."""
    first = next(layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dense))
    return np.linalg.svd(np.asarray(first.kernel)[:latent_dim].T, full_matrices=False)[2][:count]


def write(source, output):
    """Writes the page of a sources.Source with a generator of one of the recipes to a file. InputError for
    other generators, and for one with a layer that the page does not know."""
    generator, recipe = source.generator, source.recipe
    if recipe is None:
        raise InputError(f"{source.name} is no model of this package, expected a run folder or a shipped one")
    if not recipe.discriminator:
        raise InputError(f"{source.name} takes several passes for an image, expected a GAN, which takes one")
    layers = Steps(generator.model)
    flat = np.concatenate([number.ravel() for number in layers.numbers])
    content = {
        "steps": layers.steps,
        "sizes": [number.size for number in layers.numbers],
        "pixels": recipe.pixels,
        "classes": list(generator.class_names),
        "directions": directions(generator.model, generator.latent_dim).round(4).tolist(),
        "weights": base64.b64encode(flat.astype("<f2").tobytes()).decode(),
    }
    template = jinja2.Template(pathlib.Path(__file__).with_name("page.html").read_text(), autoescape=True)
    parameters, size = generator.model.count_params(), recipe.image_size
    text = template.render(name=recipe.name, content=content, parameters=parameters, size=size)
    write_whole(pathlib.Path(output), text)
