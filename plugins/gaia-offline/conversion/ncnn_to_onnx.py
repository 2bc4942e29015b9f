"""
Turn an ncnn network into an ONNX model, for the operations Real-ESRGAN uses.

The result computes in 32-bit floats. Large weights are stored as 16-bit floats behind a
``Cast``, which halves the file; ncnn stores them so too, so nothing is lost.

A network that enlarges by ``Interp`` in its middle becomes two models: a body that
works at the size of the picture and a head that works at four times that size. The body
sees far (about 90 pixels) but needs little memory, the head sees two pixels but needs
sixteen times as much: cut apart, each can run on windows of the size that suits it.
"""

from collections.abc import Callable, Iterator, Sequence

import attrs
import numpy as np
import onnx
from ncnn import Floats, Layer, Weights, parse
from onnx import TensorProto, helper, numpy_helper

_OPSET = 17
_IR_VERSION = 9
_SMALL = 256
_LEAKY_RELU = 2
_NEAREST = 1
_BINARY = {0: "Add", 1: "Sub", 2: "Mul"}


@attrs.define(eq=False)
class Graph:
    """
    An ONNX graph that grows layer by layer.

    Attributes:
        weights: Cursor over ncnn's weights, read in the order of the layers.
        nodes: The operations so far.
        constants: The stored weights so far.
        aliases: ncnn copies tensors with ``Split``; ONNX reads the original.
    """

    weights: Weights
    nodes: list[onnx.NodeProto] = attrs.field(factory=list)
    constants: list[onnx.TensorProto] = attrs.field(factory=list)
    aliases: dict[str, str] = attrs.field(factory=dict)

    def add(self, layer: Layer) -> None:
        """
        Append one ncnn layer.

        Raises:
            NotImplementedError: Real-ESRGAN does not use this kind of layer.
        """
        if layer.kind not in _WRITERS:
            message = f"Layer {layer.name}: no ONNX form is known for {layer.kind}."
            raise NotImplementedError(message)
        inputs = tuple(self.aliases.get(name, name) for name in layer.inputs)
        _WRITERS[layer.kind](self, attrs.evolve(layer, inputs=inputs))

    def node(
        self, operation: str, inputs: Sequence[str], output: str, **options: object
    ) -> str:
        """Append an ONNX operation and return the name of its output."""
        self.nodes.append(helper.make_node(operation, inputs, [output], **options))
        return output

    def constant(self, name: str, values: Floats) -> str:
        """Store an array, large ones in half precision, and return its name."""
        if values.size <= _SMALL:
            self.constants.append(numpy_helper.from_array(values, name))
            return name
        half = numpy_helper.from_array(values.astype(np.float16), f"{name}_half")
        self.constants.append(half)
        return self.node("Cast", [half.name], name, to=TensorProto.FLOAT)

    def model(self, source: str, output: str) -> onnx.ModelProto:
        """Return the finished model, checked."""
        graph = helper.make_graph(
            self.nodes, "network", [_maps(source)], [_maps(output)], self.constants
        )
        opset = helper.make_opsetid("", _OPSET)
        result = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
        onnx.checker.check_model(result)
        return result


def convert(param: str, weights: bytes) -> tuple[onnx.ModelProto, ...]:
    """
    Return the ONNX models of an ncnn network, to be run one after the other.

    Args:
        param: Text of the ``.param`` file.
        weights: Bytes of the ``.bin`` file.

    Returns:
        One model, or a body and a head. The first reads RGB 0-1 of the shape
        (1, 3, height, width), the last writes (1, 3, 4 height, 4 width).

    Raises:
        ValueError: The files do not belong together or are damaged.
        NotImplementedError: The network holds an unknown kind of layer.
    """
    first, *layers = parse(param)
    cursor = Weights(weights)
    source, models = first.outputs[0], []
    for part in _parts(layers):
        models.append(_model(part, source, cursor))
        source = part[-1].outputs[0]
    cursor.finish()
    return tuple(models)


def _parts(layers: list[Layer]) -> Iterator[list[Layer]]:
    """Cut before the first enlargement that everything behind it passes through."""
    kinds = [layer.kind for layer in layers]
    is_cut_apart = "Interp" in kinds and "PixelShuffle" not in kinds
    cut = kinds.index("Interp") if is_cut_apart else 0
    return (part for part in (layers[:cut], layers[cut:]) if part)


