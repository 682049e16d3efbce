"""What the workers of ``fastnn bench`` are asked to do; see `fastnn.bench.workers`.

Each function is called in a worker with `kept`, the dictionary that its requests share, and what it was sent.
"""

import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import fastnn
from fastnn.bench import recipe, reference
from fastnn.bench.levels import Case
from fastnn.bench.trainers import LEARNING_RATE, Make, Task
from fastnn.evaluation import outputs_by_step

GATE_STEPS, GATE_SAMPLES = 2, 4  # mini-batches; mini-batches' worth of samples to choose from


# ---- the gate -------------------------------------------------------------------------------------------------------


def check(
    kept: dict[str, Any], backend: str, precision: str | None, task: Task, dtype: str = "float32"
) -> dict[str, float]:
    """A network on a backend against plain numpy in float64: how far off each quantity is, relative to its largest.

    Outputs of a mini-batch, by the step and as predictions, its loss, its gradients, and what each of some steps of
    plain SGD changes in the weights.
    The operands of products are rounded in both alike; a step's reference begins with the weights that the network had,
    as one weight that is rounded the other way would make another network.
    """
    rows, weights, threads = task.batch_size, reference.copy_weights(task.weights), task.threads
    with threadpool_limits(threads):
        chosen = choose_samples(task, weights, precision)
        x, y = task.x[chosen], task.y[chosen]
        exact = reference.scaled(x)
        outputs = reference.forward(weights, exact[:rows], precision)[-1]
        loss, gradients = reference.loss_and_gradients(weights, exact[:rows], y[:rows], precision)
    network = fastnn.Network(task.sizes, backend=backend, precision=precision, threads=threads, dtype=dtype)
    network.set_weights(task.weights)
    own_loss, own_gradients = network.gradients(x[:rows], y[:rows])
    errors = {
        "outputs": off([outputs_by_step(network, x[:rows]), network.predict_proba(x[:rows])], [outputs, outputs]),
        "loss": off([np.array(own_loss)], [np.array(loss)]),
        "gradients": off(flat(own_gradients), flat(gradients)),
    }
    updates, before, sgd = [], weights, fastnn.SGD(LEARNING_RATE)
    for step in range(GATE_STEPS):
        end, last = (step + 1) * rows, np.arange(step * rows, (step + 1) * rows)
        network.set_weights(task.weights)
        network.fit(x[:end], y[:end], epochs=1, batch_size=rows, optimizer=sgd, shuffle=False, verbose=False)
        after = reference.copy_weights(network.get_weights())
        with threadpool_limits(threads):
            expected, _ = reference.train(before, x, y, last, rows, LEARNING_RATE, precision)
        updates.append(off(changes(before, after), changes(before, expected)))
        before = after
    return errors | {"updates": float(np.max(updates))}


def changes(before: reference.Weights, after: reference.Weights) -> list[np.ndarray]:
    return [b - a for a, b in zip(flat(before), flat(after), strict=True)]


def choose_samples(task: Task, weights: reference.Weights, precision: str | None) -> np.ndarray:
    """Samples for the mini-batches of the gate.

    Where a unit comes so close to the corner of its ReLU that rounding may take it to the other side, one sample makes
    a gradient of another size: not wrong, but no test either. So the samples farthest from all corners are taken.
    """
    left, chosen = np.arange(len(task.x)), np.array([], np.int64)
    for _ in range(GATE_STEPS):
        distances = reference.distance_to_corners(weights, reference.scaled(task.x[left]), precision)
        clear = left[np.argsort(distances)[-task.batch_size :]]
        if len(clear) < task.batch_size:
            raise fastnn.DataError(f"{len(task.x)} samples are too few for the gate at batch size {task.batch_size}")
        weights, _ = reference.train(weights, task.x, task.y, clear, task.batch_size, LEARNING_RATE, precision)
        chosen, left = np.concatenate([chosen, clear]), np.setdiff1d(left, clear)
    return chosen


def flat(pairs: list) -> list[np.ndarray]:
    return [array for pair in pairs for array in pair]


