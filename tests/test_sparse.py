"""Sparse samples: what they do is what the same samples do as a dense array, to the last bit, in little memory."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse

import fastnn
from fastnn import loaded_samples
from fastnn.errors import DataError
from fastnn.sklearn import MLPClassifier

RNG = np.random.default_rng(0)
X = scipy.sparse.random_array((50, 20), density=0.2, format="csr", dtype=np.float32, rng=RNG)
Y = np.arange(50) % 3
WEIGHTS = RNG.random(50)


@pytest.fixture(params=[1, 1 << 25], ids=["a mini-batch at a time", "all in one group"])
def group(request, monkeypatch):
    monkeypatch.setattr(loaded_samples, "_GROUP", request.param)


def train(x, backend, y=Y, **options):
    net = fastnn.Network([20, 8, 3], dropout=0.3, backend=backend, threads=1)
    options = {"epochs": 3, "batch_size": 8, "optimizer": "adam(0.01)", "sample_weight": WEIGHTS} | options
    history = net.fit(x, y, validation_data=(x[:13], y[:13]), **options)
    return net, [history.loss, history.accuracy, history.val_loss, history.val_accuracy]


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("targets", ["labels", "rows"])
def test_training_is_that_on_dense_samples(backend, targets):
    y = Y if targets == "labels" else np.eye(3)[Y]
    net, values = train(X, backend, y)
    dense, expected = train(X.toarray(), backend, y)
    assert values == expected
    np.testing.assert_array_equal(net.kernels.to_numpy(net.parameters), dense.kernels.to_numpy(dense.parameters))
    np.testing.assert_array_equal(net.predict_proba(X), dense.predict_proba(X.toarray()))
    assert net.evaluate(X, y) == dense.evaluate(X.toarray(), y)


@pytest.mark.parametrize("dtype", ["u1", "i8", "f8"])
@pytest.mark.parametrize("form", ["csr_matrix", "csc_matrix", "coo_array", "lil_matrix"])
def test_every_form_and_dtype(form, dtype):
    values = (255 * X.toarray()).astype(dtype)
    values[0, 0] = 255
    options = {"optimizer": "sgd(0.01)", "sample_weight": None}
    with pytest.warns(UserWarning, match="up to 255") if dtype == "f8" else _nothing():
        net, losses = train(getattr(scipy.sparse, form)(values).tocsr(), "numpy", **options)
    with pytest.warns(UserWarning, match="up to 255") if dtype == "f8" else _nothing():
        dense, expected = train(values, "numpy", **options)
    assert losses == expected
    assert net.pixels == dense.pixels == (dtype in ("u1", "i8"))
    np.testing.assert_array_equal(net.predict(getattr(scipy.sparse, form)(values)), dense.predict(values))


def _nothing():
    import contextlib

    return contextlib.nullcontext()


def test_gradients_and_no_values_at_all():
    net = fastnn.Network([20, 3], backend="numpy")
    loss, [(dW, _)] = net.gradients(X, Y)
    expected, [(dense, _)] = net.gradients(X.toarray(), Y)
    assert loss == expected
    np.testing.assert_array_equal(dW, dense)
    empty = scipy.sparse.csr_array((4, 20), dtype=np.float32)
    np.testing.assert_array_equal(net.predict_proba(empty), net.predict_proba(np.zeros((4, 20))))


def test_what_does_not_fit_is_refused():
    net = fastnn.Network([20, 3], backend="numpy")
    for x, words in (
        (X[:, :19], r"shape \(n, 20\), got shape \(50, 19\)"),
        (scipy.sparse.csr_array((0, 20)), "got shape"),
        (scipy.sparse.csr_array(np.where(np.eye(20), np.nan, 0)), "row 0 holds nan"),
        (scipy.sparse.csr_array(np.eye(20) * 1j), "real numbers"),
    ):
        with pytest.raises(DataError, match=words):
            net.predict(x)


def test_a_run_goes_on_with_its_own_sparse_data_alone(tmp_path):
    path = tmp_path / "run.safetensors"
    _, expected = train(X, "numpy")
    train(X, "numpy", epochs=1, callbacks=[fastnn.Checkpoint(path)])
    assert train(X, "numpy", resume=path)[1] == expected
    with pytest.raises(ValueError, match="data"):
        train(2 * X, "numpy", resume=path)


@pytest.mark.parametrize("use", ["fit", "predict", "score", "partial_fit"])
def test_an_estimator_takes_memory_for_some_mini_batches(use):
    x = scipy.sparse.random_array((3000, 4000), density=1e-3, format="csr", rng=RNG)  # dense: 96 MB
    y = np.arange(3000) % 2
    model = MLPClassifier((2,), max_iter=1, batch_size=50, tol=10, n_iter_no_change=1, backend="numpy")
    model.partial_fit(x[:50], y[:50], classes=[0, 1])
    tracemalloc.start()
    try:
        with pytest.warns(UserWarning, match="max_iter") if use == "fit" else _nothing():
            getattr(model, use)(*([x] if use == "predict" else [x, y]))
        assert tracemalloc.get_traced_memory()[1] < 70e6
    finally:
        tracemalloc.stop()
