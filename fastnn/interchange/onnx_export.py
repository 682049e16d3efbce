"""Networks as ONNX models, for onnxruntime, browsers, phones and other languages.

Operators of opset 13 in a file of IR version 7, both of 2020, so that old readers understand it. (onnxruntime 1.15
does; but before 1.18, of 2024, it fails at float64 where it fuses a matrix product with its activation.) GELU became an
operator in opset 20, and is written with the error function.
"""

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastnn.choices import check_choice
from fastnn.errors import DataError
from fastnn.files import atomic_path
from fastnn.interchange.layers import Array, Estimator, as_network
from fastnn.kernels.codes import TASKS
from fastnn.network import Network
from fastnn.operations import ACTIVATIONS, Activation
from fastnn.operations.expressions import Program
from fastnn.optional import require
from fastnn.version import __version__

if TYPE_CHECKING:
    import onnx

__all__ = ["export_onnx"]

_OPSET, _IR_VERSION = 13, 7
_SAMPLES = ("float32", "float64", "uint8")
_LIMIT = 2**31 - 2**20  # bytes of weights: a protobuf file holds less than 2 GiB
_OPERATORS = {  # of operations of `fastnn.operations.expressions`, where ONNX does not have them by the same name
    **{"subtract": "Sub", "multiply": "Mul", "divide": "Div"},
    **{"maximum": "Max", "minimum": "Min", "absolute": "Abs"},
}


def export_onnx(network: Network | Estimator, path: str | Path, samples: str = "float32") -> None:
    """Write a network to an ONNX model, atomically.

    The model has the input ``samples``, ``(n, n_features)`` for any n, and the output ``outputs``, ``(n, n_outputs)``
    of the network's dtype: what `Network.predict_proba` gives. Labels are the outputs' argmax. Scale and shift are in
    the model; sizes, activations and the task are in its metadata.

    Parameters
    ----------
    network : Network or fitted estimator of fastnn.sklearn
        Of an estimator its `network_`: labels are positions in its `classes_`.
    path : str or Path
    samples : {"float32", "float64", "uint8"}
        Type of the input. As in `Network`, uint8 is scaled by 1/255 where the network has no scale of its own.

    Raises
    ------
    ValueError
        If `samples` is none of those.
    DataError
        If the network is too large for a file of this kind, 2 GiB.
    MissingLibraryError
        If onnx is not installed.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile, fastnn
    >>> from fastnn.interchange import export_onnx
    >>> path = pathlib.Path(tempfile.mkdtemp(), "net.onnx")
    >>> export_onnx(fastnn.Network([784, 30, 10], backend="numpy"), path, samples="uint8")
    >>> import onnx
    >>> [node.op_type for node in onnx.load(path).graph.node]
    ['Cast', 'Mul', 'Gemm', 'Relu', 'Gemm', 'Softmax']
    """
    network = as_network(network)
    check_choice("type of samples", samples, _SAMPLES)
    if network.parameters.nbytes > _LIMIT:
        raise DataError(f"an ONNX file holds 2 GiB, and the weights are {network.parameters.nbytes / 2**30:.1f} GiB")
    library = require("onnx", "onnx")
    graph = _Graph(network.dtype)
    graph.scale(network, samples)
    activations = [ACTIVATIONS[name] for name in (*network.hidden, network.output)]
    for i, ((W, b), activation) in enumerate(zip(network.get_weights(), activations, strict=True), start=1):
        graph.dense(i, W, b)
        graph.activate(activation)
    model = graph.model(network, samples)
    library.checker.check_model(model, full_check=True)
    with atomic_path(Path(os.path.realpath(path))) as temporary:
        temporary.write_bytes(model.SerializeToString())


class _Graph:
    """A chain of operators on matrices of one dtype; `last` names what the last one gave."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._onnx = require("onnx", "onnx")
        self._dtype = dtype
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self.last = "samples"

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Name of what the operator gives; `last` is set to it."""
        name = f"{operator.lower()}{len(self._nodes) + 1}"
        self._nodes.append(self._onnx.helper.make_node(operator, inputs, [name], name=name, **attributes))
        self.last = name
        return name

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        self._constants[name] = self._onnx.numpy_helper.from_array(np.asarray(value, self._dtype), name)
        return name

    def cast(self, dtype: np.dtype[Any]) -> str:
        return self.add("Cast", self.last, to=self._onnx.helper.np_dtype_to_tensor_dtype(dtype))

    def scale(self, network: Network, samples: str) -> None:
        """What `kernels.gather` does to samples."""
        if samples != self._dtype.name:
            self.cast(self._dtype)
        scale = network.scale
        if scale is None:
            scale = 1 / 255 if samples == "uint8" else 1.0
        if scale != 1:
            self.add("Mul", self.last, self.constant("scale", scale))
        if network.shift != 0:
            self.add("Add", self.last, self.constant("shift", network.shift))

    def dense(self, number: int, W: Array, b: Array | None) -> None:
        inputs = [self.constant(f"W{number}", W)] + ([] if b is None else [self.constant(f"b{number}", b)])
        self.add("Gemm", self.last, *inputs)

    def activate(self, activation: Activation) -> None:
        if activation.name == "softmax":
            self.add("Softmax", self.last, axis=1)
        elif activation.onnx:
            self.add(activation.onnx, self.last)
        else:
            self._compute(activation.value_program)

    def _compute(self, program: Program) -> None:
        """A formula of z, which is what was computed last."""
        names = {"z": self.last}
        for name, step in program.steps.items():
            operands = [names[one] if isinstance(one, str) else self._number(one) for one in step.operands]
            names[name] = self._operation(step.operation, *operands)
        (result,) = program.results
        self.last = names[result] if isinstance(result, str) else self._number(result)

    def _operation(self, operation: str, *operands: str) -> str:
        if operation == "expm1":
            return self.add("Sub", self.add("Exp", *operands), self._number(1.0))
        if operation == "log1p":
            return self.add("Log", self.add("Add", *operands, self._number(1.0)))
        if operation == "normal_cdf":  # (1 + erf(z / sqrt 2)) / 2, in float32: onnxruntime has no other error function
            self.add("Mul", *operands, self._number(math.sqrt(0.5)))
            if self._dtype != np.float32:
                self.cast(np.dtype(np.float32))
            self.add("Erf", self.last)
            if self._dtype != np.float32:
                self.cast(self._dtype)
            return self.add("Mul", self.add("Add", self.last, self._number(1.0)), self._number(0.5))
        return self.add(_OPERATORS.get(operation, operation.capitalize()), *operands)

    def _number(self, value: float) -> str:
        return self.constant(f"number_{value!r}", value)

    def model(self, network: Network, samples: str) -> "onnx.ModelProto":
        helper = self._onnx.helper
        self._nodes[-1].output[0] = "outputs"
        ends = [("samples", np.dtype(samples), network.sizes[0]), ("outputs", self._dtype, network.sizes[-1])]
        x, y = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), ["n", width])
            for name, dtype, width in ends
        ]
        graph = helper.make_graph(self._nodes, "fastnn", [x], [y], list(self._constants.values()))
        model: onnx.ModelProto = helper.make_model(
            graph,
            producer_name="fastnn",
            producer_version=__version__,
            ir_version=_IR_VERSION,
            opset_imports=[helper.make_opsetid("", _OPSET)],
        )
        task = next(name for name, code in TASKS.items() if code == network.task)
        metadata = network.configuration() | {"task": task}
        helper.set_model_props(model, {f"fastnn.{name}": json.dumps(value) for name, value in metadata.items()})
        return model
