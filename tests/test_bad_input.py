"""What cannot be right is refused at once: the message says what was expected and what came, and nothing is changed."""

import dataclasses
import math

import numpy as np
import pytest

import fastnn.sklearn
import fastnn.sweeps
from fastnn import DataError, Network
from fastnn.initializers import normal, uniform

N = 6000  # checks look at 4096 rows at a time: faults sit in the first part and in the second
X = np.random.default_rng(0).random((N, 12), np.float32)
Y = np.random.default_rng(1).integers(0, 3, N)
NAN, INF = math.nan, math.inf


def fields(kind):
    """Names of an object's numbers."""
    return [field.name for field in dataclasses.fields(kind) if field.name != "nesterov"]


def network(**options):
    return Network([12, 8, options.pop("n_out", 3)], backend="numpy", **options)


def state(net):
    return [a.tobytes() for pair in net.get_weights() for a in pair], net.epochs_trained, net.task, net.history


def changed(array, *places, dtype=None):
    """A copy with other values: ``changed(X, ((5, 2), nan))``."""
    copy = array.astype(dtype or array.dtype)
    for index, value in places:
        copy[index] = value
    return copy


def refuse_fit(error, message, x=X, y=Y, net=None, **options):
    """`fit` raises exactly this, and leaves weights, counters and record alone."""
    net = net or network()
    before = state(net)
    with pytest.raises(error, match=message) as caught:
        net.fit(x, y, **{"epochs": 1, "batch_size": 500, **options})
    assert state(net) == before
    return caught.value


# ---------------------------------------------------------------- samples

SAMPLES = [
    (X[:, :11], r"expected samples of 12 features, shape \(n, 12\), got shape \(6000, 11\)"),
    (X[0], r"expected samples of 12 features.*got shape \(12,\); a single sample is x\[None\]"),
    (X.reshape(-1), r"expected samples of 12 features.*got shape \(72000,\)"),
    (X.reshape(N, 3, 2, 2)[:, :2], r"expected samples of 12 features.*got shape \(6000, 2, 2, 2\)"),
    (np.float32(3), r"expected samples of 12 features.*got shape \(\)"),
    (X[:0], r"no samples: got an empty array of shape \(0, 12\)"),
    ([], r"no samples: got an empty array of shape \(0,\)"),
    (changed(X, ((0, 0), NAN)), "samples must be finite: row 0 holds NaN or infinity"),
    (changed(X, ((5, 11), INF)), "row 5 holds"),
    (changed(X, ((4095, 0), -INF)), "row 4095 holds"),
    (changed(X, ((4096, 0), NAN)), "row 4096 holds"),
    (changed(X, ((5999, 11), NAN), ((4700, 3), INF)), "row 4700 holds"),
    (changed(X, ((5000, 1), NAN), dtype=np.float64), "row 5000 holds"),
    (changed(X, ((17, 1), INF), dtype=np.float16), "row 17 holds"),
    (changed(X, ((18, 1), 1e39), dtype=np.longdouble), r"row 18 holds 1e\+39, too large for float32"),
    (changed(X, ((19, 1), 1e39), dtype=np.float64), r"row 19 holds 1e\+39, too large for float32"),
    (X + 0j, "samples must be real numbers, got dtype complex64"),
    (X.astype(str), "samples must be real numbers, got dtype <U"),
    (np.zeros((N, 12), "M8[s]"), "samples must be real numbers, got dtype datetime64"),
    ([[1.0] * 12, [1.0] * 11], "samples must be numbers of one shape"),
    (np.array([["a"] * 12], object), "samples must be numbers of one shape, got ndarray"),
    (None, "samples"),
    ({"x": X}, "samples"),
    ("train.csv", "samples must be real numbers"),
]


@pytest.mark.parametrize(("x", "message"), SAMPLES)
def test_samples(x, message):
    refuse_fit(DataError, message, x=x)
    net = network()
    for use in (net.predict, net.predict_proba, lambda x: net.evaluate(x, Y), lambda x: net.gradients(x, Y)):
        with pytest.raises(DataError, match=message):
            use(x)


