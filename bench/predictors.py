"""The same predictions on fastnn's backends and by other libraries: who predicts how, given the same weights.

Each function here makes of a task a function from samples, (n, n_in) float32 between 0 and 1, to their labels, (n,)
int64; all that can be prepared is prepared before, in the way that its library's users are told to write for speed.
`prepare` and `time_predictions` are what workers are asked to do, see `fastnn.bench.jobs`.
"""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import fastnn
from fastnn.bench import jobs, reference
from fastnn.bench.trainers import Task, make_torch_model

__all__ = ["SAMPLES", "make_fastnn", "make_onnxruntime", "make_plain_numpy", "make_torch", "take_samples"]

SAMPLES = (1, 64, 1000, 10_000)  # of a call
LEAST_SECONDS = 5e-3  # of the calls that are timed together

Predict: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.int64]]


def make_fastnn(task: Task, backend: str) -> Predict:
    return make_network(task, backend).predict


def make_network(task: Task, backend: str) -> fastnn.Network:
    network = fastnn.Network(task.sizes, backend=backend, threads=task.threads)
    network.set_weights(task.weights)
    return network


def make_plain_numpy(task: Task) -> Predict:
    """The lines that one would write by hand."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(task.threads)
    *hidden, (W_out, b_out) = reference.copy_weights(task.weights, np.float32)

    def predict(a: NDArray[np.float32]) -> NDArray[np.int64]:
        for W, b in hidden:
            a = np.maximum(a @ W + b, 0)
        return (a @ W_out + b_out).argmax(axis=1)

    return predict


def make_onnxruntime(task: Task) -> Predict:
    """The exported model, whose output is the label: ``ArgMax`` is part of its graph."""
    import onnx
    import onnxruntime

    from fastnn.interchange import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "net.onnx")
        export_onnx(make_network(task, "numpy"), file)
        model = onnx.load(file)
    graph = model.graph
    graph.node.append(onnx.helper.make_node("ArgMax", [graph.output[0].name], ["labels"], axis=1, keepdims=0))
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info("labels", onnx.TensorProto.INT64, ["n"]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = task.threads, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = graph.input[0].name

    def predict(x: NDArray[np.float32]) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = session.run(["labels"], {name: x})[0]
        return labels

    return predict


def make_torch(task: Task) -> Predict:
    import torch

    torch.set_num_threads(task.threads)
    model = make_torch_model(task.weights).eval()

    @torch.inference_mode()
    def predict(x: NDArray[np.float32]) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = model(torch.from_numpy(x)).argmax(1).numpy()
        return labels

    return predict


# ---- in a worker ----------------------------------------------------------------------------------------------------


def take_samples(task: Task) -> NDArray[np.float32]:
    """As many as the largest call has; those of the task again and again where it has fewer."""
    scaled: NDArray[np.float32] = np.resize(reference.scaled(task.x, np.float32), (SAMPLES[-1], task.sizes[0]))
    return scaled


def prepare(kept: dict[str, Any], make: Callable[[Task], Predict], task: Task) -> list[NDArray[np.int64]]:
    """Get ready to predict; the labels of each number of samples."""
    predict, x = make(task), take_samples(task)
    kept["predictions"] = [[functools.partial(predict, x[:count]), 1] for count in SAMPLES]
    return [np.array(call()) for call, _ in kept["predictions"]]


def time_predictions(kept: dict[str, Any]) -> list[float]:
    """Seconds of a call with each number of samples: the mean of as many as last `LEAST_SECONDS`."""
    found = []
    for known in kept["predictions"]:
        call, repeats = known
        call()  # the caches are another contender's

        def run(times: int, call: Callable[[], Any] = call) -> None:
            for _ in range(times):
                call()

        seconds, known[1] = jobs.time_calls(run, repeats, LEAST_SECONDS)
        found.append(seconds)
    return found
