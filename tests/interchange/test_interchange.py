"""Networks that go out of fastnn and come in: the same answers on both sides, and what cannot be is refused."""

import argparse
import itertools
import json
import os
import sys
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import DataError, FileFormatError, Network, interchange
from fastnn.cli import main
from fastnn.commands import convert
from fastnn.commands.options import UsageError
from fastnn.kernels.codes import MULTILABEL, REGRESSION
from fastnn.operations import hidden_activations, output_activations

X = np.random.default_rng(0).random((7, 6))
PIXELS = np.random.default_rng(1).integers(0, 256, (7, 6), np.uint8)
DTYPES = ["float32", "float64"]
STATE = {"hidden": "relu", "output": "softmax", "backend": "numpy"}


def network(sizes=(6, 5, 4, 3), **options):
    """With biases that are not zero."""
    net = Network(sizes, backend="numpy", **{"seed": 1, "init": "normal(0.7)"} | options)
    net.set_weights([(W, b if b is None else np.linspace(-1, 1, len(b))) for W, b in net.get_weights()])
    return net


def same(one, two):
    names = (
        "sizes",
        "hidden",
        "output",
        "bias",
        "dtype",
        "task",
        "scale",
        "shift",
        "dropout",
        "seed",
        "epochs_trained",
    )
    assert [getattr(one, name) for name in names] == [getattr(two, name) for name in names]
    assert all(np.array_equal(W, V) for (W, _), (V, _) in zip(one.get_weights(), two.get_weights(), strict=True))
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


# ---- npz ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "float64", "bias": False, "scale": 0.5, "shift": -1.0, "dropout": [0.1, 0, 0.2]},
        {"sizes": (6, 1), "output": "sigmoid", "seed": 2**80},
        {"hidden": ["gelu", "tanh"], "output": "identity"},
    ],
)
def test_npz_keeps_the_network(tmp_path, options):
    net = network(**options)
    interchange.save_npz(net, tmp_path / "net.npz")
    same(net, interchange.load_npz(tmp_path / "net.npz", backend="numpy"))


def test_npz_keeps_what_training_left(tmp_path):
    net = network()
    net.fit(X, np.full((7, 3), 0.3), epochs=2, loss="quadratic")
    interchange.save_npz(net, tmp_path / "net.npz")
    copy = interchange.load_npz(tmp_path / "net.npz", backend="numpy")
    assert (copy.epochs_trained, copy.history.loss) == (2, net.history.loss)


def test_npz_is_open_to_others(tmp_path):
    net = network()
    interchange.save_npz(net, tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["W1", "W2", "W3", "b1", "b2", "b3", "fastnn"]
        np.testing.assert_array_equal(arrays["W2"], net.get_weights()[1][0])
        assert json.loads(arrays["fastnn"].tobytes())["network"]["sizes"] == [6, 5, 4, 3]


def rewrite(path, **changes):
    with np.load(path) as arrays:
        content = {name: arrays[name] for name in arrays} | changes
    np.savez(path, **{name: array for name, array in content.items() if array is not None})


def describe(path, **changes):
    """Change what the description says."""
    with np.load(path) as arrays:
        description = json.loads(arrays["fastnn"].tobytes())
    for name, value in changes.items():
        (description if name == "format" else description["network"])[name] = value
    rewrite(path, fastnn=np.frombuffer(json.dumps(description).encode(), np.uint8))


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b""), "intact .npz file"),
        (lambda path: path.write_bytes(path.read_bytes()[:600]), "intact .npz file"),
        (flip_a_bit, "."),
        (lambda path: np.savez(path, x=X), "expected the arrays fastnn; fastnn missing, found x"),
        (lambda path: rewrite(path, fastnn=np.array([{}], object)), "object arrays hold pickles"),
        (lambda path: rewrite(path, fastnn=np.zeros(3, np.uint8)), "no network's description"),
        (lambda path: rewrite(path, fastnn=np.frombuffer(b"[1, 2]", np.uint8)), "no network's description"),
        (lambda path: rewrite(path, W2=None), "W2 missing"),
        (lambda path: rewrite(path, W2=np.zeros((4, 5), np.float32)), "describes no network"),
        (lambda path: rewrite(path, b1=np.full(5, np.nan, np.float32)), "describes no network"),
        (lambda path: describe(path, format=3), "has format 3, this fastnn reads 1 to 2: update"),
        (lambda path: describe(path, hidden="swish"), "describes no network.*swish"),
        (lambda path: describe(path, sizes=None), "describes no network"),
    ],
)
def test_damaged_and_foreign_npz_files_are_refused(tmp_path, spoil, message):
    path = tmp_path / "net.npz"
    interchange.save_npz(network(), path)
    spoil(path)
    with pytest.raises(FileFormatError, match=message):
        interchange.load_npz(path, backend="numpy")