def test_masked_samples_are_refused():
    """numpy's asarray forgets the mask; values that somebody marked as missing would be trained on."""
    masked = np.ma.masked_array(X, mask=X > 0.5)
    refuse_fit(DataError, "mask", x=masked)
    np.testing.assert_array_equal(network().predict(np.ma.masked_array(X)), network().predict(X))


# ---------------------------------------------------------------- labels and targets

LABELS = [
    (changed(Y, (7, 3)), "labels must lie between 0 and 2: row 7 holds 3"),
    (changed(Y, (5500, 255)), "labels must lie between 0 and 2: row 5500 holds 255"),
    (changed(Y, (8, -1)), "labels must lie between 0 and 2: row 8 holds -1"),
    (changed(Y, (8, 2**40)), "row 8 holds 1099511627776"),
    (changed(Y, (8, 2**63), dtype=np.uint64), "row 8 holds 9223372036854775808"),
    (changed(Y, (9, 1.5), dtype=float), "labels must be whole numbers: row 9 holds 1.5"),
    (changed(Y, (10, NAN), dtype=float), "labels must be finite: row 10 holds NaN or infinity"),
    (changed(Y, (5001, INF), dtype=float), "labels must be finite: row 5001 holds"),
    (Y[:-1], r"expected labels for 6000 samples, got shape \(5999,\)"),
    (np.r_[Y, 0], r"expected labels for 6000 samples, got shape \(6001,\)"),
    (Y[:, None, None], r"expected labels of shape \(6000,\) or targets of shape \(6000, 3\), got \(6000, 1, 1\)"),
    (np.eye(4)[Y], r"expected labels of shape \(6000,\) or targets of shape \(6000, 3\), got \(6000, 4\)"),
    (np.eye(3)[Y].T, r"expected labels for 6000 samples, got shape \(3, 6000\)"),
    ([], r"expected labels for 6000 samples, got shape \(0,\)"),
    (3, r"expected labels for 6000 samples, got shape \(\)"),
    (None, "labels"),
    (Y.astype(str), "labels must be real numbers, got dtype <U"),
    (np.array(["cat"] * N, object), "labels must be numbers of one shape, got ndarray"),
    (Y + 0j, "labels must be real numbers, got dtype complex128"),
]


@pytest.mark.parametrize(("y", "message"), LABELS)
def test_labels(y, message):
    refuse_fit(DataError, message, y=y)
    for use in (network().evaluate, network().gradients):
        with pytest.raises(DataError, match=message):
            use(X, y)


ONE_HOT = np.eye(3)[Y]
TARGETS = [
    ("softmax", changed(ONE_HOT, (4, 0.0)), "targets of cross_entropy must add up to 1: row 4 adds up to 0"),
    ("softmax", changed(ONE_HOT, (5000, 0.5)), "row 5000 adds up to 1.5"),
    ("softmax", changed(ONE_HOT, (6, [1.5, -0.5, 0])), r"must lie between 0 and 1: row 6 holds \[1.5, -0.5, 0.0\]"),
    ("softmax", changed(ONE_HOT, ((7, 1), NAN)), "targets must be finite: row 7 holds"),
    ("sigmoid", changed(ONE_HOT, ((8, 2), 1.01)), "targets of binary_cross_entropy must lie between 0 and 1: row 8"),
    ("sigmoid", changed(ONE_HOT, ((4999, 2), -1)), "must lie between 0 and 1: row 4999"),
    ("identity", changed(ONE_HOT, ((9, 0), INF)), "targets must be finite: row 9"),
    ("identity", changed(ONE_HOT, ((9, 0), 1e39)), "targets must be finite: row 9"),
]


