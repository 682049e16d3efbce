"""What a network takes, answers and keeps; the arithmetic of a whole run against a plain loop."""

import copy
import math
import pickle
import tracemalloc

import numpy as np
import pytest

import fastnn
from fastnn import Network
from fastnn.kernels.codes import CLASSIFICATION, MULTILABEL, REGRESSION


def blobs(n=100, n_in=12, n_out=3, dtype=np.float32, seed=0):
    """Samples around one centre a class; learnable in a few epochs."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_out, n)
    centres = np.random.default_rng(99).random((n_out, n_in))
    return (centres[y] + 0.1 * rng.standard_normal((n, n_in))).astype(dtype), y


def weights_of(net):
    return np.concatenate([np.r_[W.ravel(), b] for W, b in net.get_weights()])


# ---------------------------------------------------------------- shapes and dtypes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shapes_and_dtypes_of_answers(dtype):
    x, y = blobs()
    net = Network([12, 8, 3], dtype=dtype, backend="numpy")
    proba, labels, score = net.predict_proba(x), net.predict(x), net.evaluate(x, y)
    assert (proba.shape, proba.dtype) == ((100, 3), np.dtype(dtype))
    assert (labels.shape, labels.dtype) == ((100,), np.dtype(np.int64))
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
    assert list(score) == ["loss", "accuracy"]
    assert all(type(value) is float for value in score.values())


def test_many_samples_are_answered_like_one_at_a_time(backend):
    """1100 samples take several mini-batches inside, the last of them smaller."""
    x, y = blobs(1100)
    net = Network([12, 8, 3], backend=backend)
    whole = net.predict_proba(x)
    for i in (0, 511, 512, 1023, 1024, 1099):
        np.testing.assert_allclose(net.predict_proba(x[i : i + 1])[0], whole[i], rtol=1e-5)
    expected = -np.log(whole[np.arange(1100), y].astype(np.float64)).mean()
    score = net.evaluate(x, y)
    assert score["loss"] == pytest.approx(expected, rel=1e-5)
    assert score["accuracy"] == pytest.approx((whole.argmax(axis=1) == y).mean())


def test_weights_are_copies_both_ways(backend):
    x, _ = blobs()
    net = Network([12, 8, 3], backend=backend)
    weights = net.get_weights()
    assert [(W.shape, b.shape) for W, b in weights] == [((12, 8), (8,)), ((8, 3), (3,))]
    assert {a.dtype for pair in weights for a in pair} == {np.dtype(np.float32)}
    before = net.predict_proba(x)
    weights[0][0][...] = 7
    np.testing.assert_array_equal(net.predict_proba(x), before)
    net.set_weights(weights)
    after = net.predict_proba(x)
    assert not np.array_equal(after, before)
    weights[0][0][...] = 8
    np.testing.assert_array_equal(net.predict_proba(x), after)
    assert np.all(net.get_weights()[0][0] == 7)


def test_a_fit_goes_on_with_weights_that_were_set(backend):
    """set_weights writes into the arrays that training works on; it does not leave a second set behind."""
    x, y = blobs()
    one, two = Network([12, 8, 3], backend=backend), Network([12, 8, 3], backend=backend, seed=1)
    two.fit(x, y, epochs=1)
    two.set_weights(one.get_weights())
    two.epochs_trained, two.seed = 0, one.seed
    one.fit(x, y, epochs=2)
    two.fit(x, y, epochs=2)
    np.testing.assert_array_equal(weights_of(one), weights_of(two))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda w: w[:1], r"expected \(W, b\) for 2 layers, got 1"),
        (lambda w: [(w[0][0].T, w[0][1]), w[1]], r"layer 1: expected W of shape \(12, 8\), got \(8, 12\)"),
        (lambda w: [w[0], (w[1][0], w[1][1][:2])], r"layer 2: expected b of shape \(3,\), got \(2,\)"),
        (lambda w: [w[0], (w[1][0], None)], r"layer 2: b must be an array in a network with bias=True"),
        (lambda w: [w[0], (w[1][0] * np.nan, w[1][1])], "weights must be finite"),
        (lambda w: [w[0], (w[1][0], np.array([0, np.inf, 0]))], "weights must be finite"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(wrong, message):
    net = Network([12, 8, 3], backend="numpy")
    before = weights_of(net)
    with pytest.raises(fastnn.DataError, match=message):
        net.set_weights(wrong([(W + 1, b + 1) for W, b in net.get_weights()]))
    np.testing.assert_array_equal(weights_of(net), before)


def test_a_network_without_biases(backend):
    x, y = blobs()
    net = Network([12, 8, 3], bias=False, backend=backend)
    assert net.n_parameters == 12 * 8 + 8 * 3
    np.testing.assert_allclose(net.predict_proba(np.zeros((1, 12), np.float32)), 1 / 3, rtol=1e-6)
    net.fit(x, y, epochs=2)
    assert [b for _, b in net.get_weights()] == [None, None]
    np.testing.assert_allclose(net.predict_proba(np.zeros((1, 12), np.float32)), 1 / 3, rtol=1e-6)
    with pytest.raises(fastnn.DataError, match="b must be None in a network with bias=False"):
        net.set_weights([(W, np.zeros(W.shape[1])) for W, _ in net.get_weights()])


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "identity"])
def test_save_and_load_keep_every_attribute(tmp_path, output):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 6), np.uint8), rng.integers(0, 2, (40, 4)).astype(float)
    y = np.eye(4)[rng.integers(0, 4, 40)] if output == "softmax" else y
    net = Network(
        [6, 5, 7, 4],
        hidden=["tanh", "gelu"],
        output=output,
        bias=output != "identity",
        init="xavier",
        dropout=[0.1, 0, 0.3],
        seed=11,
        dtype="float64",
        scale=0.01,
        shift=-0.5,
        backend="numpy",
        threads=1,
    )
    net.fit(x, y, epochs=2, optimizer="sgd(0.01)")
    net.save(tmp_path / "net.safetensors")
    copy = fastnn.load(tmp_path / "net.safetensors", backend="numpy", threads=1)
    names = [
        "sizes",
        "hidden",
        "output",
        "bias",
        "dropout",
        "seed",
        "dtype",
        "scale",
        "shift",
        "task",
        "epochs_trained",
        "threads",
        "backend",
        "n_parameters",
    ]
    assert {name: getattr(copy, name) for name in names} == {name: getattr(net, name) for name in names}
    assert repr(copy) == repr(net)
    np.testing.assert_array_equal(copy.predict(x), net.predict(x))
    np.testing.assert_array_equal(copy.predict_proba(x), net.predict_proba(x))
    assert all(type(a) is type(b) for a, b in zip(copy.dropout, net.dropout, strict=True))


@pytest.mark.parametrize("dropout", [0.0, 0.5, [0.5]])
def test_a_network_without_hidden_layers(tmp_path, dropout, backend):
    x, y = blobs(200)
    net = Network([12, 3], dropout=dropout, backend=backend)
    assert net.hidden == ()
    net.fit(x, y, epochs=20, optimizer="sgd(0.5)", batch_size=16)
    assert net.evaluate(x, y)["accuracy"] > 0.9
    net.save(tmp_path / "net")
    np.testing.assert_array_equal(fastnn.load(tmp_path / "net", backend=backend).predict_proba(x), net.predict_proba(x))


def test_repr_says_what_it_is():
    assert repr(Network([784, 128, 10], backend="numpy")) == (
        "Network(784-128-10: relu, softmax; 101,770 parameters, float32, numpy)"
    )
    mixed = Network(
        [4, 3, 3, 3, 1], hidden=["relu", "tanh", "relu"], output="sigmoid", dtype="float64", backend="numpy"
    )
    assert repr(mixed).startswith("Network(4-3-3-3-1: relu, tanh, ")
    assert "no hidden layer" in repr(Network([4, 2], backend="numpy"))


# ---------------------------------------------------------------- samples in every form


def forms():
    """A float32 array of small eighths, exact in every type, in all the forms that it may come in."""
    plain = (np.random.default_rng(3).integers(-8, 8, (50, 12)) / 8).astype(np.float32)
    padded = np.zeros((50, 24), np.float32)
    padded[:, ::2] = plain
    unaligned = np.frombuffer(b"\0" + plain.tobytes(), np.uint8)[1:].view(np.float32).reshape(50, 12)
    return plain, {
        "fortran": np.asfortranarray(plain),
        "strided": padded[:, ::2],
        "reversed": plain[::-1].copy()[::-1],
        "unaligned": unaligned,
        "float16": plain.astype(np.float16),
        "float64": plain.astype(np.float64),
        "big-endian": plain.astype(">f4"),
        "big-endian-float64": plain.astype(">f8"),
        "long double": plain.astype(np.longdouble),
        "object": plain.astype(object),
        "list": plain.tolist(),
        "tuple of rows": tuple(plain),
        "image": plain.reshape(50, 3, 4),
        "image with channels": plain.reshape(50, 2, 2, 3),
        "subclass": plain.view(np.matrix),
    }


def run_on(x, y, backend="numpy", **options):
    net = Network([12, 8, 3], backend=backend, seed=2)
    net.fit(x, y, epochs=2, batch_size=16, **options)
    return weights_of(net), net.predict_proba(x), net.evaluate(x, y)


@pytest.mark.parametrize("form", forms()[1])
def test_samples_of_every_form_train_alike(form):
    plain, others = forms()
    y = np.arange(50) % 3
    expected, found = run_on(plain, y), run_on(others[form], y)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert found[2] == expected[2]


@pytest.mark.parametrize("dtype", ["?", "i1", "i2", "<i4", ">i4", "i8", "u2", "u4", "u8", "list"])
def test_whole_numbers_are_taken_as_they_are(dtype):
    plain = np.random.default_rng(0).integers(0, 2, (50, 12))
    y = np.arange(50) % 3
    x = plain.tolist() if dtype == "list" else plain.astype(dtype)
    np.testing.assert_array_equal(run_on(x, y)[0], run_on(plain.astype(np.float32), y)[0])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_memory_mapped_and_read_only_data(tmp_path, backend, dtype):
    x, y = np.random.default_rng(0).integers(0, 200, (50, 12)).astype(dtype), np.arange(50, dtype=np.int32) % 3
    expected = run_on(x, y, backend)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    locked_x, locked_y = x.copy(), y.copy()
    locked_x.flags.writeable = locked_y.flags.writeable = False
    mapped = [np.load(tmp_path / name, mmap_mode="r") for name in ("x.npy", "y.npy")]
    for data in (mapped, (locked_x, locked_y)):
        found = run_on(*data, backend)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def test_read_only_targets_compile_nothing_new():
    """To numba a read-only array is another type: it must not cost another ten seconds of compilation."""
    from fastnn.samples import as_sample_weight, as_targets

    for values in (np.zeros(4, np.int32), np.zeros(4, np.int64), [0, 0, 0, 0]):
        assert not as_targets(values, 4, 2, np.dtype("f4"), "softmax", "cross_entropy").labels.flags.writeable
    rows = np.full((4, 2), 0.5, np.float32)
    for values in (rows, rows.astype(np.float64), rows.tolist()):
        targets = as_targets(values, 4, 2, np.dtype("f4"), "softmax", "cross_entropy")
        assert not targets.rows.flags.writeable
        assert not targets.labels.flags.writeable
    for weights in (None, np.ones(4, np.float32), np.ones(4), [1, 1, 1, 1]):
        assert not as_sample_weight(weights, 4, np.dtype("f4")).flags.writeable


def test_the_caller_s_arrays_stay_as_they_are():
    x, y = blobs()
    weight = np.ones(100, np.float32)
    targets = np.eye(3, dtype=np.float32)[y]
    copies = x.copy(), targets.copy(), weight.copy()
    Network([12, 8, 3], dropout=[0.5, 0.5], shift=1.0, backend="numpy").fit(x, targets, epochs=2, sample_weight=weight)
    for array, before in zip((x, targets, weight), copies, strict=True):
        np.testing.assert_array_equal(array, before)
        assert array.flags.writeable


def test_uint8_is_scaled_to_one(backend):
    pixels, y = np.random.default_rng(0).integers(0, 256, (60, 12), np.uint8), np.arange(60) % 3
    as_bytes, as_reals = run_on(pixels, y, backend), run_on(pixels.astype(np.float32) / 255, y, backend)
    np.testing.assert_allclose(as_bytes[0], as_reals[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(as_bytes[1], as_reals[1], rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_scale_and_shift(backend, dtype):
    x, y = np.random.default_rng(0).integers(0, 50, (60, 12)).astype(dtype), np.arange(60) % 3
    net = Network([12, 8, 3], scale=0.125, shift=-2.0, backend=backend)
    plain = Network([12, 8, 3], backend=backend)
    for network, data in ((net, x), (plain, x.astype(np.float32) * 0.125 - 2)):
        network.fit(data, y, epochs=2, batch_size=16, optimizer="sgd(0.01)")
    np.testing.assert_allclose(weights_of(net), weights_of(plain), rtol=1e-4, atol=1e-6)


def test_scale_one_leaves_bytes_alone():
    x = np.full((1, 2), 200, np.uint8)
    net = Network([2, 1], output="identity", scale=1.0, backend="numpy")
    net.set_weights([(np.ones((2, 1)), np.zeros(1))])
    assert net.predict(x) == pytest.approx([400])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_data_are_not_copied(dtype):
    """40 MB and more of samples: what fit, evaluate and predict allocate has nothing to do with them."""
    x, y = np.zeros((52_000, 784), dtype), np.zeros(52_000, np.int32)
    net = Network([784, 4, 3], backend="numpy", threads=1)
    tracemalloc.start()
    try:
        net.fit(x, y, epochs=1, batch_size=512, validation_data=(x, y))
        net.evaluate(x, y)
        net.predict(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16e6 < x.nbytes / 2


# ---------------------------------------------------------------- tasks and accuracy


def test_labels_and_one_hot_targets_are_the_same(backend):
    x, y = blobs()
    one_hot = np.eye(3)[y]
    by_label, by_target = run_on(x, y, backend), run_on(x, one_hot, backend)
    np.testing.assert_array_equal(by_label[0], by_target[0])
    assert by_label[2] == by_target[2]


@pytest.mark.parametrize("form", ["i1", "u1", "i8", "u8", "f8", ">i4", "list", "column", "bool"])
def test_labels_of_every_form(form):
    x, y = blobs()
    y = y if form != "bool" else y % 2
    values = {"list": y.tolist, "column": lambda: y[:, None], "bool": lambda: y.astype(bool)}
    labels = values[form]() if form in values else y.astype(form)
    np.testing.assert_array_equal(run_on(x, labels)[0], run_on(x, y)[0])


def test_soft_targets():
    x, y = blobs(400)
    soft = np.full((400, 3), 0.1)
    soft[np.arange(400), y] = 0.8
    net = Network([12, 16, 3], backend="numpy")
    net.fit(x, soft, epochs=60, optimizer="adam(0.01)")
    assert net.task == CLASSIFICATION
    assert net.evaluate(x, soft)["accuracy"] > 0.95
    proba = net.predict_proba(x)
    assert abs(proba[np.arange(400), y].mean() - 0.8) < 0.05
    expected = -(soft * np.log(proba.astype(np.float64))).sum(axis=1).mean()
    assert net.evaluate(x, soft)["loss"] == pytest.approx(expected, rel=1e-5)


def test_multilabel(backend):
    rng = np.random.default_rng(0)
    x = rng.random((400, 12), np.float32)
    y = (x[:, :3] > 0.5).astype(int)
    net = Network([12, 8, 3], output="sigmoid", backend=backend)
    net.fit(x, y, epochs=60, optimizer="adam(0.02)")
    answers = net.predict(x)
    assert net.task == MULTILABEL
    assert (answers.shape, answers.dtype) == ((400, 3), np.dtype(np.int64))
    assert set(np.unique(answers)) == {0, 1}
    accuracy = net.evaluate(x, y)["accuracy"]
    assert accuracy == pytest.approx((answers == y).mean())
    assert accuracy > 0.9


def test_sigmoid_outputs_with_one_hot_targets_classify():
    x, y = blobs()
    net = Network([12, 8, 3], output="sigmoid", backend="numpy")
    net.fit(x, np.eye(3)[y], epochs=1)
    assert net.task == CLASSIFICATION
    np.testing.assert_array_equal(net.predict(x), net.predict_proba(x).argmax(axis=1))


def several_labels():
    """Samples, several labels each, and those rows that happen to have one."""
    rng = np.random.default_rng(0)
    x = rng.random((200, 12), np.float32)
    y = (rng.random((200, 3)) > 0.5).astype(int)
    return x, y, np.flatnonzero(y.sum(axis=1) == 1)


def test_the_first_training_decides_what_targets_mean():
    x, y, alone = several_labels()
    net = Network([12, 8, 3], output="sigmoid", backend="numpy")
    history = net.fit(x, y, epochs=1, validation_data=(x[alone], y[alone]))
    by_hand = ((net.predict_proba(x[alone]) >= 0.5) == y[alone]).mean()
    assert net.evaluate(x[alone], y[alone])["accuracy"] == pytest.approx(by_hand)
    assert history.val_accuracy[0] == pytest.approx(by_hand)
    net.fit(x[alone], y[alone], epochs=1)
    assert net.task == MULTILABEL
    assert net.predict(x[:1]).shape == (1, 3)


@pytest.mark.parametrize("kind", ["?", "i1", "u1", "i4", "i8", "f2", "f8"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_targets_of_any_kind_of_number(kind, dtype):
    x = np.random.default_rng(0).random((6, 4))
    y = np.array([0, 1, 1, 0, 1, 0])
    nets = [Network([4, 1], output="sigmoid", dtype=dtype, backend="numpy") for _ in range(2)]
    nets[0].fit(x, y.astype(kind), epochs=1, sample_weight=(y + 1).astype(kind))
    weights = (y + 1).astype(kind).astype(float)
    nets[1].fit(x, y.astype(dtype), epochs=1, sample_weight=weights)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)


def test_a_regression_has_no_validation_accuracy_whatever_its_targets():
    x = np.random.default_rng(0).random((30, 4), np.float32)
    net = Network([4, 3], output="identity", backend="numpy")
    history = net.fit(x, x[:, :3], epochs=1, validation_data=(x[:3], np.eye(3)))
    assert math.isnan(history.val_accuracy[0])


def test_several_labels_can_be_named_before_they_are_seen():
    x, y, alone = several_labels()
    net = Network([12, 3], output="sigmoid", task="multilabel", backend="numpy")
    net.fit(x[alone], y[alone], epochs=1)
    assert net.predict(x).shape == (200, 3)
    for task, output in (("multilabel", "softmax"), ("regression", "softmax"), ("multilabel", "identity")):
        with pytest.raises(ValueError, match=f"task='{task}' needs output"):
            Network([4, 3], output=output, task=task, backend="numpy")


def test_targets_of_another_meaning_are_refused():
    x, y, alone = several_labels()
    labels = y[alone].argmax(axis=1)
    net = Network([12, 3], output="sigmoid", backend="numpy")
    net.fit(x[alone], labels, epochs=1)
    before = net.get_weights()[0][0]
    for use in (lambda y: net.fit(x, y, epochs=1), lambda y: net.evaluate(x, y)):
        with pytest.raises(fastnn.DataError, match=r"expected one class a sample, .*: row 0 holds"):
            use(np.ones((200, 3)))
    np.testing.assert_array_equal(net.get_weights()[0][0], before)
    net.fit(x[alone], y[alone], epochs=1)  # the same labels as rows
    several = Network([12, 3], output="sigmoid", backend="numpy")
    several.fit(x, y, epochs=1)
    with pytest.raises(fastnn.DataError, match=r"expected several labels a sample, .* got labels"):
        several.evaluate(x[alone], labels)


def test_evaluate_takes_the_loss_of_fit():
    x, y = blobs()
    net = Network([12, 3], backend="numpy")
    history = net.fit(x, y, epochs=1, loss="quadratic", validation_data=(x, y))
    assert net.evaluate(x, y)["loss"] == history.val_loss[0] == net.evaluate(x, y, loss="quadratic")["loss"]
    assert net.evaluate(x, y, loss="cross_entropy")["loss"] != history.val_loss[0]


PIXELS = np.random.default_rng(0).integers(0, 256, (60, 12))


@pytest.mark.parametrize("dtype", ["i8", "i4", "u2", "i2", ">i4"])
def test_pixels_of_any_integer_type_are_those_of_uint8(dtype):
    y = np.arange(60) % 3
    nets = [Network([12, 8, 3], backend="numpy") for _ in range(2)]
    for net, kind in zip(nets, (dtype, "u1"), strict=True):
        net.fit(PIXELS.astype(kind), y, epochs=2)
    dark = PIXELS // 4  # not one that a first training would take for pixels
    for samples in (PIXELS, dark):
        expected = nets[1].predict_proba(samples.astype("u1"))
        np.testing.assert_array_equal(nets[0].predict_proba(samples.astype(dtype)), expected)
        np.testing.assert_array_equal(nets[1].predict_proba(samples.astype(dtype)), expected)


def test_small_integers_are_no_pixels():
    x = np.arange(48).reshape(12, 4)
    nets = [Network([4, 3], backend="numpy") for _ in range(2)]
    for net, kind in zip(nets, ("i8", "f4"), strict=True):
        net.fit(x.astype(kind), np.arange(12) % 3, epochs=1)
    np.testing.assert_array_equal(nets[0].get_weights()[0][0], nets[1].get_weights()[0][0])


def test_samples_of_another_scale_get_a_warning():
    y = np.arange(60) % 3
    floats = PIXELS.astype("f4")
    net = Network([12, 8, 3], backend="numpy")
    net.fit(PIXELS, y, epochs=1)
    np.testing.assert_allclose(net.predict_proba(floats / 255), net.predict_proba(PIXELS), rtol=1e-5)
    for use in (net.predict, lambda x: net.evaluate(x, y), lambda x: net.fit(x, y, epochs=1)):
        with pytest.warns(UserWarning, match=r"samples reach 255, .* trained on 1: .* divide them by 255"):
            use(floats)
    with pytest.warns(UserWarning, match="samples are floats up to 255: divide .*; scale=1 takes them as they are"):
        Network([12, 3], backend="numpy").fit(floats, y, epochs=1)
    Network([12, 3], scale=1, backend="numpy").fit(floats, y, epochs=1, optimizer="sgd(1e-4)")


@pytest.mark.parametrize("shape", [(200,), (200, 1)])
def test_one_sigmoid_output(shape):
    x, y = blobs(200, n_out=2)
    net = Network([12, 8, 1], output="sigmoid", backend="numpy")
    net.fit(x, y.reshape(shape), epochs=40, optimizer="adam(0.02)")
    answers = net.predict(x)
    assert (answers.shape, answers.dtype, net.predict_proba(x).shape) == ((200,), np.dtype(np.int64), (200, 1))
    score = net.evaluate(x, y.reshape(shape))
    assert score["accuracy"] == pytest.approx((answers == y).mean())
    assert score["accuracy"] > 0.95


@pytest.mark.parametrize("shape", [(300,), (300, 1)])
def test_regression_with_one_output(shape):
    rng = np.random.default_rng(0)
    x = rng.random((300, 12), np.float32)
    y = 3 * x[:, 0] - 40
    net = Network([12, 8, 1], output="identity", backend="numpy")
    net.fit(x, y.reshape(shape), epochs=300, optimizer="adam(0.05)")
    assert net.task == REGRESSION
    assert net.predict(x).shape == (300,)
    assert np.abs(net.predict(x) - y).mean() < 0.3
    score = net.evaluate(x, y.reshape(shape))
    assert math.isnan(score["accuracy"])
    assert score["loss"] == pytest.approx(0.5 * ((net.predict(x) - y) ** 2).mean(), rel=1e-4)
    assert all(math.isnan(value) for value in net.history.accuracy)


def test_regression_with_two_outputs():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 5))
    y = x[:, :2] * [2, -3] + 1
    net = Network([5, 2], output="identity", dtype="float64", backend="numpy")
    net.fit(x, y, epochs=200, batch_size=100, optimizer="sgd(0.3)")
    np.testing.assert_allclose(net.predict(x), y, atol=1e-6)
    np.testing.assert_allclose(net.get_weights()[0][1], 1, atol=1e-6)


@pytest.mark.parametrize(
    ("output", "n_out", "task"),
    [("softmax", 3, CLASSIFICATION), ("sigmoid", 3, CLASSIFICATION), ("sigmoid", 1, MULTILABEL), ("identity", 2, 2)],
)
def test_the_task_before_training(output, n_out, task):
    assert Network([4, n_out], output=output, backend="numpy").task == task


def straight(n, output):
    """A network whose logits are ten times its inputs."""
    net = Network([n, n], output=output, backend="numpy")
    net.set_weights([(10 * np.eye(n), np.zeros(n))])
    return net


def test_accuracy_counts_what_is_written():
    x = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], np.float32) - 0.5
    assert straight(3, "softmax").evaluate(x, [0, 1, 2, 0])["accuracy"] == 0.75
    assert straight(3, "softmax").evaluate(x, [0, 1, 2, 0], sample_weight=[1, 1, 1, 5])["accuracy"] == 3 / 8
    many = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]])
    share = (many == (x > 0)).mean()
    assert straight(3, "sigmoid").evaluate(x, many)["accuracy"] == pytest.approx(share)
    assert math.isnan(straight(3, "identity").evaluate(x, many + 0.25)["accuracy"])


def test_a_sample_of_weight_two_counts_as_two(backend):
    x, y = blobs(64)
    weight = np.ones(64)
    weight[:16] = 2
    doubled = np.r_[np.arange(16), np.arange(64)]
    net = Network([12, 8, 3], backend=backend)
    weighted, repeated = net.evaluate(x, y, sample_weight=weight), net.evaluate(x[doubled], y[doubled])
    assert weighted == pytest.approx(repeated, rel=1e-5)
    options = {"epochs": 1, "shuffle": False, "batch_size": 1000}
    one, two = Network([12, 8, 3], backend=backend), Network([12, 8, 3], backend=backend)
    one.fit(x, y, sample_weight=weight, **options)
    two.fit(x[doubled], y[doubled], **options)
    np.testing.assert_allclose(weights_of(one), weights_of(two), rtol=1e-4, atol=1e-6)


def test_samples_of_weight_zero_do_not_exist():
    x, y = blobs(40)
    weight = (np.arange(40) < 30).astype(float)
    x[30:] = 1e3
    one, two = (Network([12, 8, 3], backend="numpy") for _ in range(2))
    one.fit(x, y, epochs=2, shuffle=False, batch_size=10, sample_weight=weight)
    two.fit(x[:30], y[:30], epochs=2, shuffle=False, batch_size=10)
    np.testing.assert_array_equal(weights_of(one), weights_of(two))
    assert one.history.loss == two.history.loss


# ---------------------------------------------------------------- seeds and initial weights


def test_equal_seeds_give_equal_runs(backend):
    x, y = blobs()
    runs = []
    for seed in (5, 5, 6):
        net = Network([12, 8, 3], seed=seed, dropout=0.3, backend=backend)
        runs.append((net.fit(x, y, epochs=2, batch_size=16).loss, weights_of(net)))
    assert runs[0][0] == runs[1][0] != runs[2][0]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])


def test_no_seed_draws_one_and_keeps_it():
    one, two = (Network([12, 8, 3], seed=None, backend="numpy") for _ in range(2))
    assert one.seed != two.seed
    assert not np.array_equal(weights_of(one), weights_of(two))
    again = Network([12, 8, 3], seed=one.seed, backend="numpy")
    np.testing.assert_array_equal(weights_of(again), weights_of(one))


def test_every_backend_and_dtype_starts_from_the_same_numbers(backend):
    single = Network([12, 8, 3], backend=backend)
    double = Network([12, 8, 3], dtype="float64", backend="numpy")
    np.testing.assert_array_equal(weights_of(single), weights_of(double).astype(np.float32))


def test_layers_start_with_different_numbers():
    first, second = (W for W, _ in Network([6, 6, 6], backend="numpy").get_weights())
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("init", "std", "flat"),
    [
        ("he", math.sqrt(2 / 500), False),
        ("he()", math.sqrt(2 / 500), False),
        ("lecun", math.sqrt(1 / 500), False),
        ("xavier", math.sqrt(2 / 900), True),
        ("uniform(-0.3, 0.3)", 0.6 / math.sqrt(12), True),
        ("uniform(low=-0.3, high=0.3)", 0.6 / math.sqrt(12), True),
        ("normal(0.02)", 0.02, False),
        ("normal(0)", 0.0, False),
        (fastnn.initializers.normal(0.5), 0.5, False),
    ],
)
def test_statistics_of_initial_weights(init, std, flat):
    """200,000 numbers: mean and standard deviation are within some five standard errors; the shape is the named one."""
    W, b = Network([500, 400], init=init, backend="numpy").get_weights()[0]
    assert abs(W.mean()) <= 5 * std / math.sqrt(W.size)
    assert W.std() == pytest.approx(std, rel=0.01, abs=1e-12)
    assert not b.any()
    if std:
        share = {True: 1 / math.sqrt(3), False: math.erf(math.sqrt(0.5))}[flat]  # inside one standard deviation
        assert (np.abs(W) < std).mean() == pytest.approx(share, abs=0.006)
    if flat:
        assert np.abs(W).max() <= math.sqrt(3) * std * (1 + 1e-6)


def test_an_initializer_of_one_s_own():
    net = Network([3, 2, 2], init=lambda rng, n_in, n_out: np.full((n_in, n_out), n_in), backend="numpy")
    assert [W.tolist() for W, _ in net.get_weights()] == [[[3, 3]] * 3, [[2, 2]] * 2]


@pytest.mark.parametrize(
    "init",
    [lambda rng, n_in, n_out: np.zeros((n_in, n_out + 1)), lambda rng, n_in, n_out: np.full((n_in, n_out), np.nan)],
)
def test_an_initializer_that_goes_wrong_is_refused(init):
    with pytest.raises(ValueError, match="init"):
        Network([3, 2, 2], init=init, backend="numpy")


# ---------------------------------------------------------------- hidden layers and dropout


def test_hidden_activations_layer_by_layer():
    x = np.random.default_rng(0).standard_normal((20, 4))
    net = Network([4, 5, 6, 2], hidden=["tanh", "relu"], output="identity", dtype="float64", backend="numpy")
    (W1, b1), (W2, b2), (W3, b3) = net.get_weights()
    expected = np.maximum(np.tanh(x @ W1 + b1) @ W2 + b2, 0) @ W3 + b3
    np.testing.assert_allclose(net.predict(x), expected, rtol=1e-12)
    assert net.hidden == ("tanh", "relu")


def test_dropout_layer_by_layer():
    assert Network([4, 3, 3, 2], dropout=0.25, backend="numpy").dropout == (0.0, 0.25, 0.25)
    assert Network([4, 3, 3, 2], dropout=[0.1, 0, 0.5], backend="numpy").dropout == (0.1, 0.0, 0.5)


def test_dropout_is_off_outside_training(backend):
    x, y = blobs()
    plain = Network([12, 8, 3], backend=backend)
    dropping = Network([12, 8, 3], dropout=[0.5, 0.5], backend=backend)
    np.testing.assert_array_equal(dropping.predict_proba(x), plain.predict_proba(x))
    np.testing.assert_array_equal(dropping.predict_proba(x), dropping.predict_proba(x))
    assert dropping.evaluate(x, y) == plain.evaluate(x, y)
    loss, gradients = dropping.gradients(x, y)
    assert loss == plain.gradients(x, y)[0] != dropping.gradients(x, y, dropout=0)[0]
    np.testing.assert_array_equal(gradients[0][0], plain.gradients(x, y)[1][0][0])


def test_dropout_drops_the_share_it_is_given():
    """With all weights one and inputs one, an output is the scaled count of inputs kept."""
    net = Network([1000, 1], output="identity", dropout=[0.3], backend="numpy")
    net.set_weights([(np.ones((1000, 1)), np.zeros(1))])
    x, zeros = np.ones((50, 1000), np.float32), np.zeros(50)
    # 1/2 mean(out^2) with out about 1000, whatever the rate: what is kept is scaled up
    losses = [net.gradients(x, zeros, dropout=number)[0] for number in range(5)]
    assert math.sqrt(2 * np.mean(losses)) == pytest.approx(1000, rel=0.01)
    assert len(set(losses)) == 5
    # a dropped input has no gradient in any sample: with one sample their share can be counted
    (dW, _), *_ = net.gradients(x[:1], zeros[:1], dropout=0)[1]
    assert (dW == 0).mean() == pytest.approx(0.3, abs=0.06)


# ---------------------------------------------------------------- the arithmetic of a run


def plain_loop(x, y, weights, epochs, batch_size, rate, decay, orders):
    """Mini-batch gradient descent of a tanh and softmax network, written out."""
    (W1, b1), (W2, b2) = ((W.astype(np.float64), b.astype(np.float64)) for W, b in weights)
    targets, losses = np.eye(3)[y], []
    for epoch in range(epochs):
        total = 0.0
        for start in range(0, len(x), batch_size):
            rows = orders[epoch][start : start + batch_size]
            a0, t = x[rows].astype(np.float64), targets[rows]
            a1 = np.tanh(a0 @ W1 + b1)
            z = a1 @ W2 + b2
            p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
            total -= (t * np.log(p)).sum()
            delta = (p - t) / len(rows)  # its own samples, also in the last and smaller mini-batch
            d1 = delta @ W2.T * (1 - a1**2)
            W2, b2 = W2 - rate * (a1.T @ delta + decay * W2), b2 - rate * delta.sum(axis=0)
            W1, b1 = W1 - rate * (a0.T @ d1 + decay * W1), b1 - rate * d1.sum(axis=0)
        losses.append(total / len(x))
    return np.concatenate([W1.ravel(), b1, W2.ravel(), b2]), losses


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 16, 49, 50, 51, 10**12])
def test_a_run_is_that_of_the_plain_loop(backend, batch_size, shuffle):
    """Among them batches that divide the 50 samples, that leave 2 or 1, and that are larger than all."""
    x, y = blobs(50)
    net = Network([12, 8, 3], hidden="tanh", backend=backend)
    orders = [np.arange(50), np.arange(50)]
    if shuffle:
        for epoch, order in enumerate(orders):
            net.generator("order", epoch).shuffle(order)
        assert not np.array_equal(*orders)
    size = min(batch_size, 50)
    expected, losses = plain_loop(x, y, net.get_weights(), 2, size, 0.2, 0.01, orders)
    history = net.fit(
        x, y, epochs=2, batch_size=batch_size, shuffle=shuffle, optimizer=fastnn.SGD(0.2, weight_decay=0.01)
    )
    np.testing.assert_allclose(weights_of(net), expected, rtol=1e-4, atol=3e-6)
    assert history.loss == pytest.approx(losses, rel=1e-5)


def test_no_epochs_change_nothing(backend):
    x, y = blobs()
    net = Network([12, 8, 3], backend=backend)
    before = weights_of(net)
    history = net.fit(x, y, epochs=0)
    np.testing.assert_array_equal(weights_of(net), before)
    assert (history.epochs, history.loss, net.epochs_trained) == (0, [], 0)


def test_training_on_one_sample(backend):
    net = Network([12, 8, 3], backend=backend)
    x = np.ones((1, 12), np.float32)
    net.fit(x, [2], epochs=30)
    assert net.predict(x) == [2]


def test_gradients_are_those_of_one_step():
    x, y = blobs(30)
    net = Network([12, 8, 3], dtype="float64", backend="numpy")
    before = weights_of(net)
    loss, pairs = net.gradients(x, y)
    np.testing.assert_array_equal(weights_of(net), before)
    history = net.fit(x, y, epochs=1, batch_size=30, shuffle=False, optimizer="sgd(1.0)")
    stepped = np.concatenate([np.r_[dW.ravel(), db] for dW, db in pairs])
    np.testing.assert_allclose(before - weights_of(net), stepped, rtol=1e-9, atol=1e-12)
    assert history.loss == pytest.approx([loss])


def test_a_network_learns(backend):
    x, y = blobs(300)
    net = Network([12, 8, 3], backend=backend)
    history = net.fit(x, y, epochs=15, batch_size=16, validation_data=blobs(100, seed=1))
    assert history.val_accuracy[-1] > 0.95
    assert history.loss[-1] < history.loss[0] / 3


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_answers_alike_and_learns_apart(backend, copied):
    net = fastnn.Network([4, 8, 3], seed=5, backend=backend)
    x, y = np.random.default_rng(0).random((20, 4), np.float32), np.arange(20) % 3
    net.fit(x, y, epochs=1)
    twin = copied(net)
    before = net.predict_proba(x)
    np.testing.assert_array_equal(twin.predict_proba(x), before)
    assert (twin.backend, twin.epochs_trained, twin.seed) == (net.backend, net.epochs_trained, net.seed)
    twin.fit(x, y, epochs=1)
    np.testing.assert_array_equal(net.predict_proba(x), before)


def test_what_nobody_asked_for_is_chosen_anew_where_a_network_is_opened(monkeypatch):
    monkeypatch.delenv("FASTNN_BACKEND", raising=False)
    monkeypatch.setenv("FASTNN_NUM_THREADS", "7")
    chosen, asked = fastnn.Network([4, 3]), fastnn.Network([4, 3], backend="numpy", threads=3)
    content = pickle.dumps([chosen, asked])
    monkeypatch.setenv("FASTNN_NUM_THREADS", "1")
    only_numpy = {"numpy": fastnn.backends._BUILTIN["numpy"]}
    monkeypatch.setattr(fastnn.backends, "_BUILTIN", only_numpy)  # where there is neither of the others
    there = pickle.loads(content)
    assert [(net.backend, net.threads) for net in there] == [("numpy", 1), ("numpy", 3)]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_in_the_same_process_keeps_backend_and_threads(monkeypatch, copied):
    monkeypatch.setenv("FASTNN_NUM_THREADS", "7")
    monkeypatch.setattr(fastnn.backends, "_BUILTIN", {"numpy": fastnn.backends._BUILTIN["numpy"]})
    net = fastnn.Network([4, 3])
    monkeypatch.setenv("FASTNN_NUM_THREADS", "1")
    monkeypatch.setattr(fastnn.backends, "_BUILTIN", {})  # what auto would choose by now does not count
    net.itself = net
    twin = copied(net)
    assert (twin.threads, twin.backend_choice, twin.kernels) == (7, net.backend_choice, net.kernels)
    assert twin.itself is (twin if copied is copy.deepcopy else net)
    assert not np.shares_memory(twin.parameters, net.parameters)