def test_a_missing_file_is_the_systems_error(tmp_path):
    for read in (interchange.load_npz, interchange.load_torch, interchange.load_npy_folder):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nothing")


# ---- ONNX -----------------------------------------------------------------------------------------------------------


def run_onnx(path, x):
    runtime = pytest.importorskip("onnxruntime")
    (y,) = runtime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["outputs"], {"samples": x})
    return y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output", output_activations())
@pytest.mark.parametrize("hidden", hidden_activations())
def test_onnx_says_what_the_network_says(tmp_path, hidden, output, dtype):
    pytest.importorskip("onnx")
    net = network(hidden=hidden, output=output, dtype=dtype, bias=output != "sigmoid", scale=2.0, shift=-1.0)
    interchange.export_onnx(net, tmp_path / "net.onnx", samples=dtype)
    for rows in (7, 1):
        x = X[:rows].astype(dtype)
        got = run_onnx(tmp_path / "net.onnx", x)
        assert got.dtype == net.dtype
        expected = net.predict_proba(x)
        largest = max(1.0, np.abs(expected).max())  # where exp is large, so is the rounding of its argument
        np.testing.assert_allclose(got, expected, atol=1e-5 * largest)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [None, 0.01])
def test_onnx_takes_pixels(tmp_path, dtype, scale):
    pytest.importorskip("onnx")
    net = network(dtype=dtype, scale=scale)
    interchange.export_onnx(net, tmp_path / "net.onnx", samples="uint8")
    np.testing.assert_allclose(run_onnx(tmp_path / "net.onnx", PIXELS), net.predict_proba(PIXELS), atol=1e-5)


def test_onnx_is_written_for_old_readers_and_says_what_it_is(tmp_path):
    onnx = pytest.importorskip("onnx")
    interchange.export_onnx(network(hidden="gelu"), tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    assert (model.ir_version, model.opset_import[0].version, model.producer_name) == (7, 13, "fastnn")
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"
    properties = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert (properties["fastnn.sizes"], properties["fastnn.task"]) == ([6, 5, 4, 3], "classification")


def test_onnx_of_a_network_trained_on_mnist(tmp_path):
    pytest.importorskip("onnx")
    try:
        data = fastnn.datasets.load("mnist")
    except fastnn.DatasetUnavailableError as error:
        pytest.skip(str(error))
    net = Network([784, 30, 10], backend="numpy")
    net.fit(data.x_train[:3000], data.y_train[:3000], epochs=1)
    interchange.export_onnx(net, tmp_path / "net.onnx", samples="uint8")
    x = data.x_test[:2000].reshape(-1, 784)
    got = run_onnx(tmp_path / "net.onnx", x)
    np.testing.assert_allclose(got, net.predict_proba(x), atol=1e-5)
    assert (got.argmax(axis=1) == data.y_test[:2000]).mean() > 0.7


def test_onnx_refuses_what_it_cannot_write(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"unknown type of samples 'int8'.*uint8"):
        interchange.export_onnx(network(), tmp_path / "net.onnx", samples="int8")
    monkeypatch.setattr("fastnn.interchange.onnx_export._LIMIT", 100)
    with pytest.raises(DataError, match="an ONNX file holds 2 GiB"):
        interchange.export_onnx(network(), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("library", ["onnx", "torch"])
def test_a_missing_library_is_named(tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    write = {"onnx": interchange.export_onnx, "torch": interchange.save_torch}[library]
    with pytest.raises(fastnn.MissingLibraryError, match=rf"{library}.*pip install 'fastnn-mlp\[{library}\]'"):
        write(network(), tmp_path / "net")
    assert not list(tmp_path.iterdir())


# ---- folders of .npy files ------------------------------------------------------------------------------------------


def write_folder(folder, names, transpose=False, shape=(-1,)):
    """The files of `network()`; `names` are patterns for W and b."""
    folder.mkdir()
    for i, (W, b) in enumerate(network().get_weights()):
        for pattern, array in zip(names, (W.T if transpose else W, b.reshape(shape)), strict=True):
            np.save(folder / pattern.format(i, i + 1), array)
    return folder


def read_folder(folder, **options):
    return interchange.load_npy_folder(folder, **{"hidden": "relu", "output": "softmax", "backend": "numpy"} | options)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (1, -1)])
@pytest.mark.parametrize(
    "names",
    [("W{1}", "b{1}"), ("weights_{0}", "biases_{0}"), ("layer{1}_W", "layer{1}_b"), ("fc{0}.weight", "fc{0}.bias")],
)
def test_folders_of_all_namings(tmp_path, names, shape, transpose):
    net = read_folder(write_folder(tmp_path / "weights", names, transpose, shape))
    np.testing.assert_array_equal(net.predict_proba(X), network().predict_proba(X))


def test_a_folder_comes_back_with_scale_and_shift_folded_in(tmp_path):
    for i, options in enumerate([{}, {"bias": False}]):
        net = network(scale=0.5, shift=-0.25, dtype="float64", **options)
        interchange.save_npy_folder(net, tmp_path / str(i))
        copy = read_folder(tmp_path / str(i))
        assert (copy.scale, copy.shift, copy.dtype) == (None, 0, np.float64)
        np.testing.assert_allclose(copy.predict_proba(X), net.predict_proba(X), rtol=1e-12)


def test_layers_are_ordered_by_number_not_by_name(tmp_path):
    net = network([6] * 12 + [3], hidden="tanh")
    interchange.save_npy_folder(net, tmp_path / "weights")
    np.testing.assert_array_equal(
        read_folder(tmp_path / "weights", hidden="tanh").predict_proba(X), net.predict_proba(X)
    )


def test_layers_without_biases_among_others_with(tmp_path):
    folder = write_folder(tmp_path / "weights", ("W{1}", "b{1}"))
    (folder / "b2.npy").unlink()
    assert not read_folder(folder).get_weights()[1][1].any()


def spoil_with(name, array):
    return lambda folder: np.save(folder / name, array)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_with("mean.npy", X), "mean.npy: expected a name with the number of a layer"),
        (spoil_with("W1_2.npy", X), "expected a name with the number of a layer"),
        (spoil_with("layer1_weights.npy", X), "there is another file for W of layer 1"),
        (spoil_with("W5.npy", X), r"expected weights of layers 1, 2, .*found \[1, 2, 3, 5\]"),
        (spoil_with("b4.npy", X[0]), "biases without weights for layer 4"),
        (spoil_with("W1.npy", np.array([{}], object)), "W1.npy is no whole .npy file of numbers"),
        (spoil_with("W1.npy", np.array(["a"])), "W1.npy: expected real numbers, got dtype <U1"),
        (spoil_with("W2.npy", X[:, :4]), "layers do not chain: layer 1 has 5 outputs, and layer 2 7 inputs"),
        (spoil_with("W2.npy", X[0]), r"expected weights of two dimensions, got shape \(6,\)"),
        (spoil_with("b1.npy", X), r"layer 1: expected 5 biases for weights \(6, 5\), got shape \(7, 6\)"),
        (spoil_with("b1.npy", np.full(5, np.inf)), "weights must be finite"),
        (lambda folder: (folder / "W1.npy").write_bytes(b"\x93NUMPY\1\0"), "W1.npy is no whole .npy file"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], r"expected weights of layers.*found \[\]"),
    ],
)
def test_folders_that_are_no_network_are_refused(tmp_path, spoil, message):
    folder = write_folder(tmp_path / "weights", ("W{1}", "b{1}"))
    spoil(folder)
    with pytest.raises(DataError, match=message):
        read_folder(folder)


