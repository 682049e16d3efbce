"""The same training on fastnn's backends and on other libraries: who trains how, given the same start and order.

Each function here makes of a task a `Loop`, in the way that its library's users are told to write for speed. Every one
of them does the same work, shuffled gather of uint8 images and their scaling included. `TRAINERS` are those that
`fastnn.bench.peers` compares on the CPU. With ``device="cuda"``, images, labels and weights stay on the device, and an
epoch begins with the upload of its order and ends with the download of its loss.

`precision` is that of the operands of matrix products, as in `fastnn.Network`: None is float32 and nothing less.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

LEARNING_RATE = 0.1
_JAX_PRECISIONS = {None: "highest", "tf32": "tensorfloat32", "bf16": None}  # of products of float32
_COMPARED = 100  # places of an epoch's order: another epoch's differs there, and all of it takes a device some steps


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


class Loop(NamedTuple):
    """What is ready to train."""

    run: Callable[[np.ndarray], float]  # an epoch over the samples in that order; the mean loss of its mini-batches
    settings: dict[str, Any]  # on which the time depends, as the library itself tells them
    losses: Callable[[], np.ndarray] | None = None  # mean loss of each mini-batch of the last epoch, where it is kept


Make = Callable[[Task], Loop]


def make_fastnn(task: Task, backend: str, precision: str | None = None, dtype: str = "float32") -> Loop:
    import fastnn
    from fastnn.training import Trainer
    from fastnn.workspace import Workspace

    network = fastnn.Network(task.sizes, backend=backend, threads=task.threads, precision=precision, dtype=dtype)
    network.set_weights(task.weights)
    optimizer = fastnn.SGD(LEARNING_RATE)
    workspace = Workspace(
        network,
        task.x,
        task.y,
        task.batch_size,
        loss="cross_entropy",
        optimizer=optimizer,
        training=True,
    )
    trainer = Trainer(workspace, optimizer, fastnn.Constant(), epochs=1)
    trainer.compile()

    def run(order: np.ndarray) -> float:
        with network.kernels.limit_threads(task.threads):
            trainer.epoch(0, lambda trainer: None)
        if not np.array_equal(network.kernels.to_numpy(workspace.data.data.order[:_COMPARED]), order[:_COMPARED]):
            raise RuntimeError("fastnn trained in another order than it was given: see `fastnn.bench.runner.orders`")
        return trainer.means()[0]

    def losses() -> np.ndarray:
        return workspace.objective.losses() / task.batch_size

    return Loop(run, {"backend": network.backend, "plan": workspace.plan, "precision": network.precision}, losses)


def make_plain_numpy(task: Task) -> Loop:
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

    return Loop(run, {})


def make_jax(task: Task, device: str = "cpu", precision: str | None = None) -> Loop:
    """``lax.scan`` over the mini-batches inside one ``jit``, parameters donated."""
    import jax
    import jax.numpy as jnp

    import fastnn

    try:
        jax.config.update("jax_default_device", jax.devices(device)[0])
    except RuntimeError as error:
        raise fastnn.BackendError(f"JAX has no {device}: {error}") from error
    if device != "cpu":  # which computes in float32 anyway
        jax.config.update("jax_default_matmul_precision", _JAX_PRECISIONS[precision])
    matmul = make_jax_bf16() if precision == "bf16" else jnp.matmul

    def loss(parameters, x, y):
        for W, b in parameters[:-1]:
            x = jax.nn.relu(matmul(x, W) + b)
        W, b = parameters[-1]
        logits = jax.nn.log_softmax(matmul(x, W) + b)
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

    shown = {"device": str(x.devices().pop()), "matmul_precision": jax.config.jax_default_matmul_precision}
    return Loop(run, shown | {"precision": precision})


def make_jax_bf16() -> Callable[[Any, Any], Any]:
    """A matrix product of bfloat16 operands that sums up in float32.

    JAX's own derivative of it would multiply the float32 gradient by the other operand, in float32: much slower than
    what PyTorch's autocast and fastnn do. So this one casts the gradient too.
    """
    import jax
    import jax.numpy as jnp

    def multiply(a, b):
        return jnp.matmul(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), preferred_element_type=jnp.float32)

    product = jax.custom_vjp(multiply)
    product.defvjp(
        lambda x, W: (multiply(x, W), (x, W)),
        lambda saved, delta: (multiply(delta, saved[1].T), multiply(saved[0].T, delta)),
    )
    return product


def make_torch(task: Task, how: str = "eager", device: str = "cpu", precision: str | None = None) -> Loop:
    """Eager: the usual loop; compiled: its forward pass and loss by ``torch.compile``; graph: its step a CUDA graph."""
    import torch
    from torch import nn

    import fastnn

    if device == "cuda" and not torch.cuda.is_available():
        raise fastnn.BackendError(f"PyTorch {torch.__version__} sees no CUDA device")
    if how == "graph" and device != "cuda":
        raise fastnn.BackendError("CUDA graphs are for CUDA devices")
    torch.set_num_threads(task.threads)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    model = make_torch_model(task.weights).to(device)
    # The graph takes the optimizer that PyTorch documents as fit for capture; without momentum it is one kernel too.
    kind = "foreach" if how == "graph" else "fused"
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, **{kind: True})
    x, y = torch.from_numpy(task.x).to(device), torch.from_numpy(task.y).to(device)
    total = torch.zeros((), device=device)

    def loss(batch, labels):
        return nn.functional.cross_entropy(model(batch.float() * (1 / 255)), labels)

    def batch_loss(rows):
        return loss(x[rows], y[rows])

    if how == "compiled" and device == "cuda":
        # It replays graphs, and copies what is given to it first: a batch, but not all the samples.
        loss = torch.compile(loss, mode="reduce-overhead")
    elif how == "compiled":
        batch_loss = torch.compile(batch_loss)
    if precision == "bf16":
        batch_loss = torch.autocast(device, torch.bfloat16, cache_enabled=how != "graph")(batch_loss)

    def step(rows):
        optimizer.zero_grad()
        value = batch_loss(rows)
        value.backward()
        optimizer.step()
        total.add_(value.detach())

    if how == "graph":
        step = capture_torch(step, list(model.parameters()), task.batch_size)

    def run(order: np.ndarray) -> float:
        total.zero_()
        for rows in torch.from_numpy(order).to(device).split(task.batch_size):
            step(rows)
        return float(total) * task.batch_size / len(order)

    shown = {"matmul_precision": torch.get_float32_matmul_precision(), "cuda": torch.version.cuda}
    return Loop(run, shown | {"device": str(x.device), "how": how, "precision": precision})


def make_torch_model(weights: list[tuple[np.ndarray, np.ndarray]]) -> Any:
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for W, b in weights:
        linear = nn.Linear(*W.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(W.T.copy()))
            linear.bias.copy_(torch.from_numpy(b))
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def capture_torch(step: Callable, parameters: list[Any], batch_size: int) -> Callable:
    """`step` as a CUDA graph that is replayed, the way PyTorch's notes on CUDA graphs capture a whole network."""
    import torch

    rows = torch.zeros(batch_size, dtype=torch.int64, device="cuda")
    before = [parameter.detach().clone() for parameter in parameters]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(rows)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(rows)
    with torch.no_grad():
        for parameter, values in zip(parameters, before, strict=True):
            parameter.copy_(values)

    def replay(these: Any, kept: Any = step) -> None:  # a graph keeps nothing alive that it works on: `step` does
        rows.copy_(these)
        graph.replay()

    return replay


def make_sklearn(task: Task) -> Loop:
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

    return Loop(run, {})


TRAINERS: dict[str, Make] = {
    "fastnn numba": functools.partial(make_fastnn, backend="numba"),
    "fastnn numba, again": functools.partial(make_fastnn, backend="numba"),
    "fastnn numba, bf16": functools.partial(make_fastnn, backend="numba", precision="bf16"),
    "fastnn numpy": functools.partial(make_fastnn, backend="numpy"),
    "plain numpy loop": make_plain_numpy,
    "JAX scan": make_jax,
    "PyTorch eager": make_torch,
    "PyTorch compiled": functools.partial(make_torch, how="compiled"),
    "scikit-learn": make_sklearn,
}
