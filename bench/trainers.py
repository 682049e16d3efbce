"""The same training on fastnn's backends and on other libraries: who trains how, given the same start and order.

Each function here makes of a task a `Loop`, in the way that its library's users are told to write for speed. Every one
of them does the same work, shuffled gather of uint8 images and their scaling included. With ``device="cuda"``, images,
labels and weights stay on the device, and an epoch begins with the upload of its order and ends with the download of
its loss. (fastnn's includes drawing that order too; the others are given it.)

A precision is that of the operands of matrix products, as in `fastnn.Network`; where a trainer is given none it is the
task's, and None is float32 and nothing less.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastnn
from fastnn.bench import reference
from fastnn.datasets import Dataset

LEARNING_RATE = 0.1
_JAX_PRECISIONS = {None: "highest", "tf32": "tensorfloat32", "bf16": None}  # of products of float32
_COMPARED = 100  # places of an epoch's order: another epoch's differs there, and all of it takes a device some steps


class Task(NamedTuple):
    """What is trained: plain SGD on the cross-entropy of a ReLU network."""

    x: NDArray[np.uint8]  # (n, n_in); n a multiple of the batch size
    y: NDArray[np.int64]  # (n,)
    sizes: tuple[int, ...]
    batch_size: int
    threads: int
    weights: reference.Weights  # (W, b) of each layer, float32
    precision: str | None = None

    @property
    def steps(self) -> int:
        """Mini-batches of an epoch."""
        return len(self.x) // self.batch_size

    def flops(self) -> int:
        """Of the matrix products of an epoch: forward, weight gradients, and all input gradients but the first."""
        pairs = list(zip(self.sizes[:-1], self.sizes[1:], strict=True))
        return 2 * len(self.x) * (3 * sum(a * b for a, b in pairs) - pairs[0][0] * pairs[0][1])


class Loop(NamedTuple):
    """What is ready to train."""

    run: Callable[[np.ndarray], float]  # an epoch over the samples in that order; the mean loss of its mini-batches
    settings: dict[str, Any]  # on which the time depends, as the library itself tells them
    # The mean loss of each mini-batch of the last epoch, from who trains whole epochs only; None: `run` can take fewer.
    losses: Callable[[], np.ndarray] | None = None


Make = Callable[[Task], Loop]


# ---- the task -------------------------------------------------------------------------------------------------------


def make_task(
    sizes: tuple[int, ...],
    batch_size: int,
    samples: int,
    threads: int,
    data: Dataset | None,
    precision: str | None = None,
) -> Task:
    """The first `samples` of a data set, as far as they fill whole mini-batches, and the weights to begin with.

    Without a data set, samples and labels are random.

    Raises
    ------
    fastnn.DataError
        If there are less samples than a mini-batch has, or of another size or dtype.
    """
    if data is None:
        generator = np.random.default_rng(0)
        x = generator.integers(0, 256, (samples, sizes[0]), np.uint8)
        y = generator.integers(0, sizes[-1], samples)
    else:
        x, y = data.x_train.reshape(len(data.x_train), -1)[:samples], data.y_train[:samples]
    if x.shape[1] != sizes[0] or x.dtype != np.uint8:
        name = data.name if data else "random data"
        raise fastnn.DataError(f"{name} has samples of {x.shape[1]} {x.dtype}, the networks take {sizes[0]} uint8")
    n = len(x) // batch_size * batch_size  # whole batches only: JAX's scan needs them
    if n == 0:
        raise fastnn.DataError(f"{len(x)} samples are less than a mini-batch of {batch_size}")
    weights = list(fastnn.Network(sizes, backend="numpy").get_weights())
    return Task(x[:n], y[:n].astype(np.int64), sizes, batch_size, threads, weights, precision)


def orders(sizes: tuple[int, ...], n: int) -> Iterator[NDArray[np.int64]]:
    """The order of samples in each epoch, as a fastnn network of seed 0 draws it."""
    network, epoch = fastnn.Network(sizes, backend="numpy"), 0
    while True:
        order = np.arange(n)
        network.generator("order", epoch).shuffle(order)
        yield order
        epoch += 1


# ---- the trainers ---------------------------------------------------------------------------------------------------


class Training:
    """A fastnn network in plain SGD, an epoch or a mini-batch at a time."""

    def __init__(self, task: Task, backend: str, precision: str | None = None, dtype: str = "float32") -> None:
        from fastnn.training import Trainer
        from fastnn.workspace import Workspace

        precision = precision or task.precision
        self.network = fastnn.Network(
            task.sizes, backend=backend, threads=task.threads, precision=precision, dtype=dtype
        )
        self.network.set_weights(task.weights)
        self.task, self._optimizer = task, fastnn.SGD(LEARNING_RATE)
        self._workspace = Workspace(
            self.network,
            task.x,
            task.y,
            task.batch_size,
            loss="cross_entropy",
            optimizer=self._optimizer,
            training=True,
        )
        self._trainer = Trainer(self._workspace, self._optimizer, fastnn.Constant(), epochs=1)
        self._trainer.compile()

    @property
    def plan(self) -> str:
        return self._workspace.plan

    def epoch(self) -> float:
        """In another order each time; returns the mean loss."""
        self._trainer.epoch(0, lambda trainer: None)
        return self._trainer.means()[0]

    def run(self, order: np.ndarray) -> float:
        """An epoch, whose order has to be the one that the network draws."""
        with self.network.kernels.limit_threads(self.task.threads):
            loss = self.epoch()
        trained = self._workspace.data.data.order[:_COMPARED]
        if not np.array_equal(self.network.kernels.to_numpy(trained), order[:_COMPARED]):
            raise RuntimeError("fastnn trained in another order than it was given: see `fastnn.bench.trainers.orders`")
        return loss

    def set_rates(self) -> None:
        """Put the learning rates where an epoch would have put them, for single steps."""
        steps = np.arange(self._workspace.data.steps)
        self._workspace.objective.begin_epoch(self._optimizer.rates(np.ones(len(steps)), steps))

    def step(self, number: int) -> None:
        from fastnn.step import bind

        self._workspace.run(bind(self.network.kernels).train_steps, number, number + 1)

    def losses(self) -> np.ndarray:
        """The mean loss of each mini-batch of the last epoch."""
        return self._workspace.objective.losses() / self.task.batch_size


def make_fastnn(task: Task, backend: str, precision: str | None = None, dtype: str = "float32") -> Loop:
    training = Training(task, backend, precision, dtype)
    network = training.network
    settings = {"backend": network.backend, "plan": training.plan, "precision": network.precision}
    return Loop(training.run, settings, training.losses)


def make_plain_numpy(task: Task) -> Loop:
    """The loop that one would write by hand."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(task.threads)
    weights = reference.copy_weights(task.weights, np.float32)

    def run(order: np.ndarray) -> float:
        return float(np.mean(list(reference.steps(weights, task.x, task.y, order, task.batch_size, LEARNING_RATE))))

    return Loop(run, {})