def test_activations_are_never_guessed(tmp_path):
    folder = write_folder(tmp_path / "weights", ("W{1}", "b{1}"))
    for missing in ("hidden", "output"):
        with pytest.raises(ValueError, match=f"do not tell .*say {missing}"):
            read_folder(folder, **{missing: None})
    with pytest.raises(ValueError, match="unknown hidden activation 'rely'; did you mean 'relu'"):
        read_folder(folder, hidden="rely")


def test_nothing_is_overwritten_by_a_folder(tmp_path):
    folder = write_folder(tmp_path / "weights", ("W{1}", "b{1}"))
    with pytest.raises(FileExistsError, match="no empty folder"):
        interchange.save_npy_folder(network(), folder)
    (tmp_path / "empty").mkdir()
    interchange.save_npy_folder(network(), tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "weights"]


ARRAYS = {
    "matrices alone": ["layer_{0}"],
    "matrices alone, from 1": ["weight matrix {1}"],
    "Keras, PyTorch in turn": ["arr_{2}", "arr_{3}"],
    "scikit-learn": ["coefs_{0}", "intercepts_{0}"],
    "kernels": ["dense{0}/kernel", "dense{0}/bias"],
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("container", ["folder", "npz"])
def test_arrays_as_others_save_them(tmp_path, capsys, kind, transposed, container):
    net = network([6] + [5] * 11 + [3], bias=len(ARRAYS[kind]) > 1)
    arrays = {}
    for i, layer in enumerate(net.get_weights()):
        for pattern, array in zip(ARRAYS[kind], layer, strict=False):
            arrays[pattern.format(i, i + 1, 2 * i, 2 * i + 1)] = array.T if transposed else array
    path = tmp_path / ("weights.npz" if container == "npz" else "weights")
    if container == "npz":
        np.savez(path, **arrays)
    else:
        path.mkdir()
        for name, array in arrays.items():
            np.save(path / f"{name.replace('/', '.')}.npy", array)
    got = interchange.load_arrays(path, **STATE)
    np.testing.assert_array_equal(got.predict_proba(X), net.predict_proba(X))
    assert command(path, tmp_path / "net.npz", "--hidden", "relu", "--output", "softmax") == 0
    shape, biases = "(n_out, n_in)" if transposed else "(n_in, n_out)", "with" if net.bias else "without"
    assert f"taken as {shape}, {biases} biases" in capsys.readouterr().out
    got = interchange.load_npz(tmp_path / "net.npz", backend="numpy")
    np.testing.assert_array_equal(got.predict_proba(X), net.predict_proba(X))


@pytest.mark.parametrize(
    ("sizes", "bias"), [((6, 6, 6), False), ((6, 6, 6), True), ((6, 3, 6), False), ((6, 3), False)]
)
def test_weights_that_fit_both_ways_are_asked_about(tmp_path, sizes, bias):
    net = network(sizes, bias=bias)
    flat = [array for layer in net.get_weights() for array in layer if array is not None]
    np.savez(tmp_path / "theirs.npz", *flat)
    with pytest.raises(
        DataError, match=r"\(6, \d\).* can be .*transposed=False or True.*--no-transposed or --transposed"
    ):
        interchange.load_arrays(tmp_path / "theirs.npz", **STATE)
    np.savez(tmp_path / "turned.npz", *(array.T for array in flat))
    options = ["--hidden", "relu"] if len(sizes) > 2 else []
    for name, option in (("theirs", "--no-transposed"), ("turned", "--transposed")):
        assert command(tmp_path / f"{name}.npz", tmp_path / "own.npz", option, "--output", "softmax", *options) == 0
        got = interchange.load_npz(tmp_path / "own.npz", backend="numpy")
        np.testing.assert_array_equal(got.predict_proba(X), net.predict_proba(X))
    interchange.save_npy_folder(net, tmp_path / "ours")  # where W says what it is
    np.testing.assert_array_equal(read_folder(tmp_path / "ours").predict_proba(X), net.predict_proba(X))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"layer_0": X, "layer_2": X}, r"expected weights of layers 1, 2, .*found \[0, 2\]"),
        ({"layer_0": X, "output_1": X.T}, "output_1.npy: expected .* or all names alike but for one number"),
        ({"layer_0": X, "layer_00": X}, "all names alike but for one number"),
        ({"x": X}, "x.npy: expected a name with the number of a layer"),
        ({"arr_0": X[0], "arr_1": X}, r"two dimensions, got shape \(6,\)"),
        ({"arr_0": X, "arr_1": X[0], "arr_2": X[0]}, r"two dimensions, got shape \(6,\)"),
        ({"arr_0": X, "arr_1": X}, "layers do not chain"),
        ({"arr_0": np.array([X, X[0]], object)}, "object arrays hold pickles"),
        ({}, r"found \[\]"),
    ],
)
def test_arrays_that_are_no_network_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "arrays.npz", **arrays)
    with pytest.raises(DataError, match=message):
        interchange.load_arrays(tmp_path / "arrays.npz", **STATE)


