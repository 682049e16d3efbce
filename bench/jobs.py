"""What the workers of ``fastnn bench`` are asked to do; see `fastnn.bench.workers`.

Each function is called in a worker with `kept`, the dictionary that its requests share, and what it was sent.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from fastnn.bench import recipe, reference
from fastnn.bench.trainers import LEARNING_RATE, Make, Task

import fastnn

GATE_STEPS = 8


# ---- the gate -------------------------------------------------------------------------------------------------------


def check(kept: dict[str, Any], backend: str, precision: str | None, task: Task) -> dict[str, float]:
    """A network on a backend against plain numpy in float64: how far off each quantity is, relative to its largest.

    Outputs of a mini-batch, its loss, its gradients, and the weights after some steps of plain SGD.
    """
    rows = task.batch_size
    x, exact = task.x[:rows], task.x[: GATE_STEPS * rows] / 255.0
    weights = reference.as_float64(task.weights)
    network = fastnn.Network(task.sizes, backend=backend, precision=precision, threads=task.threads)
    network.set_weights(task.weights)
    loss, gradients = reference.loss_and_gradients(weights, exact[:rows], task.y[:rows])
    own_loss, own_gradients = network.gradients(x, task.y[:rows])
    errors = {
        "outputs": off([network.predict_proba(x)], [reference.forward(weights, exact[:rows])[-1]]),
        "loss": off([np.array(own_loss)], [np.array(loss)]),
        "gradients": off(flat(own_gradients), flat(gradients)),
    }
    steps = min(GATE_STEPS * rows, len(task.x)) // rows * rows
    order = np.arange(steps)
    network.generator("order", network.epochs_trained).shuffle(order)
    trained, _ = reference.train(weights, exact, task.y, order, rows, LEARNING_RATE)
    network.fit(
        task.x[:steps], task.y[:steps], epochs=1, batch_size=rows, optimizer=fastnn.SGD(LEARNING_RATE), verbose=False
    )
    return errors | {"weights": off(flat(network.get_weights()), flat(trained))}


def flat(pairs: list) -> list[np.ndarray]:
    return [array for pair in pairs for array in pair]


def off(results: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest difference relative to the largest value expected, of the worst of several arrays; or NaN."""
    errors = [np.max(np.abs(a - b)) / np.max(np.abs(b)) for a, b in zip(results, expected, strict=True)]
    return float(np.max(errors))


# ---- curves ---------------------------------------------------------------------------------------------------------


def trace(kept: dict[str, Any], make: Make, task: Task, orders: list[np.ndarray]) -> list[float]:
    """The mean loss of each mini-batch of some epochs, from the task's weights on."""
    loop = make(task)
    assert loop.losses is not None
    result: list[float] = []
    for order in orders:
        loop.run(order)
        result += loop.losses().tolist()
    return result


def trace_reference(kept: dict[str, Any], task: Task, orders: list[np.ndarray]) -> list[float]:
    """The same in float64 and plain numpy."""
    weights, result = task.weights, []
    x = task.x / 255.0
    for order in orders:
        weights, losses = reference.train(weights, x, task.y, order, task.batch_size, LEARNING_RATE)
        result += losses
    return result


# ---- memory ---------------------------------------------------------------------------------------------------------


def forget_peak(kept: dict[str, Any]) -> None:
    """Begin anew to count the peak of memory, where the system can."""
    file = Path("/proc/self/clear_refs")
    if file.exists():
        file.write_text("5", encoding="ascii")


def peak_memory(kept: dict[str, Any]) -> dict[str, int | None]:
    """Bytes of this process at most since `forget_peak`, and of its device's memory."""
    return {"host_peak": host_peak(), "device_peak": device_peak()}


def host_peak() -> int | None:
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells here is the parent's, as it was when it started this process
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
    import psutil

    info = psutil.Process(os.getpid()).memory_info()
    return int(getattr(info, "peak_wset", info.rss))


def device_peak() -> int | None:
    """What CuPy has from the device: it gives nothing back before the process ends."""
    import sys

    cupy = sys.modules.get("cupy")
    return int(cupy.get_default_memory_pool().total_bytes()) if cupy else None


# ---- kernels --------------------------------------------------------------------------------------------------------


def prepare_kernels(
    kept: dict[str, Any],
    backend: str,
    precision: str | None,
    sizes: tuple[int, ...],
    rows: int,
    threads: int,
    only: Any,
) -> list[dict[str, Any]]:
    """Kernels to time; what each of them is, how far off float64, and how often it is called in a sample."""
    from fastnn.bench.kernel_calls import calls

    from fastnn.backends import resolve_backend

    kernels = resolve_backend(backend).kernels
    known = kept.setdefault("kernels", [])
    rows_of = []
    with kernels.limit_threads(threads):
        for call in calls(kernels, sizes=sizes, rows=rows, threads=threads, precision=precision, only=only):
            error = call.error()
            call.run(1)
            rows_of.append(
                {
                    "index": len(known),
                    "kernel": call.kernel,
                    "shape": call.shape,
                    "flops": call.flops,
                    "bytes": call.bytes,
                    "error": error,
                    "tolerance": call.tolerance,
                }
            )
            known.append([call, kernels, threads, 1])
    return rows_of


def time_kernel(kept: dict[str, Any], index: int, least: float) -> float:
    """Seconds of a call, the mean of as many as last `least` seconds."""
    call, kernels, threads, repeats = kept["kernels"][index]
    with kernels.limit_threads(threads):
        while True:
            start = time.perf_counter()
            call.run(repeats)
            seconds = time.perf_counter() - start
            if seconds >= least / 2 or repeats >= 1 << 20:
                break
            repeats = kept["kernels"][index][3] = max(2 * repeats, int(repeats * least / max(seconds, 1e-7)))
    return seconds / repeats


# ---- accuracy -------------------------------------------------------------------------------------------------------


def train_recipe(
    kept: dict[str, Any], backend: str, precision: str | None, seed: int, threads: int, dataset: str
) -> dict[str, Any]:
    """Train by the recipe, looking at the test data after each epoch; that takes no part in the seconds."""
    data = fastnn.datasets.load(dataset)
    network = recipe.make_network(seed, backend, precision=precision, threads=threads)
    history = network.fit(
        data.x_train,
        data.y_train,
        epochs=recipe.RECIPE["epochs"],
        batch_size=recipe.RECIPE["batch_size"],
        optimizer=recipe.make_optimizer(),
        schedule=recipe.RECIPE["schedule"],
        validation_data=(data.x_test, data.y_test),
        verbose=False,
    )
    return {
        "seed": seed,
        "seconds": np.cumsum(history.seconds).tolist(),
        "accuracy": history.val_accuracy,
        "loss": history.loss,
        "plan": history.plan,
        "compile_seconds": history.compile_seconds,
        "peak_memory": host_peak(),
        "device_memory": device_peak(),
    }
