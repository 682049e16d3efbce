"""Augmentation: deformed images, functions of the user's, and what a run keeps of them."""

import math

import numpy as np
import pytest
import scipy.sparse

import fastnn
from fastnn.augmentation import as_augment
from fastnn.kernels import numpy_kernels

ALL = fastnn.Deform(rotate=15, scale=0.15, shear=0.2, translate=1.5, elastic=(36, 6))


@pytest.fixture(scope="module")
def digits():
    data = fastnn.datasets.load("digits")
    return data.x_train[:600].reshape(600, -1), data.y_train[:600]


def train(digits, backend="numpy", *, batch_size=32, epochs=2, threads=1, augment=ALL, **options):
    net = fastnn.Network([784, 16, 10], seed=3, backend=backend, threads=threads)
    history = net.fit(*digits, epochs=epochs, batch_size=batch_size, augment=augment, **options)
    return net, history


# ---- the pictures ---------------------------------------------------------------------------------------------------


def pictures(kernels, x, deform=ALL, *, dtype="float32", batch_size=7, threads=1, order=None, epoch=5):
    """What the kernel makes of all samples, in the data set's order."""
    order = np.arange(len(x)) if order is None else order
    shape = deform.shape_of(x.shape[1])
    arrays = [kernels.asarray(array) for array in (deform.ranges(), *deform.bases(shape), np.uint32([1, 2, epoch]))]
    function = kernels.load_deform(x.dtype, np.dtype(dtype))
    source, places, found = kernels.as_source(x), kernels.asarray(order), np.empty(x.shape, dtype)
    for step in range(math.ceil(len(x) / batch_size)):
        rows = order[step * batch_size : (step + 1) * batch_size]
        team = kernels.make_team(threads, [x.shape[1], 1000], len(rows), np.dtype(dtype), None)
        out = kernels.zeros((len(rows), x.shape[1]), np.dtype(dtype))
        samples = (source, places, step, batch_size, 1.0, 0.0, function)
        kernels.launch(kernels.deform, [(*samples, *arrays, out, member) for member in team])
        kernels.synchronize()
        found[rows] = kernels.to_numpy(out)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", ["uint8", "float32", "float64"])
def test_pictures_are_the_reference_s(backend, kernels, digits, source, dtype):
    """To the bit on a CPU; a GPU fuses multiplications and additions."""
    x = digits[0][:40].astype(source)
    found, expected = pictures(kernels, x, dtype=dtype), pictures(numpy_kernels, x, dtype=dtype)
    if backend in ("numpy", "numba"):
        assert found.tobytes() == expected.tobytes()
    assert np.abs(found - expected).max() <= 1  # grey level


def test_pictures_depend_on_sample_and_epoch_alone(kernels, digits):
    x = digits[0][:40]
    expected = pictures(kernels, x)
    assert pictures(kernels, x, batch_size=40).tobytes() == expected.tobytes()
    assert pictures(kernels, x, order=np.random.default_rng(0).permutation(40)).tobytes() == expected.tobytes()
    assert pictures(kernels, x, threads=2).tobytes() == expected.tobytes()
    assert (pictures(kernels, x, epoch=6) != expected).any(axis=1).all()
    x[:] = x[0]
    assert len(np.unique(pictures(kernels, x), axis=0)) == 40


def test_no_deformation_is_the_image_itself(kernels, digits):
    for source in ("uint8", "float64"):
        x = digits[0][:20].astype(source)
        np.testing.assert_array_equal(pictures(kernels, x, fastnn.Deform(), dtype="float64"), x)


def test_beyond_the_border_are_the_outermost_pixels():
    striped = np.tile(np.arange(28, dtype=np.float64), (1, 28))
    moved = fastnn.Deform(translate=20)(np.repeat(striped, 200, axis=0))
    assert moved.min() == 0
    assert moved.max() == 27
    assert ((moved[:, 0] == 0) | (moved[:, 27] == 27)).all()


def displacements(deform, side=28, n=4000):
    """(n, 2, side, side): from where each pixel is read, from images whose pixels are their coordinates."""
    found = []
    for axis in range(2):
        ramp = np.indices((side, side))[1 - axis].astype(np.float64)
        found.append(deform(np.broadcast_to(ramp.ravel(), (n, side * side))).reshape(n, side, side) - ramp)
    return np.stack(found, axis=1)