def test_other_commands_name_the_remedy_for_arrays(tmp_path):
    np.savez(tmp_path / "arrays.npz", X)
    with pytest.raises(FileFormatError, match="`fastnn convert "):
        fastnn.load(tmp_path / "arrays.npz", backend="numpy")


# ---- scikit-learn ---------------------------------------------------------------------------------------------------


def fitted(kind, y, **options):
    with warnings.catch_warnings(action="ignore"):  # a few iterations are not enough
        return kind(hidden_layer_sizes=[5, 4], max_iter=20, random_state=0, **options).fit(X * 3, y)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_scikit_learn_s_networks(activation):
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    several = np.array([[0, 1, 1], [1, 0, 1]] * 3 + [[0, 0, 0]])
    for kind, y in [
        (MLPClassifier, np.array([*"abcabca"])),
        (MLPClassifier, np.arange(7) % 2),
        (MLPClassifier, several),
        (MLPRegressor, X[:, 0]),
        (MLPRegressor, X[:, :2]),
    ]:
        estimator = fitted(kind, y, activation=activation)
        net = interchange.from_sklearn(estimator, backend="numpy")
        x = (X * 100).astype(np.uint8)
        if kind is MLPRegressor:
            np.testing.assert_allclose(net.predict(x), estimator.predict(x), atol=1e-5)
            assert net.task == REGRESSION
        else:
            expected = estimator.predict_proba(x)
            expected = expected[:, 1:] if net.sizes[-1] == 1 else expected
            np.testing.assert_allclose(net.predict_proba(x), expected, atol=1e-5)
            labels = estimator.predict(x)
            answers = net.predict(x)
            np.testing.assert_array_equal(answers if net.task == MULTILABEL else estimator.classes_[answers], labels)


