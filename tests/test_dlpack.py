"""Arrays of PyTorch, JAX and of a device: used where they lie, checked there, and answered in kind."""

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import array_api_compat
import cuda_on_cpu
import fake_cupy
import numpy as np
import pytest

from fastnn import DataError, Network
from fastnn.backends import READY, available_backends
from fastnn.evaluation import predictions
from fastnn.samples import as_sample_weight, as_samples, as_targets

X = np.random.default_rng(0).random((120, 12), np.float32)
Y = np.random.default_rng(1).integers(0, 3, 120)
TARGETS = np.eye(3, dtype=np.float32)[Y]
WEIGHTS = np.linspace(0.5, 2, 120, dtype=np.float32)
SETTINGS = {"epochs": 2, "batch_size": 50, "optimizer": "sgd(0.5)"}


class Elsewhere:
    """An array of a library whose arrays lie on the stand-in for a device; no host code may look into it."""

    def __init__(self, values, number=0):
        self.array = cuda_on_cpu.on_device(values)
        self.dtype, self.shape, self.device = self.array.dtype, self.array.shape, f"cuda:{number}"
        self._number = number

    def __dlpack_device__(self):
        return cuda_on_cpu.CUDA, self._number

    def __dlpack__(self, **_):
        return self.array

    def __array__(self, *_, **__):
        raise AssertionError("copied to the host")

    def __array_namespace__(self, **_):
        return SimpleNamespace(__name__="elsewhere", from_dlpack=Elsewhere.wrap)

    @classmethod
    def wrap(cls, array):
        assert isinstance(array, cuda_on_cpu.DeviceArray)
        made = cls(np.empty(0))
        made.array, made.dtype, made.shape = array, array.dtype, array.shape
        return made


@pytest.fixture(params=["torch", "jax"])
def library(request):
    """The namespace of a library of the array API."""
    module = pytest.importorskip(request.param)
    array = module.ones(1) if request.param == "torch" else module.numpy.ones(1)
    return array_api_compat.array_namespace(array)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def device(monkeypatch):
    """Name of the backend of the stand-in for a device."""
    cuda_on_cpu.register(monkeypatch.setitem)
    if available_backends()["cuda_on_cpu"].state != READY:
        pytest.skip("there is no C++ compiler")
    return "cuda_on_cpu"


def network(backend="numpy", **options):
    return Network([12, 8, 3], backend=backend, **options)


def copies(library, *arrays):
    return tuple(library.asarray(np.array(array)) for array in arrays)


def address(array):
    return array.__array_interface__["data"][0]


def same_run(one, two):
    assert one.history.loss == two.history.loss
    assert one.history.val_loss == two.history.val_loss
    for (W, b), (V, c) in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(W, V)
        np.testing.assert_array_equal(b, c)


# ---- on the host ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [Y, TARGETS], ids=["labels", "targets"])
def test_training_is_that_of_numpy_s_arrays(library, y):
    plain, other = network(), network()
    plain.fit(X, y, sample_weight=WEIGHTS, validation_data=(X, y), **SETTINGS)
    x, t, weights = copies(library, X, y, WEIGHTS)
    other.fit(x, t, sample_weight=weights, validation_data=(x, t), **SETTINGS)
    same_run(plain, other)
    assert plain.evaluate(X, y) == other.evaluate(x, t)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_what_numpy_can_view_is_not_copied(library, dtype):
    values = library.asarray((X * 255).astype(dtype))
    assert address(as_samples(values, 12, np.dtype("f4"))) == address(np.from_dlpack(values))
    targets, weights = copies(library, TARGETS, WEIGHTS)
    rows = as_targets(targets, 120, 3, np.dtype("f4"), "softmax", "cross_entropy").rows
    assert address(rows) == address(np.from_dlpack(targets))
    assert address(as_sample_weight(weights, 120, np.dtype("f4"))) == address(np.from_dlpack(weights))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "bool"])