def test_elastic_displacement_has_the_strength_and_width_of_its_definition():
    """Uniform noise from -1 to 1, smoothed by a Gaussian of sigma and multiplied: Simard et al. 2003."""
    strength, sigma = 36, 4
    found = displacements(fastnn.Deform(elastic=(strength, sigma)), side=68, n=400)
    inner = found[:, :, 10:-10, 10:-10]  # no border is met here
    deviation = strength / (2 * sigma * math.sqrt(3 * math.pi))
    assert abs(inner.mean()) < 0.05 * deviation
    assert inner.std() == pytest.approx(deviation, rel=0.03)
    for distance in (2, 4, 8, 16):  # the correlation of smoothed noise
        product = (inner[..., distance:] * inner[..., :-distance]).mean() / inner.var()
        assert product == pytest.approx(math.exp(-(distance**2) / (4 * sigma**2)), abs=0.03)
    assert abs((inner[:, 0] * inner[:, 1]).mean()) < 0.05 * inner.var()


@pytest.mark.parametrize(
    ("settings", "largest"),
    [
        ({"translate": 3}, 3.0),
        ({"rotate": 10}, 4 * math.tan(math.radians(10))),
        ({"scale": 0.2}, 4 * (1 / 0.8 - 1)),
        ({"shear": 0.25}, 4 * 0.25),
    ],
)
def test_affine_maps_are_as_large_as_they_may_be(settings, largest):
    """Of the pixels up to 4 from the middle in each direction."""
    inner = displacements(fastnn.Deform(**settings))[:, :, 10:18, 10:18]
    assert abs(inner.mean()) < 0.08 * largest
    assert 0.9 * largest * 3.5 / 4 < np.abs(inner).max() <= largest * 1.05


def test_images_that_are_no_squares():
    deform = fastnn.Deform(rotate=20, image_shape=(4, 9))
    x = np.random.default_rng(0).random((5, 36))
    assert deform(x).shape == (5, 36)
    assert fastnn.Deform(rotate=20)(x.reshape(5, 4, 9)).shape == (5, 4, 9)
    with pytest.raises(fastnn.DataError, match="36 pixels"):
        deform(np.zeros((2, 784)))
    with pytest.raises(fastnn.DataError, match="no square"):
        fastnn.Deform(rotate=20)(np.zeros((2, 35)))


# ---- training -------------------------------------------------------------------------------------------------------


def test_training_is_the_reference_s(backend, digits):
    _, history = train(digits, backend)
    _, expected = train(digits)
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-4)
    _, plain = train(digits, augment=None)
    assert abs(plain.loss[-1] - expected.loss[-1]) > 0.05


def test_training_does_not_depend_on_threads(kernels, backend, digits):
    one, two = (train(digits, backend, threads=threads)[0].parameters for threads in (1, 2))
    np.testing.assert_array_equal(kernels.to_numpy(one), kernels.to_numpy(two))


@pytest.mark.parametrize(
    "augment", [ALL, lambda x, generator: generator.permuted(x, axis=1)], ids=["deform", "function"]
)
def test_a_resumed_run_is_bit_for_bit_the_other(backend, digits, tmp_path, augment):
    whole, expected = train(digits, backend, epochs=3, augment=augment)
    first, _ = train(digits, backend, epochs=1, augment=augment, callbacks=[fastnn.Checkpoint(tmp_path / "run")])
    net, history = train(digits, backend, epochs=3, augment=augment, resume=tmp_path / "run")
    assert history.loss == expected.loss
    assert first.epochs_trained == 1
    np.testing.assert_array_equal(net.kernels.to_numpy(net.parameters), whole.kernels.to_numpy(whole.parameters))


def test_a_run_is_not_resumed_with_another_augmentation(digits, tmp_path):
    train(digits, epochs=1, callbacks=[fastnn.Checkpoint(tmp_path / "run")])
    with pytest.raises(ValueError, match="augment"):
        train(digits, augment=fastnn.Deform(rotate=10), resume=tmp_path / "run")
    with pytest.raises(ValueError, match="augment"):
        train(digits, augment=None, resume=tmp_path / "run")


def test_strength_falls_to_nothing_at_the_end(digits):
    fading = fastnn.Deform(rotate=15, fade=0.4)
    assert [fading.strength(epoch, 10) for epoch in range(10)] == [1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0]
    assert [fastnn.Deform(rotate=15).strength(epoch, 3) for epoch in range(3)] == [1, 1, 1]
    only_epoch = train(digits, epochs=1, augment=fastnn.Deform(rotate=15, fade=1.0))[1]
    assert only_epoch.loss == train(digits, epochs=1, augment=None)[1].loss


