"""The plan "persistent", an epoch in one launch: what it computes, for whom it is, and that it cannot hang."""

import cuda_on_cpu
import numpy as np
import pytest
from cuda_on_cpu import on_cpu_only, on_cuda
from test_cuda import spoil_source  # noqa: F401 - a fixture

import fastnn
from fastnn.errors import BackendError


@pytest.fixture
def persistent(kernels):
    """The module that the backend's kernels have it from."""
    return cuda_on_cpu.find_part(kernels, "cuda_persistent")


@pytest.fixture(autouse=True)
def _plan(monkeypatch):
    monkeypatch.setenv("FASTNN_CUDA_PLAN", "persistent")


def force_blocks(monkeypatch, persistent, blocks, buffers=2):
    monkeypatch.setattr(persistent, "choose_blocks", lambda size: (blocks, buffers))


def make_data(sizes, n=100, kind="uint8", targets=False, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (n, sizes[0])).astype(np.uint8) if kind == "uint8" else None
    x = rng.standard_normal((n, sizes[0])).astype(np.float32) if x is None else x
    return x, rng.random((n, sizes[-1])) if targets else rng.integers(0, sizes[-1], n)


def train(backend, sizes, x, y, epochs=3, precision=None, **options):
    chosen = {name: options.pop(name) for name in ("hidden", "output", "bias") if name in options}
    net = fastnn.Network(sizes, backend=backend, seed=1, precision=precision, **chosen)
    fit = {"batch_size": 16, "optimizer": "sgd(0.1)", "schedule": "cosine(warmup=0.1)"} | options
    return net, net.fit(x, y, epochs=epochs, **fit)