def test_other_dtypes_are_converted(library, dtype):
    x = library.astype(library.asarray(X * 2), getattr(library, dtype))
    same = np.from_dlpack(library.astype(x, library.float32))
    np.testing.assert_array_equal(np.from_dlpack(network().predict_proba(x)), network().predict_proba(same))


def test_a_transposed_array_is_taken_for_what_it_is(library):
    x = library.asarray(np.ascontiguousarray(X.T)).T
    np.testing.assert_array_equal(np.from_dlpack(network().predict_proba(x)), network().predict_proba(X))


def test_answers_are_of_the_library_that_asked(library):
    (x,) = copies(library, X)
    for net in (network(), network(output="sigmoid"), network(output="identity"), network(dtype="float64")):
        if net.output == "sigmoid":
            net.fit(X, TARGETS[:, ::-1] > 0.5, epochs=1, loss="quadratic")
            net.decided_task = 1  # multi-label: an array of 0 and 1
        for say, expected in [
            (net.predict_proba, net.predict_proba(X)),
            (lambda x, n=net: predictions(n, x), net.predict(X)),
        ]:
            got = say(x)
            assert type(got) is type(x)
            assert got.shape == expected.shape
            np.testing.assert_array_equal(np.from_dlpack(got), expected.astype(np.from_dlpack(got).dtype))
    assert isinstance(network().predict_proba(X.tolist()), np.ndarray)


def test_an_answer_is_no_view_of_what_fastnn_keeps(torch):
    net, x = network(), torch.asarray(X)
    first = net.predict_proba(x)
    before = first.clone()
    net.predict_proba(1 - x)
    assert torch.equal(first, before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda torch: torch.ones(4, 12, requires_grad=True), r"samples require a gradient.*x\.detach\(\)"),
        (lambda torch: torch.ones(4, 12).to_sparse(), "samples must be numbers of one shape, got Tensor"),
        (lambda torch: torch.ones(4, 12, device="meta"), "samples must be numbers of one shape, got Tensor"),
        (lambda torch: torch.ones(4, 12, dtype=torch.complex64), "samples must be real numbers, got dtype complex64"),
        (lambda torch: torch.ones(4, 12).to(torch.float8_e4m3fn), "samples must be numbers of one shape"),
        (lambda torch: torch.full((4, 12), torch.nan), "samples must be finite: row 0 holds NaN"),
        (lambda torch: torch.ones(4, 11), r"expected samples of 12 features.*got shape \(4, 11\)"),
    ],
)
def test_what_cannot_be_is_refused(torch, make, message):
    with pytest.raises(DataError, match=message):
        network().predict_proba(make(torch))


def test_labels_and_weights_of_other_libraries_are_checked(library):
    x, y, weights = copies(library, X, Y, WEIGHTS)
    with pytest.raises(DataError, match="labels must lie between 0 and 2: row 0 holds"):
        network().fit(x, y + 3)
    with pytest.raises(DataError, match="sample weights must not be negative: row 119 holds -2"):
        network().fit(x, y, sample_weight=-weights)


def test_a_traced_array_is_refused():
    jax = pytest.importorskip("jax")
    with pytest.raises(DataError, match="samples must be numbers of one shape"):
        jax.jit(network().predict_proba)(jax.numpy.asarray(X))


