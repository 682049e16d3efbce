"""A committee: one network that answers by the mean of several."""

import numpy as np
import pytest

import fastnn


def make(*widths, seed=0, **options):
    network = fastnn.Network([6, *widths, 4], seed=seed, **({"backend": "numpy"} | options))
    generator = np.random.default_rng(seed)
    pairs = network.get_weights()
    network.set_weights([(W, b if b is None else generator.normal(0, 0.3, b.shape)) for W, b in pairs])
    return network


@pytest.fixture
def x():
    return np.random.default_rng(9).normal(0, 2, (50, 6))


@pytest.mark.parametrize("widths", [[(5,), (8,), (3,)], [(5, 7, 3), (4, 9, 2)], [(), (), ()]])
def test_softmax_of_the_mean_is_the_normalised_geometric_mean(widths, x):
    members = [make(*sizes, seed=seed, dtype="float64") for seed, sizes in enumerate(widths)]
    expected = np.exp(np.mean([np.log(member.predict_proba(x)) for member in members], axis=0))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fastnn.committee(members).predict_proba(x), expected, rtol=1e-12)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("bias", [True, False])
def test_values_are_averaged(backend, bias, x):
    options = {"output": "identity", "bias": bias, "hidden": ["tanh", "gelu"], "backend": backend}
    members = [make(20, 30, seed=seed, **options) for seed in range(3)]
    expected = np.mean([member.predict(x) for member in members], axis=0)
    np.testing.assert_allclose(fastnn.committee(members).predict(x), expected, rtol=1e-4, atol=1e-5)


def test_it_is_a_network_that_can_be_trained_on_and_kept(x, tmp_path):
    members = [make(5, seed=seed, dropout=0.2) for seed in range(2)]
    pixels, y = np.abs(50 * x).astype(np.uint8), np.arange(50) % 4
    for member in members:
        member.fit(pixels, y, epochs=2, loss="focal")
    joined = fastnn.committee(members)
    assert joined.pixels
    assert joined.loss == "focal"
    assert joined.epochs_trained == 2
    joined.save(tmp_path / "committee")
    loaded = fastnn.load(tmp_path / "committee", backend="numpy")
    np.testing.assert_array_equal(loaded.predict_proba(pixels), joined.predict_proba(pixels))
    joined.fit(pixels, y, epochs=1)
    assert joined.epochs_trained == 3


def test_members_keep_their_weights(x):
    member = make(5)
    before = member.predict_proba(x)
    joined = fastnn.committee([member])
    np.testing.assert_array_equal(joined.predict_proba(x), before)
    joined.set_weights([(0 * W, 0 * b) for W, b in joined.get_weights()])
    np.testing.assert_array_equal(member.predict_proba(x), before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden": "tanh"}, "same hidden"),
        ({"output": "sigmoid"}, "same output"),
        ({"bias": False}, "same bias"),
        ({"dtype": "float64"}, "same dtype"),
        ({"scale": 0.5}, "same scale"),
        ({"task": "multilabel", "output": "sigmoid"}, "same output"),
    ],
)
def test_members_that_differ_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        fastnn.committee([make(5), make(5, **options)])


def test_none_and_other_shapes_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        fastnn.committee([])
    with pytest.raises(ValueError, match="as many layers"):
        fastnn.committee([make(5), make(5, 5)])