@pytest.mark.parametrize(("output", "y", "message"), TARGETS)
def test_targets(output, y, message):
    refuse_fit(DataError, message, y=y, net=network(output=output))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (changed(Y % 2, (3, 2)), "must lie between 0 and 1: row 3 holds"),
        (np.eye(2)[Y % 2], r"expected labels of shape \(6000,\) or targets of shape \(6000, 1\), got \(6000, 2\)"),
    ],
)
def test_targets_of_one_output(y, message):
    refuse_fit(DataError, message, y=y, net=network(n_out=1, output="sigmoid"))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (changed(np.ones(N), (3, -1)), "sample weights must not be negative: row 3 holds -1"),
        (changed(np.ones(N), (4, NAN)), "sample weights must be finite: row 4 holds"),
        (changed(np.ones(N), (5005, INF)), "sample weights must be finite: row 5005 holds"),
        (np.zeros(N), "sample weights must not all be zero"),
        (np.ones(N - 1), r"expected 6000 sample weights, shape \(6000,\), got shape \(5999,\)"),
        (np.ones((N, 1)), r"expected 6000 sample weights, shape \(6000,\), got shape \(6000, 1\)"),
        (1.0, r"expected 6000 sample weights, shape \(6000,\), got shape \(\)"),
        (["1"] * N, "sample weights must be real numbers"),
        (np.ones(N) * 1j, "sample weights must be real numbers"),
    ],
)
def test_sample_weights(weight, message):
    refuse_fit(DataError, message, sample_weight=weight)
    with pytest.raises(DataError, match=message):
        network().evaluate(X, Y, sample_weight=weight)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (X, ValueError, r"validation_data must be \(x, y\) or \(x, y, sample_weight\)"),
        ((X,), ValueError, r"validation_data must be \(x, y\) or \(x, y, sample_weight\)"),
        ((), ValueError, r"validation_data must be"),
        ((X, Y, None, None), ValueError, r"validation_data must be"),
        (0.2, ValueError, r"validation_data must be"),
        ({"x": X, "y": Y}, ValueError, r"validation_data must be"),
        ((Y, X), DataError, "validation.*expected samples of 12 features"),
        ((X[:, 1:], Y), DataError, "validation.*expected samples of 12 features"),
        ((X, Y[1:]), DataError, "validation.*expected labels for 6000 samples"),
        ((X, Y + 1), DataError, "validation.*labels must lie between 0 and 2"),
        ((changed(X, ((5000, 0), NAN)), Y), DataError, "validation.*row 5000"),
        ((X[:0], Y[:0]), DataError, "validation.*no samples"),
        ((X, Y, -np.ones(N)), DataError, "validation.*must not be negative"),
    ],
)
def test_validation_data(data, error, message):
    refuse_fit(error, message, validation_data=data)


# ---------------------------------------------------------------- the run's parameters


@pytest.mark.parametrize("value", [0, -1, 2.5, 64.0, True, "64", None, NAN, np.float64(8), [64]])
def test_batch_size(value):
    error = refuse_fit(ValueError, "batch_size must be a whole number of at least 1, got", batch_size=value)
    assert str(error).endswith(repr(value))


@pytest.mark.parametrize("value", [-1, 2.5, True, "2", None])
def test_epochs(value):
    refuse_fit(ValueError, "epochs must be a whole number of at least 0, got", epochs=value)