def make_jax(task: Task, device: str = "cpu", precision: str | None = None) -> Loop:
    """``lax.scan`` over the mini-batches inside one ``jit``, parameters donated."""
    import jax
    import jax.numpy as jnp

    precision = precision or task.precision
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
        return parameters, losses.mean(), losses

    compiled = jax.jit(epoch, donate_argnums=0)
    x, y = jnp.asarray(task.x), jnp.asarray(task.y.astype(np.int32))
    parameters, last = [(jnp.asarray(W), jnp.asarray(b)) for W, b in task.weights], None

    def run(order: np.ndarray) -> float:
        nonlocal parameters, last
        parameters, value, last = compiled(parameters, x, y, jnp.asarray(order.astype(np.int32)))
        return float(value)

    shown = {"device": str(x.devices().pop()), "matmul_precision": jax.config.jax_default_matmul_precision}
    return Loop(run, shown | {"precision": precision}, lambda: np.asarray(last))


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

    precision = precision or task.precision
    if device == "cuda" and not torch.cuda.is_available():
        raise fastnn.BackendError(f"PyTorch {torch.__version__} sees no CUDA device")
    if how == "graph" and device != "cuda":
        raise fastnn.BackendError("CUDA graphs are for CUDA devices")
    torch.set_num_threads(task.threads)
    if how == "compiled":
        torch.compiler.reset()  # of several tasks compiled one after the other, the ninth would not be compiled
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


def make_torch_model(weights: reference.Weights) -> Any:
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
    """``MLPClassifier.partial_fit``, whose samples are float32 beforehand, because it has no uint8.

    Whole epochs it goes through in an order of its own.
    """
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
    x = reference.scaled(task.x, np.float32)
    model.partial_fit(x[: task.batch_size], task.y[: task.batch_size], classes=np.arange(task.sizes[-1]))
    model.coefs_ = [W.copy() for W, _ in task.weights]
    model.intercepts_ = [b.copy() for _, b in task.weights]

    def run(order: np.ndarray) -> float:
        part = len(order) < len(x)
        model.partial_fit(x[order] if part else x, task.y[order] if part else task.y)
        return float(model.loss_)

    return Loop(run, {})