def test_no_library_is_imported_for_it():
    code = (
        "import sys, numpy as np, fastnn\n"
        "net = fastnn.Network([2, 2], backend='numpy')\n"
        "net.fit(np.ones((4, 2)), [0, 1, 0, 1], epochs=1, verbose=False), net.predict([[1, 2]])\n"
        "print([name for name in ('torch', 'jax', 'cupy', 'array_api_compat') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


# ---- on a device ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [Y, TARGETS], ids=["labels", "targets"])
def test_on_a_device_training_is_that_of_the_host_s_arrays(device, y):
    plain, other = network(device), network(device)
    plain.fit(X, y, sample_weight=WEIGHTS, **SETTINGS)
    other.fit(Elsewhere(X), Elsewhere(y), sample_weight=Elsewhere(WEIGHTS), **SETTINGS)
    same_run(plain, other)


def test_a_device_s_array_stays_where_it_is(device):
    kernels = network(device).kernels
    x, targets = Elsewhere(X), Elsewhere(TARGETS)
    samples = as_samples(x, 12, np.dtype("f4"), kernels)
    assert samples.ctypes.data == x.array.ctypes.data
    assert kernels.as_source(samples) is samples
    rows = as_targets(targets, 120, 3, np.dtype("f4"), "softmax", "cross_entropy", kernels).rows
    assert kernels.asarray(rows).ctypes.data == targets.array.ctypes.data


def test_cupy_takes_what_is_on_its_device_alone(monkeypatch):
    """The true launch layer, over a fake of CuPy."""
    machine = fake_cupy.Machine()
    for name, module in fake_cupy.modules(machine).items():
        monkeypatch.setitem(sys.modules, name, module)
    path = importlib.util.find_spec("fastnn.kernels.cuda_device").origin
    specification = importlib.util.spec_from_file_location("cuda_device_over_a_fake", path)
    layer = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(layer)
    x = Elsewhere(X)
    adopted = layer.from_dlpack(x)
    assert adopted.ctypes.data == x.array.ctypes.data
    assert layer.is_on_device(adopted)
    assert not layer.is_on_device(X)
    assert layer.from_dlpack(X) is None
    assert layer.from_dlpack(Elsewhere(X, number=1)) is None


def test_answers_stay_on_the_device(device):
    net, x = network(device), Elsewhere(X)
    outputs, labels = net.predict_proba(x), predictions(net, x)
    assert (type(outputs), type(labels), labels.dtype) == (Elsewhere, Elsewhere, np.int64)
    np.testing.assert_array_equal(outputs.array.view(np.ndarray), net.predict_proba(X))
    np.testing.assert_array_equal(labels.array.view(np.ndarray), net.predict(X))


def test_the_host_s_tensor_goes_to_the_device_and_its_answer_comes_back(device, torch):
    net = network(device)
    got = net.predict_proba(torch.asarray(X))
    assert got.device.type == "cpu"
    np.testing.assert_array_equal(got.numpy(), net.predict_proba(X))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.where(X > 0.99, np.nan, X), Y, r"samples must be finite: row \d+ holds NaN or infinity"),
        (np.where(X > 0.99, 1e39, X.astype("f8")), Y, r"row \d+ holds 1e\+39, too large for float32"),
        (X[:, :11], Y, r"expected samples of 12 features.*got shape \(120, 11\)"),
        (X, Y + 1, r"labels must lie between 0 and 2: row \d+ holds 3"),
        (X, Y + 0.5, r"labels must be whole numbers: row 0 holds"),
        (X, TARGETS / 2, "targets of cross_entropy must add up to 1: row 0 adds up to 0.5"),
        (X, TARGETS * 3 - 1, "targets of cross_entropy must lie between 0 and 1: row 0 holds"),
    ],
)
def test_on_a_device_the_same_is_refused(device, x, y, message):
    for take in (np.array, Elsewhere):
        with pytest.raises(DataError, match=message):
            network(device).fit(take(x), take(y), **SETTINGS)


def test_what_lies_where_the_network_does_not_compute_is_refused(device):
    message = r"samples lie on cuda:0, where the network does not compute.*x\.cpu\(\).*net\.to\('cupy'\)"
    with pytest.raises(DataError, match=message):
        network("numpy").predict_proba(Elsewhere(X))
    with pytest.raises(DataError, match="labels lie on cuda:0"):
        network("numpy").fit(X, Elsewhere(Y))
    with pytest.raises(DataError, match="samples lie on cuda:1"):
        network(device).predict_proba(Elsewhere(X, number=1))
