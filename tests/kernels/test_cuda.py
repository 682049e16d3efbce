"""What the CUDA backend has beside the kernel contract: tiles, matrix units, graphs, streaming. On a device, and as the
CPU executes it; and that execution on the CPU notices what it is there to notice.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cuda_on_cpu
import numpy as np
import pytest
import test_kernels as suite
from cuda_on_cpu import on_cpu_only, on_cuda

import fastnn
from fastnn import backends
from fastnn.errors import SettingError
from fastnn.kernels import cuda_source, numpy_kernels
from fastnn.kernels.contract import KERNELS
from fastnn.kernels.cuda_modules import TILES, Product, all_modules, choose_tile
from fastnn.operations import ACTIVATIONS

REAL = {"float": "float32", "double": "float64"}
EVERY_TILE = [(real, tile) for real, tiles in TILES.items() for tile in tiles]


def force_tile(monkeypatch, kernels, tile):
    monkeypatch.setattr(cuda_on_cpu.find_part(kernels, "cuda_team"), "choose_tile", lambda *arguments: tile)


# ---- tiles ----------------------------------------------------------------------------------------------------------


@on_cuda
@pytest.mark.parametrize(("real", "tile"), EVERY_TILE, ids=lambda v: v if isinstance(v, str) else f"{v.m}x{v.n}")
def test_products_in_every_tile(kernels, monkeypatch, real, tile):
    """Sizes around those of tiles, of slabs, and of vectors of 16 bytes."""
    force_tile(monkeypatch, kernels, tile)
    sizes = [1, 4, 15, 16, 17, tile.m - 1, tile.m, tile.m + 1, tile.m + 4, 2 * tile.m + 3]
    rng = np.random.default_rng(tile.m)
    for _ in range(12):
        suite.check_products(kernels, REAL[real], tuple(int(n) for n in rng.choice(sizes, 3)))
    suite.check_products(kernels, REAL[real], (tile.m, 784, 32))


@pytest.mark.parametrize("multiprocessors", [46, 132])
@pytest.mark.parametrize("real", TILES)
def test_chosen_tiles(real, multiprocessors):
    """Small products are spread over the device, large ones use large tiles."""

    def choose(m, n, k):
        return choose_tile(Product(m, n, k, True, False), real, None, multiprocessors)

    small, large = choose(64, 10, 128), choose(4096, 4096, 4096)
    assert small == TILES[real][0]
    assert large in TILES[real][-2:]


# ---- matrix units ---------------------------------------------------------------------------------------------------


def rounded(values, precision):
    """To the operands' precision, as float64."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    to_even, away_from_zero = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000, (bits + 0x1000) & 0xFFFFE000
    bits = {"bf16": to_even, "tf32": away_from_zero}[precision]  # where two are equally near
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def multiply_all(kernels, precision, x, W, delta):
    """z = x W, dX = delta W', dW = x' delta, and W after a step of SGD."""
    rows, n_in, n_out = len(x), *W.shape
    (member,) = kernels.make_team(1, [n_in, n_out], rows, np.dtype(np.float32), precision)
    none = np.empty(0, np.float32)
    z, dX = (np.full((rows, n), np.nan, np.float32) for n in (n_out, n_in))
    results = z, dX, np.full_like(W, np.nan), W.copy()
    x, W, delta, none = map(kernels.asarray, (x, W, delta, none))
    z, dX, dW, after = results = [kernels.asarray(array) for array in results]
    identity = kernels.load_activation(ACTIVATIONS["identity"], np.dtype(np.float32))
    kernels.dense(x, W, none, identity, z, z, member)
    kernels.input_gradient(delta, W, identity, x, x, dX, member)
    kernels.dense_gradient(x, delta, dW, none, member)
    kernels.dense_sgd(x, delta, kernels.asarray(np.full((1, 3), 0.5)), 0, 0.25, after, none, member)
    return [kernels.to_numpy(array) for array in results]