def _model(layers: list[Layer], source: str, weights: Weights) -> onnx.ModelProto:
    graph = Graph(weights)
    for layer in layers:
        graph.add(layer)
    return graph.model(source, layers[-1].outputs[0])


def _maps(name: str) -> onnx.ValueInfoProto:
    """Describe a tensor of any number of feature maps of any size."""
    shape = [1, f"{name}_channels", f"{name}_height", f"{name}_width"]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _split(graph: Graph, layer: Layer) -> None:
    graph.aliases.update(dict.fromkeys(layer.outputs, layer.inputs[0]))


def _convolution(graph: Graph, layer: Layer) -> None:
    channels, kernel = layer.integer("0"), layer.integer("1")
    kernels = graph.weights.tagged(layer.integer("6"))
    kernels = kernels.reshape(channels, -1, kernel, kernel)
    inputs = [layer.inputs[0], graph.constant(f"{layer.name}_weight", kernels)]
    if layer.integer("5"):
        bias = graph.weights.plain(channels)
        inputs.append(graph.constant(f"{layer.name}_bias", bias))
    is_activated = layer.integer("9") == _LEAKY_RELU
    output = f"{layer.outputs[0]}_linear" if is_activated else layer.outputs[0]
    shape = {"kernel_shape": [kernel] * 2, "pads": [layer.integer("4")] * 4}
    graph.node("Conv", inputs, output, **shape)
    if is_activated:
        (slope,) = layer.numbers("-23310")
        graph.node("LeakyRelu", [output], layer.outputs[0], alpha=slope)


def _prelu(graph: Graph, layer: Layer) -> None:
    slopes = graph.weights.plain(layer.integer("0")).reshape(-1, 1, 1)
    inputs = [layer.inputs[0], graph.constant(f"{layer.name}_slope", slopes)]
    graph.node("PRelu", inputs, layer.outputs[0])


def _pixel_shuffle(graph: Graph, layer: Layer) -> None:
    block = {"blocksize": layer.integer("0"), "mode": "CRD"}
    graph.node("DepthToSpace", layer.inputs, layer.outputs[0], **block)


def _resize(graph: Graph, layer: Layer) -> None:
    if layer.integer("0") != _NEAREST:
        message = f"Layer {layer.name}: only nearest-neighbour resizing is known."
        raise NotImplementedError(message)
    scales = np.array([1, 1, layer.number("1"), layer.number("2")], np.float32)
    inputs = [layer.inputs[0], "", graph.constant(f"{layer.name}_scales", scales)]
    nearest = {"mode": "nearest", "nearest_mode": "floor"}
    corners = {"coordinate_transformation_mode": "asymmetric"}
    graph.node("Resize", inputs, layer.outputs[0], **nearest, **corners)


def _concat(graph: Graph, layer: Layer) -> None:
    graph.node("Concat", layer.inputs, layer.outputs[0], axis=1)


def _binary(graph: Graph, layer: Layer) -> None:
    graph.node(_BINARY[layer.integer("0")], layer.inputs, layer.outputs[0])


def _weighted_sum(graph: Graph, layer: Layer) -> None:
    factors = layer.numbers("-23301") or (1.0,) * len(layer.inputs)
    terms = [
        _scaled(graph, f"{layer.name}_{index}", term, factor)
        for index, (term, factor) in enumerate(zip(layer.inputs, factors, strict=True))
    ]
    graph.node("Sum", terms, layer.outputs[0])


def _scaled(graph: Graph, name: str, term: str, factor: float) -> str:
    if factor == 1.0:
        return term
    value = graph.constant(f"{name}_factor", np.array(factor, np.float32))
    return graph.node("Mul", [term, value], f"{name}_scaled")


_WRITERS: dict[str, Callable[[Graph, Layer], None]] = {
    "Split": _split,
    "Convolution": _convolution,
    "PReLU": _prelu,
    "PixelShuffle": _pixel_shuffle,
    "Interp": _resize,
    "Concat": _concat,
    "BinaryOp": _binary,
    "Eltwise": _weighted_sum,
}
