"""fastnn's CPU backends against the loop that one would write by hand: ``python -m fastnn.bench.plain_loop``.

Same network, same batches, same work (loss and accuracy of every mini-batch included), same thread count, plain SGD on
cross-entropy; epochs are interleaved in random order, with pauses in which the threads of numpy's BLAS and of scipy's
go to sleep: a pool that still spins for work slows the other down.
"""

import argparse
import statistics
import time

import numpy as np
from threadpoolctl import threadpool_limits

import fastnn
from fastnn.threads import resolve_threads
from fastnn.training import Trainer
from fastnn.workspace import Workspace

NETWORKS = ([784, 30, 10], [784, 128, 10], [784, 512, 512, 512, 10])
BATCH_SIZE = 64
LEARNING_RATE = 0.1


def train_plainly(weights, x, y, order):
    """One epoch by hand; `weights` is a list of (W, b), changed in place."""
    loss, hits = 0.0, 0
    for start in range(0, len(x), BATCH_SIZE):
        rows = order[start : start + BATCH_SIZE]
        a = [x[rows].astype(np.float32) / np.float32(255)]
        for W, b in weights[:-1]:
            a.append(np.maximum(a[-1] @ W + b, 0))
        z = a[-1] @ weights[-1][0] + weights[-1][1]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        loss -= np.log(p[np.arange(len(rows)), y[rows]]).sum()
        hits += (p.argmax(axis=1) == y[rows]).sum()
        p[np.arange(len(rows)), y[rows]] -= 1
        delta = p / len(rows)
        for i in range(len(weights) - 1, -1, -1):
            W, b = weights[i]
            dW, db = a[i].T @ delta, delta.sum(axis=0)
            if i:
                delta = (delta @ W.T) * (a[i] > 0)
            W -= LEARNING_RATE * dW
            b -= LEARNING_RATE * db
    return loss / len(x), hits / len(x)


def plain_epoch(sizes, data):
    """The loop above as a function without arguments that trains one epoch."""
    weights = fastnn.Network(sizes, backend="numpy").get_weights()
    generator, x = np.random.default_rng(0), data.x_train.reshape(-1, sizes[0])
    return lambda: train_plainly(weights, x, data.y_train, generator.permutation(len(x)))


def fastnn_epoch(sizes, data, backend, threads):
    """The same on a backend, compiled and ready."""
    network, optimizer = fastnn.Network(sizes, backend=backend, threads=threads), fastnn.SGD(LEARNING_RATE)
    space = Workspace(
        network,
        data.x_train,
        data.y_train,
        BATCH_SIZE,
        loss="cross_entropy",
        optimizer=optimizer.constants,
        training=True,
    )
    trainer = Trainer(space, optimizer, fastnn.Constant(), epochs=1)
    trainer.compile()
    return lambda: trainer.epoch(0, lambda trainer: None)


def measure(candidates, rounds, generator):
    """Seconds of each call, interleaved in random order, the first round left out."""
    seconds = {name: [] for name in candidates}
    for _ in range(rounds + 1):
        for name in generator.permutation(list(candidates)):
            time.sleep(0.1)
            start = time.perf_counter()
            candidates[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in seconds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each candidate (default: 7)")
    parser.add_argument("--threads", type=int, help="default: FASTNN_NUM_THREADS, or all cores")
    parser.add_argument("--dataset", default="auto")
    options = parser.parse_args()
    threads, data = resolve_threads(options.threads), fastnn.datasets.load(options.dataset)
    generator = np.random.default_rng(0)
    print(
        f"{data.name}, batch {BATCH_SIZE}, {threads} threads; us a step: median [quartiles] of {options.rounds} epochs"
    )
    with threadpool_limits(threads):
        for sizes in NETWORKS:
            candidates = {"plain loop": plain_epoch(sizes, data), "plain loop again": plain_epoch(sizes, data)}
            for backend in ("numpy", "numba"):
                candidates[backend] = fastnn_epoch(sizes, data, backend, threads)
            steps = -(-len(data.x_train) // BATCH_SIZE)
            print("-".join(map(str, sizes)))
            times = measure(candidates, options.rounds, generator)
            for name, values in times.items():
                low, median, high = (q / steps * 1e6 for q in statistics.quantiles(values, n=4))
                ratio = statistics.median(p / v for p, v in zip(times["plain loop"], values, strict=True))
                print(f"  {name:17s} {median:7.0f} [{low:.0f}, {high:.0f}]   {ratio:.2f} times the plain loop's speed")


if __name__ == "__main__":
    main()