def off(results: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest difference relative to the largest value expected, of the worst of several arrays; or NaN."""
    errors = [np.max(np.abs(a - b)) / np.max(np.abs(b)) for a, b in zip(results, expected, strict=True)]
    return float(np.max(errors))


# ---- training -------------------------------------------------------------------------------------------------------


def begin(kept: dict[str, Any], make: Make, task: Task, order: np.ndarray, most: int) -> dict[str, Any]:
    """Get ready to train a task, instead of the one before; the settings, and the losses of the first mini-batches.

    A trainer that tells the losses of an epoch has trained all of it then, else only so many mini-batches.
    """
    kept.pop("loop", None)
    loop = kept["loop"] = make(task)
    if loop.losses is None:
        batches = order.reshape(-1, task.batch_size)[:most]
        return {"settings": loop.settings, "losses": [loop.run(batch) for batch in batches]}
    loop.run(order)
    return {"settings": loop.settings, "losses": loop.losses()[:most].tolist()}


def train(kept: dict[str, Any], orders: list[np.ndarray]) -> float:
    """Train an epoch in each of the orders; returns the seconds of one."""
    start = time.perf_counter()
    for order in orders:
        kept["loop"].run(order)
    return (time.perf_counter() - start) / len(orders)


def trace_reference(kept: dict[str, Any], task: Task, order: np.ndarray, dtype: str) -> list[float]:
    """The mean loss of each mini-batch in that order from the task's weights on, in plain numpy."""
    with threadpool_limits(task.threads):  # what is loaded already does not look at the environment
        start = task.weights, task.x, task.y, order, task.batch_size, LEARNING_RATE
        return reference.train(*start, dtype=dtype)[1]


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
    from fastnn.backends import resolve_backend
    from fastnn.bench.kernel_calls import calls

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
        seconds, kept["kernels"][index][3] = time_calls(call.run, repeats, least)
    return seconds


def time_calls(run: Callable[[int], None], repeats: int, least: float) -> tuple[float, int]:
    """Seconds of one call of as many as last `least` seconds, and how many these are: `repeats` or more."""
    while True:
        start = time.perf_counter()
        run(repeats)
        seconds = time.perf_counter() - start
        if seconds >= least / 2 or repeats >= 1 << 20:
            return seconds / repeats, repeats
        repeats = max(2 * repeats, int(repeats * least / max(seconds, 1e-7)))


# ---- whole trainings ------------------------------------------------------------------------------------------------


def load(dataset: str) -> fastnn.datasets.Dataset:
    with warnings.catch_warnings(action="ignore"):  # the command has said which data these are
        return fastnn.datasets.load(dataset)


def train_recipe(
    kept: dict[str, Any],
    backend: str,
    precision: str | None,
    seed: int,
    threads: int,
    dataset: str,
    preset: str,
    periods: int = 1,
    goal: float | None = None,
) -> dict[str, Any]:
    """Train by the recipe of a preset, looking at the test data after each epoch; that takes no part in the seconds.

    With several periods it begins again and goes on until the goal, after a training that is not counted.
    """
    data, options = load(dataset), {"precision": precision, "threads": threads, "preset": preset}
    for _ in range(1 if periods == 1 else 2):
        history = recipe.train(seed, backend, data, periods=periods, goal=goal, **options).history
    assert history is not None
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


def train_recipe_by_torch(kept: dict[str, Any], seed: int, threads: int, dataset: str, preset: str) -> dict[str, Any]:
    """The same by PyTorch."""
    from fastnn.bench import torch_recipe

    return torch_recipe.train(seed, load(dataset), threads, recipe.read_recipe(preset)) | {"peak_memory": host_peak()}


def train_epochs(
    kept: dict[str, Any], backend: str, precision: str | None, case: Case, epochs: int, threads: int, dataset: str
) -> dict[str, Any]:
    """Plan, losses and test accuracy of some epochs of plain SGD."""
    data = load(dataset)
    network = fastnn.Network(case.sizes, backend=backend, precision=precision, threads=threads)
    history = network.fit(
        data.x_train[: case.samples],
        data.y_train[: case.samples],
        epochs=epochs,
        batch_size=case.batch_size,
        optimizer=fastnn.SGD(LEARNING_RATE),
        validation_data=(data.x_test, data.y_test),
        verbose=False,
    )
    return {"plan": history.plan, "loss": history.loss, "accuracy": history.val_accuracy[-1]}


def train_some(
    kept: dict[str, Any], backend: str, case: Case, seeds: list[int], epochs: int, threads: int, dataset: str
) -> dict[str, Any]:
    """Train networks at once: the seconds of an epoch by the clock and by the histories, plan and losses of each.

    By the histories, networks that are trained at once take as long as the slowest of them. Where there are more than
    cores they are not all trained at once, and only the clock knows.
    """
    if "data" not in kept:
        kept["data"] = load(dataset)
    x, y = kept["data"].x_train[: case.samples], kept["data"].y_train[: case.samples]
    networks = [fastnn.Network(case.sizes, seed=seed, backend=backend, threads=threads) for seed in seeds]
    options = {"epochs": epochs, "batch_size": case.batch_size, "optimizer": fastnn.SGD(LEARNING_RATE)}
    start = time.perf_counter()
    if len(networks) == 1:
        histories = [networks[0].fit(x, y, verbose=False, **options)]
    else:
        histories = fastnn.train_many(networks, x, y, verbose=False, **options)
    seconds = (time.perf_counter() - start) / epochs
    if any(history.diverged for history in histories):  # of which `train_many` makes no error
        raise fastnn.DivergedError("one of the networks diverged")
    longest = [max(epoch) for epoch in zip(*(history.seconds for history in histories), strict=True)]
    return {
        "clock": seconds,
        "history": statistics.mean(longest),
        "plan": histories[0].plan,
        "losses": [history.loss for history in histories],
    }