def largest_error(found, precision, x, W, delta):
    """Relative to the largest element, against products of rounded operands."""
    x, delta, rounded_W = (rounded(array, precision) for array in (x, delta, W))
    step = x.T @ delta
    expected = x @ rounded_W, delta @ rounded_W.T, step, W - 0.5 * (step + 0.25 * W)
    return max(np.abs(f - e).max() / np.abs(e).max() for f, e in zip(found, expected, strict=True))


def draw_operands(seed, sizes):
    rng = np.random.default_rng(seed)
    rows, n_in, n_out = (int(n) for n in rng.choice(sizes, 3))
    shapes = (rows, n_in), (n_in, n_out), (rows, n_out)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@on_cuda
@pytest.mark.parametrize("tile", TILES["float"], ids=lambda tile: f"{tile.m}x{tile.n}")
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_matrix_units_multiply_rounded_operands(kernels, monkeypatch, precision, tile):
    force_tile(monkeypatch, kernels, tile)
    for seed in range(4):
        operands = draw_operands(seed, [1, 7, 16, 33, 64, 130, 300])
        assert largest_error(multiply_all(kernels, precision, *operands), precision, *operands) < 1e-5


@on_cuda
@pytest.mark.parametrize(("one", "other"), [("tf32", "bf16"), ("bf16", "tf32"), (None, "tf32")])
def test_check_notices_another_precision(kernels, one, other):
    operands = draw_operands(0, [40, 50])
    assert largest_error(multiply_all(kernels, one, *operands), other, *operands) > 1e-4


@on_cuda
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_network_learns_with_matrix_units(backend, precision):
    data = fastnn.datasets.load("digits")
    losses = []
    for chosen in (None, precision):
        net = fastnn.Network([784, 32, 10], backend=backend, precision=chosen)
        losses.append(net.fit(data.x_train[:256], data.y_train[:256], epochs=2, optimizer="sgd(0.1)").loss)
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.01)
    assert losses[0] != losses[1]


# ---- plans ----------------------------------------------------------------------------------------------------------

OPTIONS = {
    "plain": {"optimizer": "sgd(0.1)"},
    "nesterov, cosine": {"optimizer": "sgd(0.1, momentum=0.9, nesterov=True)", "schedule": "cosine(warmup=0.2)"},
    "adam, dropout": {"optimizer": "adam(0.01)"},
    "clipped": {"optimizer": "sgd(0.1, clip_norm=0.5)"},
    "sample weights": {"optimizer": "rmsprop(0.01)", "sample_weight": np.linspace(0, 2, 330)},
}


def train(backend, plan, monkeypatch, name="plain", n=330, **options):
    monkeypatch.setenv("FASTNN_CUDA_PLAN", plan)
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 256, (n, 20)).astype(np.uint8), rng.integers(0, 4, n)
    dropout = 0.25 if "dropout" in name else 0.0
    net = fastnn.Network([20, 16, 4], hidden="tanh", dropout=dropout, backend=backend, seed=5, **options)
    history = net.fit(x, y, epochs=3, batch_size=8, validation_data=(x[:50], y[:50]), **OPTIONS[name])
    return net, history


@on_cuda
@pytest.mark.parametrize("name", OPTIONS)
def test_a_replayed_graph_does_what_the_launches_do(backend, monkeypatch, name):
    """42 mini-batches an epoch: some alone, some in graphs of one and of many, and the last a smaller one."""
    runs = [train(backend, plan, monkeypatch, name) for plan in ("eager", "graph")]
    assert [history.plan for _, history in runs] == ["eager", "graph"]
    (one, first), (other, second) = runs
    assert (first.loss, first.accuracy, first.val_loss) == (second.loss, second.accuracy, second.val_loss)
    for (W, b), (other_W, other_b) in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(W, other_W)
        np.testing.assert_array_equal(b, other_b)