def test_whole_numbers_of_numpy_are_whole_numbers():
    net = network(seed=np.int64(3))
    net.fit(X, Y, epochs=np.int32(1), batch_size=np.uint16(500))
    assert net.epochs_trained == 1


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("loss", "cross_entropi", r"unknown loss 'cross_entropi'; did you mean 'cross_entropy'\? Choices: .*quadratic"),
        ("loss", 3, "unknown loss 3; Choices: cross_entropy, .*quadratic"),
        ("optimizer", "adm", r"unknown optimizer 'adm'; did you mean 'adam'\? Choices: sgd, .*adamw"),
        ("optimizer", "sgd(-1)", r"cannot make optimizer 'sgd\(-1\)': learning_rate must be a finite number > 0"),
        ("optimizer", "sgd(0.1", "unknown optimizer|cannot make optimizer"),
        ("optimizer", "sgd()(3)", "cannot make optimizer.*one pair of parentheses"),
        ("optimizer", "sgd(1) + (2)", "unknown optimizer|cannot make optimizer"),
        ("optimizer", "sgd(learning_rate=x)", "cannot make optimizer.*'x' is not a plain value"),
        ("optimizer", "sgd(rate=0.1)", "cannot make optimizer.*rate"),
        ("optimizer", "sgd(__import__('os'))", "cannot make optimizer.*not a plain value"),
        ("optimizer", "", "unknown optimizer ''"),
        ("optimizer", None, "unknown optimizer None; Choices: sgd"),
        ("optimizer", 0.1, "unknown optimizer 0.1; Choices: sgd"),
        ("optimizer", fastnn.SGD, "unknown optimizer <class.*Choices: sgd"),
        (
            "schedule",
            "cosin",
            r"unknown schedule 'cosin'; did you mean 'cosine'\? Choices: constant, exponential, step",
        ),
        ("schedule", "step(0)", "cannot make schedule.*epochs >= 1"),
        ("schedule", 0.9, "schedule must be a name, an object as .*, or a function, got 0.9"),
        ("schedule", fastnn.Cosine, "schedule must be a name, an object as .*, or a function, got <class"),
    ],
)
def test_names_for_fit(option, value, message):
    refuse_fit(ValueError, message, **{option: value})


@pytest.mark.parametrize(
    ("output", "loss", "needed"),
    [
        ("softmax", "binary_cross_entropy", "sigmoid"),
        ("identity", "binary_cross_entropy", "sigmoid"),
        ("sigmoid", "cross_entropy", "softmax"),
        ("identity", "cross_entropy", "softmax"),
    ],
)
def test_losses_that_do_not_fit_the_output(output, loss, needed):
    message = (
        rf"loss '{loss}' needs output='{needed}', the network has output='{output}'; losses that fit it: .*quadratic"
    )
    refuse_fit(ValueError, message, net=network(output=output), loss=loss)
    with pytest.raises(ValueError, match=message):
        network(output=output).evaluate(X, Y, loss=loss)


# ---------------------------------------------------------------- the network's parameters


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([784], r"a network needs at least inputs and outputs, as \[784, 10\], got \[784\]"),
        ([], r"a network needs at least inputs and outputs.*got \[\]"),
        ([784, 0, 10], "every layer must be a whole number of at least 1, got 0"),
        ([784, -5, 10], "every layer must be a whole number of at least 1, got -5"),
        ([784, 10.5, 3], "every layer must be a whole number of at least 1, got 10.5"),
        ([784, "128", 10], "every layer must be a whole number of at least 1, got '128'"),
        ([784, True, 10], "every layer must be a whole number of at least 1, got True"),
        ([784, None], "every layer must be a whole number of at least 1, got None"),
        ([[784, 10]], "every layer must be a whole number"),
        ("784", r"sizes must be a sequence of whole numbers, as \[784, 128, 10\], got '784'"),
        (b"784", "sizes must be a sequence of whole numbers"),
        (784, "sizes must be a sequence of whole numbers.*got 784"),
        (None, "sizes must be a sequence of whole numbers.*got None"),
        ([4, 1], "softmax over one output is always 1: use output='sigmoid', or two outputs"),
    ],
)
def test_sizes(sizes, message):
    with pytest.raises(ValueError, match=message):
        Network(sizes, backend="numpy")


