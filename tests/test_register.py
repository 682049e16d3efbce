"""A user's own activation, loss and optimizer, each from one file outside the package, in all that built-in ones do."""

import importlib.util

import numpy as np
import pytest

import fastnn
from fastnn.interchange import export_onnx, from_torch, to_torch
from fastnn.operations import ACTIVATIONS, LOSSES, OPTIMIZERS

FILES = {
    "swish": """
import fastnn
from fastnn.operations import Activation
from fastnn.operations.expressions import sigmoid


class Swish(Activation):
    name, torch = "swish", ("SiLU", {})

    def value(self, z):
        return z * sigmoid(z)

    def derivative(self, z, a):
        s = sigmoid(z)
        return s + z * s * (1.0 - s)


fastnn.register(Swish())
""",
    "near": """
import fastnn
from fastnn.operations import Loss
from fastnn.operations.expressions import sign, where


class Near(Loss):
    name = "near"
    width = 1.0

    def value(self, z, a, t, n):
        d = abs(a - t)
        return where(d > self.width, self.width * (d - 0.5 * self.width), 0.5 * d * d)

    def gradient(self, z, a, t, n):
        d = a - t
        return where(abs(d) > self.width, self.width * sign(d), d)


fastnn.register(Near())
""",
    "tiger": """
from dataclasses import dataclass

import fastnn
from fastnn.operations import Optimizer
from fastnn.operations.expressions import sign


@dataclass(frozen=True)
class Tiger(Optimizer):
    learning_rate: float = 0.0001
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0
    clip_norm: float | None = None
    state = ("mean",)

    def update(self, p, g, state, rates, decay):
        direction = sign(self.beta1 * state[0] + (1 - self.beta1) * g)
        mean = self.beta2 * state[0] + (1 - self.beta2) * g
        return (1 - rates[0] * decay) * p - rates[0] * direction, mean


fastnn.register(Tiger)
""",
}
BUILTIN = {"swish": "silu", "near": "huber", "tiger": "lion"}


@pytest.fixture
def registered(tmp_path):
    """The three files imported, as a user's script would, for the length of a test."""
    before = [dict(table) for table in (ACTIVATIONS, LOSSES, OPTIMIZERS)]
    for name, text in FILES.items():
        path = tmp_path / f"{name}.py"
        path.write_text(text, encoding="utf-8")
        specification = importlib.util.spec_from_file_location(name, path)
        specification.loader.exec_module(importlib.util.module_from_spec(specification))
    yield
    for table, content in zip((ACTIVATIONS, LOSSES, OPTIMIZERS), before, strict=True):
        table.clear()
        table.update(content)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((50, 6)), 2 * rng.standard_normal((50, 3))


def train(backend, x, y, hidden, loss, optimizer, epochs=3):
    net = fastnn.Network([6, 9, 3], hidden=hidden, output="identity", dtype="float64", backend=backend)
    history = net.fit(x, y, epochs=epochs, batch_size=8, loss=loss, optimizer=f"{optimizer}(0.01, weight_decay=0.1)")
    return net, history


def test_they_train_as_the_built_in_ones_do(registered, backend, data):
    net, history = train(backend, *data, *BUILTIN)
    same, expected = train(backend, *data, *BUILTIN.values())
    assert history.loss == expected.loss
    assert history.loss[-1] < history.loss[0]
    for (W, b), (other_W, other_b) in zip(net.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(W, other_W)
        np.testing.assert_array_equal(b, other_b)


def test_their_gradients_are_right(registered, backend, data):
    """By central differences."""
    x, y = data
    net = fastnn.Network([6, 9, 3], hidden="swish", output="identity", dtype="float64", backend=backend)
    weights = net.get_weights()
    _, gradients = net.gradients(x, y, loss="near")
    for layer, row, column in [(0, 2, 3), (0, 5, 8), (1, 0, 1), (1, 8, 2)]:
        losses = []
        for step in (1e-6, -1e-6):
            changed = [(W.copy(), b.copy()) for W, b in weights]
            changed[layer][0][row, column] += step
            net.set_weights(changed)
            losses.append(net.evaluate(x, y, loss="near")["loss"])
        assert gradients[layer][0][row, column] == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-5, abs=1e-9)


def test_they_are_saved_resumed_and_loaded(registered, backend, data, tmp_path):
    x, y = data
    checkpoint = fastnn.Checkpoint(tmp_path / "run.safetensors")
    net = fastnn.Network([6, 9, 3], hidden="swish", output="identity", dtype="float64", backend=backend)
    options = {"batch_size": 8, "loss": "near", "optimizer": "tiger(0.01)"}
    net.fit(x, y, epochs=2, callbacks=[checkpoint], **options)
    again = fastnn.load(tmp_path / "run.safetensors", backend=backend)
    again.fit(x, y, epochs=4, resume=tmp_path / "run.safetensors", **options)
    whole = fastnn.Network([6, 9, 3], hidden="swish", output="identity", dtype="float64", backend=backend)
    whole.fit(x, y, epochs=4, **options)
    np.testing.assert_array_equal(again.predict(x), whole.predict(x))


def test_they_are_exported(registered, data, tmp_path):
    onnxruntime, torch = pytest.importorskip("onnxruntime"), pytest.importorskip("torch")
    x, y = data
    net, _ = train("numpy", x, y, *BUILTIN)
    expected = net.predict(x)
    export_onnx(net, tmp_path / "net.onnx", samples="float64")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    np.testing.assert_allclose(session.run(None, {"samples": x})[0], expected, rtol=1e-6, atol=1e-7)
    module = to_torch(net)
    np.testing.assert_allclose(module(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-10)
    assert from_torch(module, output="identity").hidden[0] in ("silu", "swish")  # both are nn.SiLU


def test_the_command_line_knows_them(registered):
    assert fastnn.operations.as_optimizer("tiger(0.5)").learning_rate == 0.5
    with pytest.raises(ValueError, match=r"did you mean 'tiger'\?.*tiger"):
        fastnn.operations.as_optimizer("tigre")
    with pytest.raises(ValueError, match="swish"):
        fastnn.Network([2, 3, 2], hidden="swishh")


def test_a_name_that_is_taken_is_refused(registered):
    class Other(type(ACTIVATIONS["swish"])):
        pass

    with pytest.raises(ValueError, match="'swish' already: choose another name"):
        fastnn.register(Other())
    fastnn.register(ACTIVATIONS["swish"])  # twice the same is no mistake: a file may be imported again
    with pytest.raises(TypeError, match="takes an Activation, a Loss or a subclass of Optimizer"):
        fastnn.register("silu")