@on_cuda
def test_the_epoch_is_replayed(backend, kernels, monkeypatch):
    """Mini-batches are captured once and then replayed, by the graph of many as far as it goes."""
    team = cuda_on_cpu.find_part(kernels, "cuda_team")
    captured, replayed, capture = [], [], team.capture

    class Counted:
        def __init__(self, graph):
            self._graph = graph

        def launch(self):
            replayed.append(self._graph)
            self._graph.launch()

    def count(work):
        captured.append(work)
        return Counted(capture(work))

    monkeypatch.setattr(team, "capture", count)
    monkeypatch.setattr("fastnn.training._CALL_SECONDS", 1e9)
    train(backend, "graph", monkeypatch, n=8 * 330)
    # Of training graphs of 16, of 1, and of the last mini-batch; validation is a last mini-batch.
    assert len(captured) == 4
    assert len(replayed) < 330 * 3 / 8


@on_cuda
def test_graph_is_the_plan_where_one_launch_cannot_do(backend, monkeypatch):
    monkeypatch.delenv("FASTNN_CUDA_PLAN", raising=False)
    net = fastnn.Network([3, 2], backend=backend)
    assert net.fit(np.eye(3), [0, 1, 1], epochs=1, optimizer="adam").plan == "graph"


@on_cuda
def test_a_wrong_plan_is_an_error(backend, monkeypatch):
    with pytest.raises(SettingError, match="FASTNN_CUDA_PLAN must be eager, graph or persistent, got 'fast'"):
        train(backend, "fast", monkeypatch)


@on_cuda
def test_a_run_is_numpys(backend, monkeypatch):
    """Shuffled, on a hidden layer or three, in both types: the loss curve and the weights of the reference."""
    monkeypatch.setenv("FASTNN_CUDA_PLAN", "graph")
    data = fastnn.datasets.load("digits")
    x, y = data.x_train[:600], data.y_train[:600]
    for sizes, dtype, limit in [([784, 30, 10], "float32", 1e-5), ([784, 24, 20, 16, 10], "float64", 1e-11)]:
        nets = [fastnn.Network(sizes, backend=name, seed=1, dtype=dtype) for name in ("numpy", backend)]
        one, other = (net.fit(x, y, epochs=3, batch_size=32, optimizer="sgd(0.1)") for net in nets)
        np.testing.assert_allclose(other.loss, one.loss, rtol=limit)
        np.testing.assert_allclose(other.accuracy, one.accuracy, atol=1e-12)
        for (W, _), (expected, _) in zip(nets[1].get_weights(), nets[0].get_weights(), strict=True):
            np.testing.assert_allclose(W, expected, atol=10 * limit)


# ---- streaming ------------------------------------------------------------------------------------------------------


@pytest.fixture
def streamed(kernels, monkeypatch):
    """Every data set is too large, and half of the ring holds but three mini-batches of 8 rows of 20 bytes."""
    monkeypatch.setenv("FASTNN_CUDA_DATA_LIMIT", "0")
    monkeypatch.setattr(cuda_on_cpu.find_part(kernels, "cuda_stream"), "_HALF_BYTES", 3 * 8 * 20)


@on_cuda
@pytest.mark.parametrize("plan", ["eager", "graph"])
def test_streamed_samples_train_the_same_network(backend, kernels, monkeypatch, request, plan):
    expected, resident = train(backend, plan, monkeypatch)
    request.getfixturevalue("streamed")
    found, history = train(backend, plan, monkeypatch)
    assert (history.loss, history.val_loss) == (resident.loss, resident.val_loss)
    for (W, _), (expected_W, _) in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(W, expected_W)


@on_cuda
def test_streamed_samples_are_predicted(backend, streamed):
    x = np.random.default_rng(0).random((1300, 5), np.float32)
    net = fastnn.Network([5, 4, 3], backend=backend)
    plain = fastnn.Network([5, 4, 3], backend="numpy")
    np.testing.assert_allclose(net.predict_proba(x), plain.predict_proba(x), atol=1e-6)