@pytest.mark.parametrize("sizes", [(4, 2), np.array([4, 2]), iter([4, 2]), range(4, 0, -2)])
def test_sizes_of_any_sequence(sizes):
    assert Network(sizes, backend="numpy").sizes == (4, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": "rleu"}, r"unknown hidden activation 'rleu'; did you mean 'relu'\? Choices: identity, relu, leaky"),
        ({"hidden": ["relu", "tahn"]}, r"unknown hidden activation 'tahn'; did you mean 'tanh'\?"),
        ({"hidden": ["relu", 3]}, "unknown hidden activation 3"),
        ({"hidden": "softmax"}, "unknown hidden activation 'softmax'"),
        ({"hidden": ["relu"]}, "2 hidden layers need as many activations, got 1"),
        ({"hidden": ["relu"] * 3}, "2 hidden layers need as many activations, got 3"),
        ({"hidden": None}, "hidden"),
        ({"hidden": 5}, "hidden"),
        (
            {"output": "sotfmax"},
            r"unknown output activation 'sotfmax'; did you mean 'softmax'\? Choices: identity, sig",
        ),
        ({"output": "relu"}, "unknown output activation 'relu'"),
        ({"output": None}, "unknown output activation None"),
        ({"output": ["softmax"]}, "unknown output activation"),
        (
            {"init": "hee"},
            r"unknown initializer 'hee'; did you mean 'he'\? Choices: he, xavier, lecun, uniform, normal",
        ),
        ({"init": "uniform(1"}, r"initializer 'uniform\(1'"),
        ({"init": "uniform(a)"}, r"cannot make initializer 'uniform\(a\)': 'a' is not a plain value"),
        ({"init": "uniform"}, "cannot make initializer 'uniform'.*low"),
        ({"init": "uniform(1)"}, "cannot make initializer.*high"),
        ({"init": "uniform(2, 1)"}, "finite low <= high, got 2, 1"),
        ({"init": "uniform('a', 'b')"}, "cannot make initializer"),
        ({"init": "normal(-1)"}, "finite std >= 0, got -1"),
        ({"init": "normal(1e999)"}, "finite std >= 0, got inf"),
        ({"init": 0.1}, "unknown initializer 0.1; Choices: he"),
        ({"init": None}, "unknown initializer None; Choices: he"),
        ({"dropout": 1.0}, "dropout must be at least 0 and less than 1, got 1.0"),
        ({"dropout": -0.1}, "dropout must be at least 0 and less than 1, got -0.1"),
        ({"dropout": NAN}, "dropout must be a finite number, got nan"),
        ({"dropout": [0.1, 0.2]}, "dropout needs one number, or 3: inputs, then hidden layers; got 2"),
        ({"dropout": [0.1] * 4}, "dropout needs one number, or 3: inputs, then hidden layers; got 4"),
        ({"dropout": [0.1, 0.2, 1]}, "dropout must be at least 0 and less than 1, got 1"),
        ({"dropout": [0.1, 0.2, "a"]}, "dropout must be a finite number, got 'a'"),
        ({"dropout": "0.5"}, "dropout"),
        ({"dropout": None}, "dropout"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"seed": 1.5}, "seed must be a whole number of at least 0, got 1.5"),
        ({"seed": "1"}, "seed must be a whole number of at least 0, got '1'"),
        ({"seed": True}, "seed must be a whole number of at least 0, got True"),
        ({"dtype": "float33"}, r"unknown dtype 'float33'; did you mean 'float32'\? Choices: float32, float64"),
        ({"dtype": "float16"}, r"unknown dtype 'float16'.*Choices: float32, float64"),
        ({"dtype": np.int32}, "unknown dtype.*Choices: float32, float64"),
        ({"dtype": None}, "unknown dtype None.*Choices: float32, float64"),
        ({"dtype": "dobule"}, "unknown dtype 'dobule'.*Choices: float32, float64"),
        ({"dtype": ">f4"}, "unknown dtype.*Choices: float32, float64"),
        ({"scale": NAN}, "scale must be a finite number, got nan"),
        ({"scale": INF}, "scale must be a finite number, got inf"),
        ({"scale": "1/255"}, "scale must be a finite number, got '1/255'"),
        ({"scale": True}, "scale must be a finite number, got True"),
        ({"shift": NAN}, "shift must be a finite number, got nan"),
        ({"shift": None}, "shift must be a finite number, got None"),
        ({"shift": np.zeros(12)}, "shift must be a finite number"),
        ({"threads": 0}, "threads must be a whole number of at least 1, got 0"),
        ({"threads": 1.5}, "threads must be a whole number of at least 1, got 1.5"),
        ({"backend": "nunpy"}, r"unknown backend 'nunpy'; did you mean 'numpy'\? Choices: cupy, numba, numpy"),
    ],
)
def test_parameters_of_a_network(options, message):
    error = fastnn.BackendError if "backend" in options else ValueError
    with pytest.raises(error, match=message):
        Network([12, 8, 8, 3], **{"backend": "numpy", **options})


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("f4"), "f4", float, "float64"])
def test_dtypes_in_every_spelling(dtype):
    assert network(dtype=dtype).dtype == np.dtype(dtype)


