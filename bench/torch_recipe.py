"""A recipe of `fastnn.presets` trained by PyTorch, deformed images included, as one writes it there for speed."""

import time
from typing import Any

import numpy as np

import fastnn
from fastnn.augmentation import Deform, as_augment
from fastnn.bench.recipe import make_network
from fastnn.datasets import Dataset
from fastnn.schedules import as_schedule

AT_ONCE = 32  # mini-batches whose images are deformed by one call: several times as fast as one by one


def train(seed: int, data: Dataset, threads: int, recipe: dict[str, Any]) -> dict[str, Any]:
    """Train to the end; seconds of training until the end of each epoch, with the test accuracy and the mean loss.

    The weights to begin with are those of fastnn's network of that seed; orders and deformations are PyTorch's own.

    Raises
    ------
    fastnn.BackendError
        If the recipe has what is not written here: anything but ReLU, softmax, cross-entropy, SGD without decay.
    """
    import torch

    plain = {
        "hidden": "relu",
        "output": "softmax",
        "optimizer": "sgd",
        "bias": True,
        "dropout": 0.0,
        "dtype": "float32",
    }
    absent = ("loss", "weight_decay", "clip_norm", "scale")  # which are None in such a recipe
    if any(recipe[name] != value for name, value in plain.items()) or any(recipe[name] is not None for name in absent):
        raise fastnn.BackendError("PyTorch's training is written for recipes of ReLU, softmax and SGD without decay")
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    layers: list[Any] = []
    for W, b in make_network(recipe, seed, "numpy").get_weights():
        layers += [torch.nn.Linear(*W.shape), torch.nn.ReLU()]
        assert b is not None
        with torch.no_grad():
            layers[-2].weight.copy_(torch.from_numpy(W.T))
            layers[-2].bias.copy_(torch.from_numpy(b))
    model = torch.nn.Sequential(*layers[:-1])
    rate, momentum = recipe["learning_rate"], recipe["momentum"] or 0.0
    sgd = torch.optim.SGD(model.parameters(), rate, momentum, nesterov=bool(recipe["nesterov"]), fused=True)
    x, y = (torch.from_numpy(np.ascontiguousarray(array)) for array in (data.x_train, data.y_train.astype(np.int64)))
    x_test, y_test = (torch.from_numpy(np.ascontiguousarray(array)) for array in (data.x_test, data.y_test))
    x, x_test = x.reshape(len(x), -1), x_test.reshape(len(x_test), -1)
    rows, epochs, n, augment = recipe["batch_size"], recipe["epochs"], len(x), as_augment(recipe["augment"])
    per_epoch = -(-n // rows)
    steps = np.arange(epochs * per_epoch)
    rates = rate * np.asarray(as_schedule(recipe["schedule"])(steps, per_epoch, len(steps)))
    found: dict[str, list[float]] = {"seconds": [], "accuracy": [], "loss": []}
    took = 0.0
    for epoch in range(epochs):
        start, total, step = time.perf_counter(), 0.0, epoch * per_epoch
        order = torch.randperm(n)
        for some in order.split(AT_ONCE * rows):
            images, labels = x[some].float() / 255, y[some]
            if isinstance(augment, Deform):
                images = deform(images, augment, augment.strength(epoch, epochs))
            for inputs, targets in zip(images.split(rows), labels.split(rows), strict=True):
                sgd.param_groups[0]["lr"] = float(rates[step])
                sgd.zero_grad(set_to_none=True)
                loss = torch.nn.functional.cross_entropy(model(inputs), targets)
                loss.backward()
                sgd.step()
                total, step = total + len(targets) * loss.item(), step + 1
        took += time.perf_counter() - start
        with torch.inference_mode():
            hits = sum(
                (model(part.float() / 255).argmax(1) == labels).sum().item()
                for part, labels in zip(x_test.split(512), y_test.split(512), strict=True)
            )
        for name, value in (("seconds", took), ("accuracy", hits / len(x_test)), ("loss", total / n)):
            found[name].append(value)
    return {"seed": seed, **found}


def deform(images: Any, augment: Deform, strength: float, uniform: Any = None) -> Any:
    """What `fastnn.Deform` does to images ``(B, h * w)``, by ``grid_sample``, with PyTorch's random numbers.

    `uniform` makes a tensor of numbers from -1 to 1 of a shape; for tests.
    """
    import torch

    uniform = uniform or (lambda *shape: 2 * torch.rand(shape) - 1)
    height, width = augment.shape_of(images.shape[1])
    angle, stretch, shear, move, node = strength * augment.ranges()
    u = uniform(len(images), 6)
    angle, k = angle * u[:, 0], shear * u[:, 3]
    across, down = 1 + stretch * u[:, 1], 1 + stretch * u[:, 2]
    rows, columns = (torch.arange(size) - (size - 1) / 2 for size in (height, width))
    i, j = rows[:, None] - move * u[:, 5, None, None], columns - move * u[:, 4, None, None]
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    y, x = cos * i - sin * j, sin * i + cos * j
    x = (x - k[:, None, None] * y) / across[:, None, None]
    y = y / down[:, None, None]
    if node:
        by_row, by_column = (torch.from_numpy(basis) for basis in augment.bases((height, width)))
        shape = (2, len(images), len(by_row), len(by_column))
        nodes = node * (uniform(*shape) + uniform(*shape)) / 2
        bent = by_row.T @ nodes @ by_column
        x, y = x + bent[0], y + bent[1]
    grid = torch.stack([2 * x / (width - 1), 2 * y / (height - 1)], dim=-1)
    given = images.reshape(-1, 1, height, width)
    result = torch.nn.functional.grid_sample(given, grid, padding_mode="border", align_corners=True)
    return result.reshape(len(images), -1)