def test_what_is_no_network_of_scikit_learn_s_is_refused():
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    with pytest.raises(DataError, match="expected an MLPClassifier or MLPRegressor of scikit-learn, got Logistic"):
        interchange.from_sklearn(LogisticRegression())
    with pytest.raises(DataError, match="this MLPClassifier is not fitted"):
        interchange.from_sklearn(MLPClassifier())
    estimator = fitted(MLPClassifier, np.arange(7) % 2)
    estimator.activation = "swish"
    with pytest.raises(DataError, match="no activation like scikit-learn's 'swish'"):
        interchange.from_sklearn(estimator)


# ---- PyTorch --------------------------------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def answers_of(torch, module, x):
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", hidden_activations())
def test_to_torch_and_back(torch, hidden, dtype):
    for output in output_activations():
        net = network(hidden=hidden, output=output, dtype=dtype, bias=output != "sigmoid", scale=2.0)
        if output == "exp":
            with pytest.raises(DataError, match="no module for the activation 'exp'"):
                interchange.to_torch(net)
            continue
        module = interchange.to_torch(net)
        assert not module.training
        expected = net.predict_proba(X.astype(dtype))
        np.testing.assert_allclose(answers_of(torch, module, X.astype(dtype)), expected, atol=1e-5)
        back = interchange.from_torch(module, output=output, backend="numpy")
        assert (back.hidden, back.output, back.dtype) == (net.hidden, output, net.dtype)
        np.testing.assert_allclose(back.predict_proba(X.astype(dtype)), expected, atol=1e-5)


def test_a_torch_module_of_all_that_there_may_be(torch):
    nn = torch.nn
    inner = nn.Sequential(nn.Linear(5, 4, bias=False), nn.Identity(), nn.Dropout(0.25))
    module = nn.Sequential(
        nn.Flatten(), nn.Dropout(0.1), nn.Linear(6, 5), nn.LeakyReLU(), inner, nn.Linear(4, 3), nn.Sigmoid()
    )
    net = interchange.from_torch(module, backend="numpy")
    assert (net.hidden, net.output, net.dropout) == (("leaky_relu", "identity"), "sigmoid", (0.1, 0, 0.25))
    x = X.astype(np.float32)
    np.testing.assert_allclose(net.predict_proba(x), answers_of(torch, module.eval(), x), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda nn: [nn.Conv2d(1, 2, 3)], "has no Conv2d"),
        (lambda nn: [nn.BatchNorm1d(6)], "has no BatchNorm1d"),
        (lambda nn: [nn.ReLU6()], "has no ReLU6"),
        (lambda nn: [nn.LogSoftmax(1)], "has no LogSoftmax"),
        (lambda nn: [nn.LeakyReLU(0.2)], r"no LeakyReLU\(negative_slope=0.2\)"),
        (lambda nn: [nn.GELU("tanh")], r"no GELU\(approximate='tanh'\)"),
        (lambda nn: [nn.Softmax(0)], r"no Softmax\(dim=0\)"),
        (lambda nn: [nn.Softmax(1), nn.Linear(3, 3)], "has no Linear"),
        (lambda nn: [nn.Tanh(), nn.Tanh()], "one activation follows each Linear"),
        (lambda nn: [nn.Flatten()], "has no Flatten"),
        (lambda nn: [nn.Sigmoid(), nn.Dropout(0.5)], "no Dropout after its outputs"),
        (lambda nn: [nn.ReLU()], "ends with relu"),
        (lambda nn: [nn.Linear(4, 3)], "layers do not chain: layer 1 has 3 outputs, and layer 2 4 inputs"),
    ],
)
def test_other_torch_modules_are_refused_by_name(torch, make, message):
    module = torch.nn.Sequential(torch.nn.Linear(6, 3), *make(torch.nn))
    with pytest.raises(DataError, match=message):
        interchange.from_torch(module, output="identity" if "chain" in message else None)


def test_of_a_torch_module_too_the_output_is_not_guessed(torch):
    linear = torch.nn.Linear(6, 3)
    with pytest.raises(ValueError, match="the module ends with a Linear: say output="):
        interchange.from_torch(linear)
    with pytest.raises(ValueError, match="ends with sigmoid, and output='softmax' was asked for"):
        interchange.from_torch(torch.nn.Sequential(linear, torch.nn.Sigmoid()), output="softmax")
    with pytest.raises(ValueError, match="a module tells its activations itself"):
        interchange.from_torch(linear, hidden="relu", output="softmax")
    with pytest.raises(DataError, match="expected a module of PyTorch's or its state_dict, got int"):
        interchange.from_torch(3)


