"""PyTorch's training of a recipe is the same training."""

import dataclasses

import numpy as np
import pytest

import fastnn
from fastnn.bench import recipe

torch = pytest.importorskip("torch")
torch_recipe = pytest.importorskip("fastnn.bench.torch_recipe")


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(0).random((20, 28 * 28), np.float32))


def test_nothing_is_deformed_where_all_is_drawn_from_nothing(images):
    augment = fastnn.Deform(rotate=15, scale=0.2, shear=0.2, translate=3, elastic=(36, 6))
    torch.testing.assert_close(torch_recipe.deform(images, augment, 0.0), images, atol=1e-4, rtol=0)


def test_images_are_moved_by_whole_pixels(images):
    moved = torch_recipe.deform(images, fastnn.Deform(translate=2), 1.0, uniform=torch.ones)
    whole, expected = images.reshape(-1, 28, 28), moved.reshape(-1, 28, 28)
    torch.testing.assert_close(expected[:, 2:, 2:], whole[:, :-2, :-2], atol=1e-4, rtol=0)
    torch.testing.assert_close(expected[:, 0, 5], whole[:, 0, 3], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "augment",
    [
        fastnn.Deform(rotate=30),
        fastnn.Deform(scale=0.3),
        fastnn.Deform(shear=0.4),
        fastnn.Deform(translate=4),
        fastnn.Deform(elastic=(36, 6)),
    ],
)
def test_images_are_deformed_as_much_as_by_fastnn(augment):
    """The mean squared difference from the original, over many draws of one smooth image."""
    i, j = np.mgrid[:28, :28]
    image = (127 * (1 + np.sin(i / 3) * np.cos(j / 4))).astype(np.float32).reshape(1, -1)
    many = np.repeat(image, 2000, axis=0)
    ours = np.mean((augment(many) - many) ** 2)
    torch.manual_seed(0)
    theirs = np.mean((torch_recipe.deform(torch.from_numpy(many), augment, 1.0).numpy() - many) ** 2)
    assert theirs == pytest.approx(ours, rel=0.1)


def test_losses_are_fastnn_s_where_nothing_is_random():
    """One mini-batch an epoch: in any order the same gradient, to rounding."""
    data = fastnn.datasets.load("digits")
    few = {name: getattr(data, name)[:100] for name in ("x_train", "y_train", "x_test", "y_test")}
    few["y_test"] = few["y_test"].astype(np.int64)
    data = dataclasses.replace(data, **few)
    settings = recipe.read_recipe("quick") | {"batch_size": 100, "epochs": 6}
    found = torch_recipe.train(3, data, 1, settings)
    network = recipe.make_network(settings, 3, "numpy")
    history = network.fit(
        data.x_train,
        data.y_train,
        epochs=6,
        batch_size=100,
        optimizer=recipe.make_optimizer(settings),
        schedule=settings["schedule"],
        validation_data=(data.x_test, data.y_test),
    )
    np.testing.assert_allclose(found["loss"], history.loss, rtol=1e-4)
    np.testing.assert_allclose(found["accuracy"], history.val_accuracy, atol=0.011)


def test_other_recipes_are_refused():
    with pytest.raises(fastnn.BackendError, match="ReLU"):
        torch_recipe.train(0, fastnn.datasets.load("digits"), 1, recipe.read_recipe("seed"))
    with pytest.raises(ValueError, match="4 networks"):
        recipe.read_recipe("best")