def compare(backend, sizes, limit=1e-5, precision=None, data=None, **options):
    """A run against numpy's: 3 epochs of 6 full mini-batches and a smaller one."""
    x, y = make_data(sizes, **data or {})
    net, history = train(backend, sizes, x, y, precision=precision, **options)
    plain, expected = train("numpy", sizes, x, y, **options)
    assert history.plan == "persistent"
    np.testing.assert_allclose(history.loss, expected.loss, rtol=limit)
    for (W, b), (expected_W, expected_b) in zip(net.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(W, expected_W, atol=limit)
        if b is not None:
            np.testing.assert_allclose(b, expected_b, atol=limit)
    return net


# ---- what it computes -----------------------------------------------------------------------------------------------

LAYERS = {
    "one layer": [12, 5],
    "two layers": [20, 16, 4],
    "three": [13, 9, 7, 3],
    "four": [20, 16, 12, 8, 4],
    "five": [10, 9, 8, 7, 6, 5],
}


@on_cuda
@pytest.mark.parametrize("blocks", [1, 2, 8])
@pytest.mark.parametrize("layers", LAYERS)
def test_a_run_is_numpys(backend, persistent, monkeypatch, layers, blocks):
    force_blocks(monkeypatch, persistent, blocks)
    compare(backend, LAYERS[layers], hidden="tanh", optimizer="sgd(0.1, momentum=0.9, nesterov=True)")


OPTIONS = {
    "relu, no biases, weight decay": {"hidden": "relu", "bias": False, "optimizer": "sgd(0.1, weight_decay=0.01)"},
    "momentum": {"hidden": "sigmoid", "optimizer": "sgd(0.2, momentum=0.8, weight_decay=0.001)"},
    "leaky relu": {"hidden": "leaky_relu", "data": {"kind": "float32"}},
    "quadratic loss of sigmoids": {"output": "sigmoid", "loss": "quadratic"},
    "quadratic loss of a softmax": {"output": "softmax", "loss": "quadratic"},
    "regression": {"output": "identity", "loss": "quadratic", "data": {"targets": True, "kind": "float32"}},
    "many labels": {"output": "sigmoid", "data": {"targets": True}},
    "not shuffled": {"shuffle": False},
}


@on_cuda
@pytest.mark.parametrize(("blocks", "buffers"), [(3, 1), (4, 2)])
@pytest.mark.parametrize("name", OPTIONS)
def test_options(backend, persistent, monkeypatch, name, blocks, buffers):
    """Rows of 21 bytes, which are no whole words; shares that differ in size; one or two mini-batches at a time."""
    force_blocks(monkeypatch, persistent, blocks, buffers)
    compare(backend, [21, 14, 9, 10, 3], **OPTIONS[name])


@on_cuda
@pytest.mark.parametrize("blocks", [1, 4])
@pytest.mark.parametrize(("precision", "limit"), [("tf32", 1e-3), ("bf16", 1e-2)])
def test_matrix_units(backend, persistent, monkeypatch, precision, limit, blocks):
    force_blocks(monkeypatch, persistent, blocks)
    net = compare(backend, [64, 32, 30, 20, 10], limit, precision, hidden="tanh", batch_size=32)
    monkeypatch.setenv("FASTNN_CUDA_PLAN", "graph")
    x, y = make_data([64, 10])
    other, _ = train(backend, [64, 32, 30, 20, 10], x, y, precision=precision, hidden="tanh", batch_size=32)
    for (W, _), (expected, _) in zip(net.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(W, expected, atol=limit / 20)  # the same rounded operands, in another order


@on_cuda
def test_a_wide_exchange(backend, persistent, monkeypatch):
    """Sums that each block adds up a share of."""
    force_blocks(monkeypatch, persistent, 4)
    compare(backend, [64, 40, 300, 33, 10], hidden="tanh", batch_size=32)


@on_cuda
def test_runs_repeat_to_the_bit(backend, persistent, monkeypatch):
    force_blocks(monkeypatch, persistent, 4)
    x, y = make_data([20, 4])
    runs = [train(backend, [20, 16, 12, 8, 4], x, y) for _ in range(20 if backend == "cupy" else 3)]
    for net, history in runs[1:]:
        assert history.loss == runs[0][1].loss
        for (W, _), (expected, _) in zip(net.get_weights(), runs[0][0].get_weights(), strict=True):
            np.testing.assert_array_equal(W, expected)


@on_cuda
def test_chosen_blocks_train(backend):
    compare(backend, [20, 16, 4])


@on_cuda
def test_handwritten_digits(backend):
    data = fastnn.datasets.load("digits")
    x, y = data.x_train[:320], data.y_train[:320]
    nets = [fastnn.Network([784, 30, 10], backend=name) for name in (backend, "numpy")]
    losses = [net.fit(x, y, epochs=3, batch_size=64, optimizer="sgd(0.1)").loss for net in nets]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert nets[0].history.plan == "persistent"


# ---- for whom it is -------------------------------------------------------------------------------------------------

OBSTACLES = {
    "float32 only": {"dtype": "float64"},
    "SGD only, with or without momentum": {"optimizer": "adam"},
    "does not clip gradients": {"optimizer": "sgd(0.1, clip_norm=0.5)"},
    "neither dropout": {"dropout": 0.2},
    "no hidden activation whose derivative is computed from z": {"hidden": "gelu"},
    "at most 8 layers": {"sizes": [20, *[4] * 8, 4]},
    "do not fit the shared memory": {"sizes": [20, 4000, 3000, 4]},
    "samples must be uint8 or float32": {"x": np.zeros((100, 20))},
    "nor sample weights": {"sample_weight": np.ones(100)},
}


@on_cuda
@pytest.mark.parametrize("why", OBSTACLES)
def test_a_network_that_is_not_fit_says_why(backend, monkeypatch, why):
    options = dict(OBSTACLES[why])
    x, y = make_data([20, 4])
    x, sizes = options.pop("x", x), options.pop("sizes", [20, 16, 4])
    fit = {name: options.pop(name) for name in ("optimizer", "sample_weight") if name in options}
    net = fastnn.Network(sizes, backend=backend, **options)
    with pytest.raises(BackendError, match=f"FASTNN_CUDA_PLAN=persistent: .* cannot train this network: .*{why}"):
        net.fit(x, y, epochs=1, **fit)
    if "memory" not in why:  # which takes the CPU too long
        monkeypatch.delenv("FASTNN_CUDA_PLAN")
        assert net.fit(x, y, epochs=1, **fit).plan == "graph"


@on_cuda
@pytest.mark.parametrize("sizes", [[20, 4], [20, 16, 4], [20, 16, 8, 4]])
def test_plan_by_default(backend, monkeypatch, sizes):
    """A network alone takes it with one hidden layer at most, networks that are trained side by side all do."""
    monkeypatch.delenv("FASTNN_CUDA_PLAN")
    x, y = make_data(sizes)
    net, history = train(backend, sizes, x, y, epochs=1)
    assert history.plan == ("graph" if len(sizes) > 3 else "persistent")
    assert set(net.evaluate(x, y)) == {"loss", "accuracy"}
    assert np.isfinite(net.gradients(x, y)[0])
    together = [fastnn.Network(sizes, backend=backend, seed=seed) for seed in range(2)]
    histories = fastnn.train_many(together, x, y, epochs=1, batch_size=16)
    assert [history.plan for history in histories] == ["persistent"] * 2


@on_cpu_only
@pytest.mark.parametrize(
    ("sizes", "rows", "fits"),
    [
        ((784, 30, 10), 64, True),
        ((784, 128, 10), 64, True),
        ((784, 512, 512, 512, 10), 64, True),
        ((784, 512, 512, 512, 10), 512, False),
        ((784, 2500, 2000, 1500, 1000, 500, 10), 64, False),
    ],
)
def test_who_fits_a_large_device(backend, persistent, monkeypatch, sizes, rows, fits):
    monkeypatch.setattr(persistent, "multiprocessors", lambda: 132)
    size = persistent.Size(sizes, rows, item=1, velocity=False, scratch=0)
    choice = persistent.choose_blocks(size)
    assert (choice is not None) == fits
    if fits:
        assert persistent.shared_bytes(size, *choice) <= 227 * 1024
        assert 1 < choice[0] <= 132


# ---- it cannot hang -------------------------------------------------------------------------------------------------


@on_cpu_only
def test_a_lost_block_is_an_error(backend, kernels, persistent, monkeypatch):
    """The others give up waiting."""
    force_blocks(monkeypatch, persistent, 4)
    start = cuda_on_cpu.Loaded.start

    def start_less(self, name, blocks, *arguments):
        start(self, name, blocks - (1 if name.startswith("train") else 0), *arguments)

    monkeypatch.setattr(cuda_on_cpu.Loaded, "start", start_less)
    x, y = make_data([20, 4])
    with pytest.raises(BackendError, match="did not reach a barrier in time"):
        train(backend, [20, 16, 4], x, y, epochs=1)


@on_cuda
def test_blocks_that_cannot_all_be_there_are_not_launched(backend, persistent, monkeypatch):
    force_blocks(monkeypatch, persistent, 4)
    monkeypatch.setattr(persistent, "resident_blocks", lambda *arguments: 3)
    x, y = make_data([20, 4])
    with pytest.raises(BackendError, match="needs 4 co-resident blocks, the device fits 3; set FASTNN_CUDA_PLAN=graph"):
        train(backend, [20, 16, 4], x, y, epochs=1)


FAULTS = {
    "shares read before they are there": (
        "persistent.cu",
        "if (!grid_barrier(job, state)) return false;\n  if (blocks",
        "if (blocks",
    ),
    "totals read before they are there": (
        "persistent.cu",
        "if (!grid_barrier(job, state)) return false;\n  for (int e = th",
        "for (int e = th",
    ),
    "one half of the exchange": ("persistent.cu", "(state.barriers & 1)", "0"),
    "weights changed too early": ("persistent.cu", "__syncthreads();  // the old weights", "// the old weights"),
    "samples before they have come": ("persistent.cu", "    wait_for_copies<0>();\n", ""),
    "less memory than is used": ("persistent.cu", "(count + 3) / 4 * 4", "(count + 3) / 4 * 4 + 8"),
    "biases of one block only": ("persistent.cu", "if (!own && state.rank > 0) return;", "if (state.rank > 0) return;"),
}


@on_cpu_only
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_source_is_rejected(backend, persistent, monkeypatch, spoil_source, fault):  # noqa: F811
    force_blocks(monkeypatch, persistent, 4)
    spoil_source(*FAULTS[fault])
    with pytest.raises((AssertionError, BackendError, fastnn.DivergedError)):
        compare_two(backend)


def compare_two(backend):
    compare(backend, [64, 40, 300, 33, 10], hidden="tanh", batch_size=32, epochs=1)
    compare(backend, [20, 16, 4], hidden="tanh")


@on_cpu_only
def test_the_right_source_is_not(backend, persistent, monkeypatch):
    force_blocks(monkeypatch, persistent, 4)
    compare_two(backend)