@pytest.mark.parametrize("kind", ["memory", "pt", "old pt", "safetensors", "bfloat16"])
def test_state_dicts(torch, tmp_path, kind):
    net, path = network([6] * 12 + [3], hidden="tanh"), tmp_path / "weights"
    state = interchange.to_torch(net).state_dict()
    activations = {"hidden": "tanh", "output": "softmax", "backend": "numpy"}
    if kind in ("pt", "old pt"):
        torch.save(state, path, _use_new_zipfile_serialization=kind == "pt")
    elif kind == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path)
    elif kind == "bfloat16":
        state = {name: tensor.bfloat16() for name, tensor in state.items()}
    got = interchange.load_torch(path, **activations) if path.exists() else interchange.from_torch(state, **activations)
    tolerance = 0.02 if kind == "bfloat16" else 1e-5
    np.testing.assert_allclose(got.predict_proba(X), net.predict_proba(X), atol=tolerance)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda torch: torch.nn.Linear(2, 2), "is no file of tensors alone, and others can run code"),
        (lambda torch: [torch.ones(2)], "expected a state_dict, got list"),
        (lambda torch: {"model": {"0.bias": torch.ones(2)}}, "found dict under 'model'"),
        (
            lambda torch: {"epoch": 1, "nets": {name: {"0.weight": torch.ones(2, 2)} for name in ("d", "g")}},
            r"several models' weights, \['nets'\]\['d'\] and \['nets'\]\['g'\]",
        ),
        (lambda torch: {"args": argparse.Namespace(), "model": {}}, r"others can run code \(here argparse.Namespace\)"),
        (lambda torch: {0: torch.ones(2)}, r"found 0 of shape \(2,\)"),
        (lambda torch: torch.nn.Conv2d(1, 2, 3).state_dict(), r"found 'weight' of shape \(2, 1, 3, 3\)"),
        (lambda torch: torch.nn.BatchNorm1d(2).state_dict(), "found 'weight' of shape"),
        (lambda torch: {"0.bias": torch.ones(2)}, "0.bias has no weights"),
        (lambda torch: {}, "at least one layer, got none"),
    ],
)
def test_other_files_of_torch_s_are_refused(torch, tmp_path, content, message):
    path = tmp_path / "weights.pt"
    torch.save(content(torch), path)
    with pytest.raises(DataError, match=message):
        interchange.load_torch(path, output="softmax")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FileFormatError, match=r"no whole file of torch\.save's"):
        interchange.load_torch(path, output="softmax")


@pytest.mark.parametrize("kind", ["alone", "model", "nested", "Lightning", "tutorial"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "_orig_mod.module.net."])
def test_checkpoints_of_training_scripts(torch, tmp_path, kind, prefix):
    net = network(hidden="tanh")
    state = {prefix + name: tensor for name, tensor in interchange.to_torch(net).state_dict().items()}
    optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(5, 6)}}, "param_groups": [{"lr": 0.1}]}
    content = {
        "alone": state,
        "model": {"model": state, "optimizer": optimizer, "epoch": 3},
        "nested": {"checkpoint": {"net": state}, "args": {"lr": 0.1}},
        "Lightning": {"epoch": 3, "state_dict": state, "callbacks": {}, "optimizer_states": [optimizer]},
        "tutorial": {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": optimizer, "loss": 0.5},
    }[kind]
    torch.save(content, tmp_path / "last.ckpt")
    got = interchange.load_torch(tmp_path / "last.ckpt", **STATE | {"hidden": "tanh"})
    np.testing.assert_array_equal(got.predict_proba(X), net.predict_proba(X))


@pytest.mark.parametrize("kind", ["pt", "old pt", "safetensors", "lost suffix"])
@pytest.mark.parametrize("words", ["evaluate {}", "predict {} x.npy", "plot {}"])
def test_commands_name_the_remedy_for_weights_of_torch_s(torch, tmp_path, monkeypatch, capsys, kind, words):
    monkeypatch.chdir(tmp_path)
    state = interchange.to_torch(network()).state_dict()
    name = {"safetensors": "net.safetensors", "lost suffix": "net"}.get(kind, "net.pth")
    if kind == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, name)
    else:
        torch.save(state, name, _use_new_zipfile_serialization=kind != "old pt")
    np.save("x.npy", X)
    assert main(words.format(name).split()) == 1
    message = capsys.readouterr().err
    assert f"`fastnn convert {name} NAME.safetensors" in message
    assert "numpy.savez" not in message