def test_a_function_gets_each_mini_batch_once(backend, digits):
    seen = []

    def watch(x, generator):
        seen.append(x.copy())
        return x

    _, history = train(digits, backend, epochs=1, augment=watch)
    assert [len(x) for x in seen] == [32] * 18 + [24]
    rows = np.concatenate(seen)
    assert rows.dtype == np.uint8
    assert sorted(map(bytes, rows)) == sorted(map(bytes, digits[0]))
    assert history.loss == train(digits, backend, epochs=1, augment=None)[1].loss


def test_a_function_changes_sparse_samples_too(digits):
    def halve(x, generator):
        return x / 2

    x, y = digits
    _, dense = train((x / 255, y), augment=halve)
    _, sparse = train((scipy.sparse.csr_matrix(x / 255), y), augment=halve)
    assert dense.loss == sparse.loss


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, generator: x[:-1], r"shape \(32, 784\), got \(31, 784\)"),
        (lambda x, generator: x * np.nan, "not finite"),
    ],
)
def test_what_a_function_must_return(digits, function, message):
    with pytest.raises(fastnn.DataError, match=message):
        train((digits[0] / 255.0, digits[1]), augment=function)


def test_validation_data_are_never_changed(digits):
    x, y = digits
    net, history = train(digits, epochs=1, validation_data=(x, y))
    assert history.val_loss[0] == net.evaluate(x, y)["loss"]


def test_many_networks_are_augmented_alike(digits):
    alone, history = train(digits)
    twin = fastnn.Network([784, 16, 10], seed=3, backend="numpy", threads=1)
    options = {"epochs": 2, "batch_size": 32, "augment": ALL}
    [together] = fastnn.train_many([twin], *digits, **options)
    assert together.loss == history.loss
    np.testing.assert_array_equal(twin.parameters, alone.parameters)


# ---- settings -------------------------------------------------------------------------------------------------------


def test_text_is_an_augmentation():
    assert as_augment("deform(rotate=15, elastic=(36, 6))") == fastnn.Deform(rotate=15, elastic=(36, 6))
    assert as_augment("none") is as_augment(None) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rotate": -1}, "rotate must be a finite number >= 0, got -1"),
        ({"rotate": 181}, "rotate must be at most 180"),
        ({"scale": 1.0}, "scale must be less than 1"),
        ({"shear": math.nan}, "shear must be a finite number"),
        ({"translate": "2"}, "translate must be a finite number"),
        ({"elastic": 36}, r"elastic must be \(strength, sigma\)"),
        ({"elastic": (36, 0)}, "sigma of elastic"),
        ({"elastic": (-1, 4)}, "strength of elastic"),
        ({"fade": 2}, "fade must be at most 1"),
        ({"image_shape": 28}, r"image_shape must be \(height, width\)"),
        ({"image_shape": (0, 28)}, "a side of image_shape"),
    ],
)
def test_bad_settings_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        fastnn.Deform(**settings)


@pytest.mark.parametrize("augment", ["bend", 3, "deform(turn=3)"])
def test_what_is_no_augmentation_is_an_error(digits, augment):
    with pytest.raises(ValueError, match="augment"):
        train(digits, augment=augment)


def test_samples_that_are_no_images_are_errors(digits):
    x, y = digits
    with pytest.raises(fastnn.DataError, match="sparse"):
        train((scipy.sparse.csr_matrix(x), y))
    net = fastnn.Network([20, 3, 10], backend="numpy")
    with pytest.raises(fastnn.DataError, match="no square images"):
        net.fit(np.zeros((4, 20)), [0, 1, 2, 3], augment=ALL)


def test_estimators_take_it(digits):
    sklearn = pytest.importorskip("fastnn.sklearn")
    x, y = digits
    options = {"hidden_layer_sizes": (16,), "max_iter": 2, "random_state": 0, "dtype": "float32", "backend": "numpy"}
    with pytest.warns(match="still improves"):
        plain = sklearn.MLPClassifier(**options).fit(x / 255, y)
    with pytest.warns(match="still improves"):
        deformed = sklearn.MLPClassifier(**options, augment="deform(rotate=15)").fit(x / 255, y)
    assert plain.loss_curve_ != deformed.loss_curve_
    with pytest.raises(ValueError, match="augment"):
        sklearn.MLPClassifier(solver="lbfgs", augment=ALL).fit(x, y)