# ---------------------------------------------------------------- numbers


def gradients(dropout):
    return network(dropout=0.5).gradients(X[:2], Y[:2], dropout=dropout)


def fit(**options):
    return network().fit(X[:2], Y[:2], **options)


def sweep(**options):
    return fastnn.sweeps.sweep({"width": [2, 3]}, X[:90], Y[:90], backend="numpy", **options)


def estimator(**options):
    return fastnn.sklearn.MLPClassifier(max_iter=1, backend="numpy", **options).fit(X[:90], Y[:90])


OPTIONAL = {"clip_norm", "threads", "scale", "seed", "dropout of gradients", "random", "jobs"}  # None means something
ANY_SIGN = {"low", "shift", "scale"}
NUMBERS = [
    *((kind, name) for kind in (fastnn.SGD, fastnn.RMSprop, fastnn.Adam, fastnn.AdamW) for name in fields(kind)),
    *((kind, name) for kind in (fastnn.Exponential, fastnn.Step, fastnn.Cosine) for name in fields(kind)),
    *((fastnn.EarlyStopping, name) for name in ("patience", "min_delta")),
    *((fastnn.ReduceLROnPlateau, name) for name in ("factor", "patience", "min_delta", "min_lr")),
    (lambda **options: fastnn.Checkpoint("x", **options), "every"),
    (normal, "std"),
    (lambda low: uniform(low, 1), "low"),
    (lambda high: uniform(0, high), "high"),
    *((network, name) for name in ("dropout", "seed", "scale", "shift")),
    *((fit, name) for name in ("epochs", "batch_size")),
    (gradients, "dropout of gradients"),
    *((estimator, name) for name in ("dropout", "clip_norm", "threads")),
    *((sweep, name) for name in ("validation_fraction", "random", "repeats", "seed", "jobs", "epochs", "batch_size")),
]


@pytest.mark.parametrize(("make", "name"), NUMBERS, ids=lambda value: getattr(value, "__name__", value))
def test_numbers_of_other_kinds(make, name):
    """One way of checking for all: text, truth values, lists and what is not finite are no numbers."""
    for value in ("0.1", True, NAN, INF, -1, None, [1]):
        if (value is None and name in OPTIONAL) or (value == -1 and name in ANY_SIGN):
            continue
        if name == "dropout" and value == [1]:  # one for each layer
            continue
        argument = name.split()[0]
        with pytest.raises(ValueError, match=rf"{argument}\b.* (must|needs) "):
            make(**{argument: value})


@pytest.mark.parametrize("sizes", [[10**9, 10**9], [10**12, 10**12]])
def test_a_network_larger_than_memory_says_how_large(sizes):
    with pytest.raises(MemoryError, match=f"needs {(sizes[0] * sizes[1] + sizes[1]) * 4:,} bytes") as caught:
        Network(sizes, backend="numpy")
    assert isinstance(caught.value, fastnn.FastnnError)


def test_every_error_is_one_of_fastnn_s():
    for name in ("BackendError", "DataError", "DivergedError", "FileFormatError", "DatasetUnavailableError"):
        assert issubclass(getattr(fastnn, name), fastnn.FastnnError)
    assert issubclass(DataError, ValueError)