def test_estimators_go_out_as_their_networks(torch, tmp_path):
    from sklearn.neural_network import MLPClassifier as OfScikitLearn

    from fastnn.sklearn import MLPClassifier

    with warnings.catch_warnings(action="ignore"):  # one epoch is not enough
        estimator = MLPClassifier(hidden_layer_sizes=[5], max_iter=1, backend="numpy").fit(X, np.arange(7) % 3)
    x = X.astype(np.float32)
    expected = estimator.predict_proba(x)
    np.testing.assert_allclose(answers_of(torch, interchange.to_torch(estimator).float(), x), expected, atol=1e-5)
    interchange.save_npz(estimator, tmp_path / "net.npz")
    np.testing.assert_allclose(interchange.load_npz(tmp_path / "net.npz", "numpy").predict_proba(x), expected)
    interchange.save_npy_folder(estimator, tmp_path / "net")
    interchange.save_torch(estimator, tmp_path / "net.pt")
    for wrong in (MLPClassifier(), OfScikitLearn(), 3):
        for write in (
            interchange.export_onnx,
            interchange.save_npz,
            interchange.save_npy_folder,
            interchange.save_torch,
        ):
            with pytest.raises(DataError, match="expected a Network, or an estimator of fastnn"):
                write(wrong, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(DataError, match="its network_ is a Network already"):
        interchange.from_sklearn(estimator)


def test_onnx_takes_estimators(tmp_path):
    pytest.importorskip("onnx")
    from fastnn.sklearn import MLPRegressor

    with warnings.catch_warnings(action="ignore"):  # one epoch is not enough
        estimator = MLPRegressor(hidden_layer_sizes=[5], max_iter=1, backend="numpy").fit(X, X[:, :2])
    interchange.export_onnx(estimator, tmp_path / "net.onnx", samples="float64")
    np.testing.assert_allclose(run_onnx(tmp_path / "net.onnx", X), estimator.predict(X), atol=1e-5)


def write_layers(path, names, sizes):
    """A safetensors file of random layers, and the network that they are in this order."""
    save_file = pytest.importorskip("safetensors.numpy").save_file
    net = network(sizes)
    layers = {name: {"weight": W.T.copy(), "bias": b} for name, (W, b) in zip(names, net.get_weights(), strict=True)}
    save_file({f"{name}.{kind}": array for name, layer in layers.items() for kind, array in layer.items()}, path)
    return net


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (["input_layer", "hidden_layer", "output_layer"], (6, 5, 4, 3)),
        (["input_layer", "hidden_layer", "output_layer"], (6, 5, 5, 3)),
        (["fc1", "fc2", "out"], (6, 6, 6, 3)),
        (["net.0", "net.2", "net.10"], (6, 6, 6, 6)),
        (["blocks.0.fc1", "blocks.0.fc2", "blocks.1.fc1", "blocks.1.fc2"], (6, 6, 6, 6, 6)),
        (["stem", "up.0", "down.0", "up.1", "down.1", "head"], (5, 6, 3, 6, 3, 6, 2)),
    ],
)
def test_layers_without_an_order_are_taken_in_the_only_one_possible(tmp_path, names, sizes):
    net = write_layers(tmp_path / "net", names, sizes)
    got = interchange.load_torch(tmp_path / "net", **STATE)
    np.testing.assert_array_equal(got.predict_proba(X[:, : sizes[0]]), net.predict_proba(X[:, : sizes[0]]))


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (["stem", "body", "head"], (6, 6, 6, 6)),
        (["input_layer", "hidden_layer", "output_layer"], (6, 6, 6, 3)),
        (["fc1", "fc2", "out"], (6, 6, 6, 6)),
        (["encoder", "decoder"], (6, 3, 6)),
    ],
)
def test_of_several_possible_orders_none_is_guessed(tmp_path, capsys, names, sizes):
    from safetensors.numpy import load_file

    net = write_layers(tmp_path / "net", names, sizes)
    for read, source in [
        (interchange.load_torch, tmp_path / "net"),
        (interchange.from_torch, load_file(tmp_path / "net")),
    ]:
        with pytest.raises(DataError, match=rf"more than one is possible.*order=\[.*--order.*{names[-1]} \("):
            read(source, **STATE)
        with pytest.raises(ValueError, match="order must name each of the layers once"):
            read(source, **STATE, order=names[1:])
        got = read(source, **STATE, order=names)
        np.testing.assert_array_equal(got.predict_proba(X), net.predict_proba(X))
    needed = ["--hidden", "relu", "--output", "softmax", "--order", ",".join(names)]
    assert command(tmp_path / "net", tmp_path / "own.npz", *needed) == 0
    got = interchange.load_npz(tmp_path / "own.npz", backend="numpy")
    np.testing.assert_array_equal(got.predict_proba(X), net.predict_proba(X))


def test_numbers_that_contradict_the_shapes_are_asked_about(tmp_path):
    write_layers(tmp_path / "net", ["fc2", "fc1"], (6, 5, 4))
    with pytest.raises(DataError, match="none is possible: name all layers"):
        interchange.load_torch(tmp_path / "net", **STATE)
    assert interchange.load_torch(tmp_path / "net", **STATE, order=["fc2", "fc1"]).sizes == (6, 5, 4)


@pytest.mark.parametrize(
    "others",
    [
        {"x.weight": (3, 2), "y.weight": (3, 2)},  # both would have to be the first
        {"x.weight": (3, 3), "y.weight": (3, 3)},  # a circle of their own
        {"x1.weight": (3, 2), "x0.weight": (6, 3)},  # by their numbers x0 is before x1
    ],
)
@pytest.mark.parametrize("name", ["{0}", "block{1}.{2}"])
def test_many_layers_that_fit_in_no_order_are_soon_refused(others, name):
    layers = {f"{name.format('abcdefghijklmnopqrst'[i], i // 4, 'wxyz'[i % 4])}.weight": (6, 6) for i in range(20)}
    state = {key: np.zeros(shape) for key, shape in (layers | others).items()}
    with pytest.raises(DataError, match="none is possible"):
        interchange.from_torch(state, **STATE)


