"""Augmentation: training samples that are changed at random every time they are used, so that a network sees more."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import check_count, check_finite
from fastnn.choices import parse_choice
from fastnn.errors import DataError

__all__ = ["Augment", "Deform", "as_augment"]


@dataclass(frozen=True)
class Deform:
    """Images that are rotated, scaled, sheared, moved and bent elastically, anew in every epoch.

    Each of these is drawn from an interval around "not at all", for every image by itself, from the network's seed, the
    epoch and the image's place in the data set: so a run repeats to the bit, whatever the size of its mini-batches, on
    however many threads. Backends draw the same. What an image needs beyond its border are its outermost pixels.

    Parameters
    ----------
    rotate : float >= 0
        Largest angle either way, in degrees.
    scale : float in [0, 1)
        Width and height are each multiplied by a factor from ``1 - scale`` to ``1 + scale``.
    shear : float >= 0
        Rows are moved sideways by up to so many pixels for each row from the middle.
    translate : float >= 0
        Pixels, in each direction.
    elastic : (strength, sigma) or None
        As in the literature: the displacement of every pixel, uniform from -1 to 1, is smoothed by a Gaussian of width
        `sigma` pixels, and multiplied by `strength`. Here it is a cubic B-spline of random nodes ``sqrt(3) sigma``
        apart, which has the same strength and correlation and costs less: the standard deviation is
        ``strength / (2 sigma sqrt(3 pi))`` pixels, 0.98 for (36, 6).
    fade : float in [0, 1]
        Share of the epochs, at the end of the run, in which all this becomes less, linearly, down to nothing in the
        last one.
    image_shape : (height, width) or None
        Of a sample. None: a square; samples whose number of features is no square need it.

    References
    ----------
    Simard, Steinkraus & Platt, "Best practices for convolutional neural networks applied to visual document analysis",
    ICDAR 2003, section 2; Ciresan, Meier, Gambardella & Schmidhuber, "Deep, big, simple neural nets for handwritten
    digit recognition", Neural Computation 22 (2010), section 2.2: rotation 15 degrees (7.5 for 1 and 7), scale 0.15 to
    0.2, elastic (36 to 38, 5 to 6).

    Examples
    --------
    >>> import fastnn
    >>> fastnn.Deform(rotate=15, elastic=(36, 6))
    Deform(rotate=15, scale=0.0, shear=0.0, translate=0.0, elastic=(36, 6), fade=0.0, image_shape=None)
    """

    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    translate: float = 0.0
    elastic: tuple[float, float] | None = None
    fade: float = 0.0
    image_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("rotate", "scale", "shear", "translate", "fade"):
            check_finite(name, getattr(self, name), least=0)
        for name, limit in (("rotate", 180), ("fade", 1)):
            if getattr(self, name) > limit:
                raise ValueError(f"{name} must be at most {limit}, got {getattr(self, name)!r}")
        if self.scale >= 1:
            raise ValueError(f"scale must be less than 1: images are multiplied by 1 - scale, got {self.scale!r}")
        if self.elastic is not None:
            strength, sigma = _pair("elastic", self.elastic, "(strength, sigma) in pixels, such as (36, 6)")
            check_finite("the strength of elastic", strength, least=0)
            check_finite("the sigma of elastic", sigma, least=0.5)
        if self.image_shape is not None:
            for size in _pair("image_shape", self.image_shape, "(height, width)"):
                check_count("a side of image_shape", size)

    def __call__(self, x: Any, *, seed: int = 0, epoch: int = 0) -> NDArray[Any]:
        """The images `x` as an epoch of some run would see them, at full strength; to look at, above all.

        Parameters
        ----------
        x : array_like, (n, n_features) or (n, height, width)
        seed, epoch : int >= 0
            Choose among all deformations.

        Returns
        -------
        numpy.ndarray
            Of the shape of `x`: float64 for float64, float32 for everything else.
        """
        from fastnn.kernels import numpy_kernels

        images = np.asarray(x)
        rows = images.reshape(len(images), -1)
        out = np.empty(rows.shape, np.float64 if rows.dtype == np.float64 else np.float32)
        shape = images.shape[1:] if images.ndim == 3 and self.image_shape is None else self.shape_of(rows.shape[1])
        stream = np.array(
            [check_count("seed", seed, least=0) % 2**32, 0, check_count("epoch", epoch, least=0)], np.uint32
        )
        arguments = rows, np.arange(len(rows)), 0, len(rows), 1.0, 0.0, 0, self.ranges(), *self.bases(shape)
        numpy_kernels.deform(*arguments, stream, out, None)  # type: ignore[no-untyped-call]  # typed in the contract
        return out.reshape(images.shape)

    def shape_of(self, n_features: int) -> tuple[int, int]:
        """Height and width of samples of so many features.

        Raises
        ------
        DataError
            If they are no images of `image_shape`, or without one no squares.
        """
        if self.image_shape is not None:
            height, width = self.image_shape
            if height * width != n_features:
                raise DataError(f"image_shape={self.image_shape} has {height * width} pixels, samples {n_features}")
            return height, width
        side = math.isqrt(n_features)
        if side * side != n_features:
            raise DataError(f"samples of {n_features} features are no square images: give Deform their image_shape")
        return side, side

    def ranges(self) -> NDArray[np.float64]:
        """(5,) for `fastnn.kernels.contract.Kernels.deform`, at full strength."""
        strength, sigma = self.elastic or (0.0, 1.0)
        deviation = strength / (2 * sigma * math.sqrt(3 * math.pi))
        node = deviation * math.sqrt(6) / (151 / 315)  # of a triangular distribution; the spline's square integrates so
        return np.array([math.radians(self.rotate), self.scale, self.shear, self.translate, node])

    def bases(self, shape: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(nodes, height) and (nodes, width): how much each node of the elastic displacement counts at each pixel."""
        height, width = (_spline_basis(n, self.elastic[1] if self.elastic else None) for n in shape)
        return height, width

    def strength(self, epoch: int, epochs: int) -> float:
        """What is left of it in an epoch, counted from 0, of so many."""
        fading = self.fade * epochs
        return 1.0 if epochs - epoch > fading else (epochs - 1 - epoch) / fading


Augment: TypeAlias = Deform | Callable[[NDArray[Any], np.random.Generator], Any]


def _spline_basis(n: int, sigma: float | None) -> NDArray[np.float32]:
    """Cubic B-splines around nodes sqrt(3) sigma apart at n pixels: their width is a Gaussian's of that sigma."""
    if sigma is None:
        return np.empty((0, n), np.float32)
    spacing = math.sqrt(3) * sigma
    nodes = math.ceil((n - 1) / spacing) + 3
    centres = (np.arange(nodes) - (nodes - 1) / 2) * spacing
    distance = np.abs(np.arange(n) - (n - 1) / 2 - centres[:, None]) / spacing
    near, far = 2 / 3 - distance**2 + distance**3 / 2, np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def _pair(name: str, value: Any, what: str) -> tuple[Any, Any]:
    try:
        first, second = value
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be {what}, got {value!r}") from None
    return first, second


def as_augment(augment: Any) -> Augment | None:
    """`Deform`, a function, or in text ``"deform(rotate=15, elastic=(36, 6))"``; None and "none" are nothing.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if augment is None or isinstance(augment, Deform):
        return augment
    if isinstance(augment, str):
        made: Deform | None = parse_choice("augmentation", augment, {"none": lambda: None, "deform": Deform})
        return made
    if callable(augment):
        function: Augment = augment
        return function
    raise ValueError(f"augment must be a fastnn.Deform or a function of samples and a generator, got {augment!r}")
