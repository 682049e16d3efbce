"""The backends' predictors against the forward pass of the step, and whose weights they use."""

import copy
import pickle
import threading
import types

import numpy as np
import pytest

import fastnn
from fastnn import evaluation
from fastnn.kernels import numpy_kernels
from fastnn.kernels.contract import KERNELS
from fastnn.operations import hidden_activations, output_activations

LIMITS = {"float64": 1e-13, "float32": 1e-5}  # of the largest output, as in the kernels' suite


def network(backend, sizes=(33, 17, 9), **options):
    net = fastnn.Network(list(sizes), seed=1, backend=backend, **options)
    rng = np.random.default_rng(0)
    net.set_weights([(W, None if b is None else rng.normal(size=b.shape)) for W, b in net.get_weights()])
    return net


def samples(n, n_in=33, dtype="float32"):
    x = np.random.default_rng(n).random((n, n_in)) * (255 if dtype == "uint8" else 1)
    return x.astype(dtype)


def assert_is_the_step_s(net, x):
    found, expected = net.predict_proba(x), evaluation.outputs_by_step(net, x)
    assert found.dtype == expected.dtype
    assert np.abs(found - expected).max() <= LIMITS[net.dtype.name] * np.abs(expected).max()


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    return request.param


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("source", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("n", [1, 2, 4, 5, 63, 64, 65, 1000])
def test_any_number_of_samples_of_any_type(backend, n, source, dtype):
    assert_is_the_step_s(network(backend, dtype=dtype, scale=0.01, shift=-0.5), samples(n, dtype=source))


@pytest.mark.parametrize("n", [1, 70])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", hidden_activations())
def test_every_hidden_activation(backend, name, bias, n):
    assert_is_the_step_s(network(backend, hidden=name, bias=bias, dtype="float64"), samples(n))


@pytest.mark.parametrize("name", output_activations())
def test_every_output(backend, name):
    for n in (1, 70):
        assert_is_the_step_s(network(backend, output=name, init="normal(0.1)"), samples(n))


@pytest.mark.parametrize("sizes", [(1, 1), (784, 3), (33, 1), (33, 784, 1, 130, 2), (40, 8, 8, 8, 8, 3)])
def test_every_shape(backend, sizes):
    for n in (1, 6, 100):
        assert_is_the_step_s(network(backend, sizes, hidden="tanh", output="identity"), samples(n, sizes[0]))


def test_samples_as_they_come(backend):
    net, x = network(backend), samples(200)
    expected = net.predict_proba(x[::2])
    assert net.predict_proba(np.asfortranarray(x)[::2]).tolist() == expected.tolist()
    assert net.predict_proba(x[::2].tolist()).tolist() == expected.tolist()
    assert net.predict_proba(x[::2].reshape(100, 3, 11)).tolist() == expected.tolist()
    with pytest.raises(fastnn.DataError, match="row 3 holds NaN"):
        net.predict(np.where(np.arange(10)[:, None] == 3, np.nan, x[:10]))
    with pytest.raises(fastnn.DataError, match="expected samples of 33 features"):
        net.predict(x[:, :32])
    with pytest.raises(fastnn.DataError, match="no samples"):
        net.predict(x[:0])


def test_dropout_is_for_training(backend):
    net = network(backend, dropout=0.5)
    assert_is_the_step_s(net, samples(70))
    assert net.predict_proba(samples(3)).tolist() == net.predict_proba(samples(3)).tolist()


def test_threads_change_no_bit(full_teams):
    """So much work that it is divided."""
    x = samples(3000, 300)
    one, two, three = (network("numba", (300, 200, 10), threads=threads).predict_proba(x) for threads in (1, 2, 3))
    assert one.tobytes() == two.tobytes() == three.tobytes()


def test_several_threads_predict_with_one_network(backend):
    net, x = network(backend), samples(64)
    expected, wrong = net.predict_proba(x).tobytes(), []

    def work():
        for _ in range(200):
            if net.predict_proba(x).tobytes() != expected:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_weights_are_those_of_now(backend, tmp_path):
    net, x = network(backend), samples(20)
    y = np.arange(20) % 9
    before = net.predict_proba(x)
    net.fit(x, y, epochs=1, batch_size=5)
    assert_is_the_step_s(net, x)
    assert net.predict_proba(x).tobytes() != before.tobytes()
    net.save(tmp_path / "net.safetensors")
    others = [
        copy.copy(net),
        copy.deepcopy(net),
        pickle.loads(pickle.dumps(net)),
        fastnn.load(tmp_path / "net.safetensors"),
    ]
    others += [net.to("numba"), net.to("numpy")]
    expected = net.predict_proba(x)
    for other in others:
        np.testing.assert_allclose(other.predict_proba(x), expected, rtol=1e-5, atol=1e-7)
    net.set_weights([(np.zeros_like(W), b) for W, b in net.get_weights()])
    assert_is_the_step_s(net, x)
    for other in others[:4]:  # the copies have their own
        np.testing.assert_allclose(other.predict_proba(x), expected, rtol=1e-5, atol=1e-7)


def test_a_backend_without_a_predictor_predicts_by_the_step(backend):
    net = network(backend)
    x, own = samples(5), net.kernels
    expected = net.predict_proba(x)
    net.kernels = types.ModuleType("kernels_without_predictor")
    vars(net.kernels).update({name: getattr(own, name) for name in KERNELS})
    assert net.predictor() is None
    np.testing.assert_allclose(net.predict_proba(x), expected, rtol=1e-5)


def test_a_backend_made_of_another_predicts_by_its_own_kernels():
    module = types.ModuleType("made_of_numpy_kernels")
    vars(module).update(vars(numpy_kernels) | {"__name__": "made_of_numpy_kernels"})  # as a star import does

    def dense(x, W, b, activation, z, a, team):
        a[...] = 0.25

    module.dense = dense
    net = network("numpy")
    net.kernels = module
    assert (net.predict_proba(samples(5)) == 0.25).all()


def test_a_wrong_predictor_is_rejected_by_these_tests(backend):
    net = network(backend)
    right = net.predictor()

    def wrong(x, scale, shift, out):
        right(x, scale, shift, out)
        out *= 1.001

    assert_is_the_step_s(net, samples(70))
    net._predictor = (net._predictor[0], wrong)
    with pytest.raises(AssertionError):
        assert_is_the_step_s(net, samples(70))


@pytest.mark.alone
def test_one_prediction_takes_little():
    """Some 10 to 40 us; 470 before there were predictors."""
    import time

    for name in ("numba", "numpy"):
        net, x, seconds = network(name, (784, 128, 10)), samples(1, 784, "uint8"), []
        net.predict(x)
        for _ in range(300):
            start = time.perf_counter()
            net.predict(x)
            seconds.append(time.perf_counter() - start)
        assert min(seconds) < 100e-6
