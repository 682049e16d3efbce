"""The same training on fastnn's backends and on other libraries: who trains how, given the same start and order.

`TRAINERS` maps a name to a function ``make(task) -> run``, where ``run(order)`` trains one epoch over the samples in
that order and returns the mean loss of its mini-batches. Every one of them does the same work, shuffled gather of uint8
images and their scaling included, in the way that its library's users are told to write for speed.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LEARNING_RATE = 0.1


class Task(NamedTuple):
    """What is trained: plain SGD on the cross-entropy of a ReLU network."""

    x: np.ndarray  # (n, n_in) uint8; n a multiple of the batch size
    y: np.ndarray  # (n,) int64
    sizes: tuple[int, ...]
    batch_size: int
    threads: int
    weights: list[tuple[np.ndarray, np.ndarray]]  # (W, b) of each layer, float32

    def flops(self) -> int:
        """Of the matrix products of an epoch: forward, weight gradients, and all input gradients but the first."""
        pairs = list(zip(self.sizes[:-1], self.sizes[1:], strict=True))
        return 2 * len(self.x) * (3 * sum(a * b for a, b in pairs) - pairs[0][0] * pairs[0][1])


Run = Callable[[np.ndarray], float]


def make_fastnn(backend: str, precision: str | None = None) -> Callable[[Task], Run]:
    def make(task: Task) -> Run:
        import fastnn
        from fastnn.training import Trainer
        from fastnn.workspace import Workspace

        network = fastnn.Network(task.sizes, backend=backend, threads=task.threads, precision=precision)
        network.set_weights(task.weights)
        optimizer = fastnn.SGD(LEARNING_RATE)
        space = Workspace(
            network,
            task.x,
            task.y,
            task.batch_size,
            loss="cross_entropy",
            optimizer=optimizer.constants,
            training=True,
        )
        trainer = Trainer(space, optimizer, fastnn.Constant(), epochs=1)
        trainer.compile()

        def run(order: np.ndarray) -> float:
            with network.kernels.limit_threads(task.threads):
                trainer.epoch(0, lambda trainer: None)
            if not np.array_equal(space.data.order, order):
                raise RuntimeError("fastnn trained in another order than it was given: see `peers.orders`")
            return trainer.means()[0]

        return run

    return make


def make_plain_numpy(task: Task) -> Run:
    """The loop that one would write by hand."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(task.threads)
    weights = [(W.copy(), b.copy()) for W, b in task.weights]

    def run(order: np.ndarray) -> float:
        total = 0.0
        for start in range(0, len(order), task.batch_size):
            rows = order[start : start + task.batch_size]
            labels, each = task.y[rows], np.arange(len(rows))
            a = [task.x[rows].astype(np.float32) / np.float32(255)]
            for W, b in weights[:-1]:
                a.append(np.maximum(a[-1] @ W + b, 0))
            z = a[-1] @ weights[-1][0] + weights[-1][1]
            e = np.exp(z - z.max(axis=1, keepdims=True))
            p = e / e.sum(axis=1, keepdims=True)
            total -= np.log(p[each, labels]).sum()
            p[each, labels] -= 1
            delta = p / len(rows)
            for i in range(len(weights) - 1, -1, -1):
                W, b = weights[i]
                dW, db = a[i].T @ delta, delta.sum(axis=0)
                if i:
                    delta = (delta @ W.T) * (a[i] > 0)
                W -= LEARNING_RATE * dW
                b -= LEARNING_RATE * db
        return float(total) / len(order)

    return run


def make_jax(task: Task) -> Run:
    """``lax.scan`` over the mini-batches inside one ``jit``, parameters donated."""
    import jax
    import jax.numpy as jnp

    def loss(parameters, x, y):
        for W, b in parameters[:-1]:
            x = jax.nn.relu(x @ W + b)
        W, b = parameters[-1]
        logits = jax.nn.log_softmax(x @ W + b)
        return -jnp.mean(jnp.take_along_axis(logits, y[:, None], 1))

    def epoch(parameters, x, y, order):
        def step(parameters, rows):
            batch = x[rows].astype(jnp.float32) * (1 / 255)
            value, gradients = jax.value_and_grad(loss)(parameters, batch, y[rows])
            return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, parameters, gradients), value

        parameters, losses = jax.lax.scan(step, parameters, order.reshape(-1, task.batch_size))
        return parameters, losses.mean()

    compiled = jax.jit(epoch, donate_argnums=0)
    x, y = jnp.asarray(task.x), jnp.asarray(task.y.astype(np.int32))
    parameters = [(jnp.asarray(W), jnp.asarray(b)) for W, b in task.weights]

    def run(order: np.ndarray) -> float:
        nonlocal parameters
        parameters, value = compiled(parameters, x, y, jnp.asarray(order.astype(np.int32)))
        return float(value)

    return run


def make_torch(compiled: bool) -> Callable[[Task], Run]:
    def make(task: Task) -> Run:
        """Eager: the usual loop with the fused optimizer; compiled: its forward pass and loss by ``torch.compile``."""
        import torch
        from torch import nn

        torch.set_num_threads(task.threads)
        layers: list[nn.Module] = []
        for i, (W, b) in enumerate(task.weights):
            linear = nn.Linear(*W.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(W.T.copy()))
                linear.bias.copy_(torch.from_numpy(b))
            layers += [linear, nn.ReLU()] if i < len(task.weights) - 1 else [linear]
        model = nn.Sequential(*layers)
        optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, fused=True)
        x, y = torch.from_numpy(task.x), torch.from_numpy(task.y)

        def loss(rows):
            return nn.functional.cross_entropy(model(x[rows].float() * (1 / 255)), y[rows])

        if compiled:
            loss = torch.compile(loss)

        def run(order: np.ndarray) -> float:
            total = torch.zeros(())
            for rows in torch.from_numpy(order).split(task.batch_size):
                optimizer.zero_grad()
                value = loss(rows)
                value.backward()
                optimizer.step()
                total += value.detach()
            return float(total) * task.batch_size / len(order)

        return run

    return make


def make_sklearn(task: Task) -> Run:
    """``MLPClassifier.partial_fit``, in its own order; its samples are float32 beforehand, because it has no uint8."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        task.sizes[1:-1],
        solver="sgd",
        alpha=0.0,
        batch_size=task.batch_size,
        learning_rate_init=LEARNING_RATE,
        momentum=0.0,
        nesterovs_momentum=False,
        random_state=0,
    )
    x = task.x.astype(np.float32) / np.float32(255)
    model.partial_fit(x[: task.batch_size], task.y[: task.batch_size], classes=np.arange(task.sizes[-1]))
    model.coefs_ = [W.copy() for W, _ in task.weights]
    model.intercepts_ = [b.copy() for _, b in task.weights]

    def run(order: np.ndarray) -> float:
        model.partial_fit(x, task.y)
        return float(model.loss_)

    return run


TRAINERS: dict[str, Callable[[Task], Run]] = {
    "fastnn numba": make_fastnn("numba"),
    "fastnn numba, again": make_fastnn("numba"),
    "fastnn numba, bf16": make_fastnn("numba", "bf16"),
    "fastnn numpy": make_fastnn("numpy"),
    "plain numpy loop": make_plain_numpy,
    "JAX scan": make_jax,
    "PyTorch eager": make_torch(False),
    "PyTorch compiled": make_torch(True),
    "scikit-learn": make_sklearn,
}