@on_cpu_only
@pytest.mark.parametrize("fault", ["copies do not wait for the computation", "the host does not wait for copies"])
def test_streaming_without_waiting_is_noticed(backend, kernels, streamed, monkeypatch, fault):
    send = kernels.StreamedSamples._send

    def wrong(self, half, start, rows):
        (self._computed if "copies" in fault.split()[0] else self._copied)[half] = None
        send(self, half, start, rows)

    monkeypatch.setattr("fastnn.training._CALL_SECONDS", 1e9)  # no waiting for results between
    _, right = train(backend, "eager", monkeypatch)
    monkeypatch.setattr(kernels.StreamedSamples, "_send", wrong)
    _, history = train(backend, "eager", monkeypatch)
    assert history.loss != right.loss


@on_cuda
def test_a_wrong_limit_is_an_error(backend, monkeypatch):
    for text in ("much", "-1", "nan"):
        monkeypatch.setenv("FASTNN_CUDA_DATA_LIMIT", text)
        with pytest.raises(SettingError, match="FASTNN_CUDA_DATA_LIMIT must be a number of bytes"):
            train(backend, "graph", monkeypatch)


# ---- a device's own checker -----------------------------------------------------------------------------------------


@on_cuda
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_kernels_are_clean_under_compute_sanitizer(backend, tool):
    sanitizer = shutil.which("compute-sanitizer", path=f"{os.environ.get('PATH', '')}:/usr/local/cuda/bin")
    if backend != "cupy" or sanitizer is None:
        pytest.skip("there is no device, or no compute-sanitizer")
    suite_of_one_size = ["-m", "pytest", "-q", "-m", "gpu", suite.__file__, "-k", "cupy and 33 and not wrong"]
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, *suite_of_one_size]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


# ---- the execution on the CPU notices -------------------------------------------------------------------------------

ROUND = "__syncthreads();  // the round's"
FAULTS = {
    # (kernel, file, what is there, what is there instead)
    "no barrier between slabs": ("dense", "tile.cuh", ROUND, "// the round's"),
    "slabs read before they have come": (
        "dense",
        "tile.cuh",
        "wait_for_copies<STAGES - 2>",
        "wait_for_copies<STAGES - 1>",
    ),
    "sums written over slabs still in use": ("dense", "tile.cuh", "<0>();\n  __syncthreads();", "<0>();"),
    "sums read before they are there": ("dense", "tile.cuh", "value; });\n  __syncthreads();", "value; });"),
    "an edge forgotten": ("dense_gradient", "tile.cuh", " && column0 + c < columns;", ";"),
    "another row of a fragment": ("dense", "tile.cuh", "lane / 4 + r / 2 * 8, n0", "lane / 4 + r % 2 * 8, n0"),
    "column sums over the product's": ("dense_gradient", "products.cu", "__syncthreads();  // shared", "// shared"),
    "column sums before they are there": ("dense_sgd", "products.cu", "= sum;\n  }\n  __syncthreads();", "= sum;\n  }"),
    "warps' sums before they are there": ("loss_gradient", "sums.cuh", "= value;\n  __syncthreads();", "= value;"),
    "warps' sums written over others": (
        "loss_gradient",
        "sums.cuh",
        "{\n  __syncthreads();\n  if (thr",
        "{\n  if (thr",
    ),
    "squares that overflow": ("clip", "gradients.cu", "(double)grads[i] * grads[i]", "grads[i] * grads[i]"),
    "a share of the norm forgotten": ("clip", "gradients.cu", "i = 0; i < blocks;", "i = 1; i < blocks;"),
    "shared memory beyond its end": (
        "loss_gradient",
        "sums.cuh",
        "places[threadIdx.x / 32] =",
        "places[threadIdx.x] =",
    ),
    "a shuffle that not all lanes reach": (
        "dense",
        "loss.cuh",
        "  sum = sum_over_lanes<LANES>(sum);\n  for",
        "  if (lane < 16) sum = sum_over_lanes<LANES>(sum);\n  for",
    ),
}