def test_a_plain_dictionary_is_in_no_order_whatever_its_names(tmp_path):
    """What ``safetensors.torch.load(bytes)`` gives is in another order each time."""
    net = network((6, 6, 6, 3))
    state = {}
    for name, (W, b) in zip(["stem", "body", "head"], net.get_weights(), strict=True):
        state |= {f"{name}.weight": W.T, f"{name}.bias": b}
    swapped = {name: state[name] for name in sorted(state, reverse=True)}
    for plain in (state, swapped):
        with pytest.raises(DataError, match="more than one is possible"):
            interchange.from_torch(plain, **STATE)
    got = interchange.from_torch(OrderedDict(state), **STATE)
    np.testing.assert_array_equal(got.predict_proba(X), net.predict_proba(X))


# ---- the command ----------------------------------------------------------------------------------------------------


def command(*arguments):
    parser = argparse.ArgumentParser()
    convert.add_options(parser)
    options = parser.parse_args([str(argument) for argument in arguments])
    return options.run(options)


def test_convert_goes_round(tmp_path, torch, capsys):
    net = network(hidden=["tanh", "relu"])
    net.save(tmp_path / "0.safetensors")
    names = ["0.safetensors", "1.npz", "2", "3.pt", "4.safetensors"]
    needed = ["--hidden", "tanh,relu", "--output", "softmax"]
    for source, target in itertools.pairwise(names):
        assert command(tmp_path / source, tmp_path / target, *(needed if source in ("2", "3.pt") else [])) == 0
    copy = fastnn.load(tmp_path / "4.safetensors", backend="numpy")
    np.testing.assert_array_equal(copy.predict_proba(X), net.predict_proba(X))
    assert capsys.readouterr().out.count("who reads it needs --hidden tanh,relu --output softmax") == 2


def test_convert_to_onnx_and_json(tmp_path, capsys):
    pytest.importorskip("onnx")
    interchange.save_npz(network(), tmp_path / "net.npz")
    assert command(tmp_path / "net.npz", tmp_path / "net.onnx", "--samples", "uint8", "--json") == 0
    assert json.loads(capsys.readouterr().out)["sizes"] == [6, 5, 4, 3]
    np.testing.assert_allclose(run_onnx(tmp_path / "net.onnx", PIXELS), network().predict_proba(PIXELS), atol=1e-5)


@pytest.mark.parametrize(
    ("source", "target", "options", "error", "message"),
    [
        ("net.npz", "x.foo", [], UsageError, "OUT must end with .pt, .pth"),
        ("net.npz", "x.npz", ["--samples", "uint8"], UsageError, "--samples is the type of an ONNX"),
        ("net.npz", "x.onnx", ["--samples", "int8"], UsageError, "unknown type of samples"),
        ("net.npz", "x.npz", ["--hidden", "relu"], UsageError, "says itself which activations it has"),
        ("net.npz", "x.npz", ["--order", "a,b"], UsageError, "--order names the layers of a state_dict"),
        ("net.npz", "x.npz", ["--no-transposed"], UsageError, "--transposed is said of arrays by name"),
        ("folder", "x.npz", ["--hidden", "relu"], UsageError, "do not tell the output"),
        ("folder", "x.npz", ["--hidden", "rely", "--output", "softmax"], UsageError, "did you mean 'relu'"),
        ("folder", "folder", ["--hidden", "relu", "--output", "softmax"], FileExistsError, "no empty folder"),
        ("nothing", "x.npz", [], FileNotFoundError, "nothing"),
        ("empty", "x.npz", [], FileFormatError, "no whole safetensors file"),
        ("model.pkl", "x.npz", [], FileFormatError, "is a pickle, which can run code"),
        ("net.onnx", "x.npz", [], FileFormatError, "ONNX models are written, not read"),
        ("pipe", "x.npz", [], UsageError, "a pipe cannot be read"),
        ("net.npz", "nowhere/x.npz", [], FileNotFoundError, "there is no folder"),
    ],
)
def test_convert_refuses(tmp_path, monkeypatch, source, target, options, error, message):
    monkeypatch.chdir(tmp_path)
    interchange.save_npz(network(), "net.npz")
    interchange.save_npy_folder(network(), "folder")
    Path("empty").touch()
    Path("model.pkl").write_bytes(b"\x80\x04]\x94.")
    Path("net.onnx").write_bytes(b"\x08\x07")
    os.mkfifo("pipe")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=message):
        command(source, target, *options)
    assert sorted(tmp_path.iterdir()) == before