@pytest.fixture
def spoil_source(monkeypatch):
    """A function that changes a source for the length of a test."""
    read = cuda_source._read

    def spoil(file, old, new):
        assert old in read(file)
        monkeypatch.setattr(
            cuda_source, "_read", lambda name: read(name).replace(old, new) if name == file else read(name)
        )
        cuda_on_cpu.load.cache_clear()

    yield spoil
    cuda_on_cpu.load.cache_clear()


def check_kernel(kernels, name):
    if name == "dense":
        operands = draw_operands(1, [33, 60, 140])
        assert largest_error(multiply_all(kernels, "bf16", *operands), "bf16", *operands) < 1e-5
    for n in (7, 33):
        suite.CHECKS[name](kernels, "float32", n)
    for shape in [(33, 200, 40), (64, 130, 36)]:
        suite.check_products(kernels, "float32", shape)


@on_cpu_only
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_source_is_rejected(backend, kernels, spoil_source, fault):
    name, *change = FAULTS[fault]
    spoil_source(*change)
    with pytest.raises(AssertionError):
        check_kernel(kernels, name)


@on_cpu_only
@pytest.mark.parametrize("name", sorted({name for name, *_ in FAULTS.values()}))
def test_the_right_source_is_not(backend, kernels, name):
    check_kernel(kernels, name)


@on_cpu_only
def test_a_hang_is_an_error(backend, kernels):
    """Lane 0 waits for its warp, and that for lane 0."""
    text = """
    extern "C" __global__ void hang(long long wait) {
      if (wait && threadIdx.x == 0) __shfl_xor_sync(ALL_LANES, 1, 1);
      __syncthreads();
    }"""
    library = cuda_on_cpu.build(cuda_source._inline("platform.cuh", {}) + text, "hang")
    loaded = cuda_on_cpu.Loaded(cuda_on_cpu.ctypes.CDLL(str(library)))
    for _ in range(2):
        loaded.start("hang", 1, 64, 0, 0)
        kernels.synchronize()
        loaded.start("hang", 1, 64, 0, 1)
        with pytest.raises(AssertionError, match="a barrier that some threads never reach"):
            kernels.synchronize()


@on_cpu_only
def test_arrays_of_device_and_host_do_not_mix(backend, kernels):
    array, values = kernels.asarray(np.ones(3)), np.ones(3)
    for mix in (lambda: array + values, lambda: np.sum(array), lambda: array.__setitem__(..., values)):
        with pytest.raises(TypeError):
            mix()
    np.testing.assert_array_equal(kernels.to_numpy(array * array), 1)


@on_cpu_only
def test_every_kernel_of_the_sources_is_launched_somewhere(backend, kernels):
    """None is left that nothing tests."""
    folder = Path(numpy_kernels.__file__).parent
    names = set()
    for module in all_modules():
        expanded = cuda_on_cpu.run_compiler(module.text(), "-E") if module.macros[0] == "REAL=float" else ""
        names |= set(re.findall(r'extern "C"\s+void\s+(\w+)\(', expanded))
    assert names >= {"dense", "gather_uint8", "softmax", "train_uint8", "set_counter"}
    python = "".join(path.read_text(encoding="utf-8") for path in folder.glob("cu*.py"))
    by_type = {name for name in names if re.fullmatch(r"(gather|deform|train)_(uint8|float32|float64)", name)}
    assert [name for name in names - by_type if f'"{name}"' not in python] == []


@on_cuda
def test_the_contract_is_numpys(backend, kernels):
    assert set(KERNELS) <= set(dir(kernels))
    assert backends.available_backends()[backend].state == backends.READY
