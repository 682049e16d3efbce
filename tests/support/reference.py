"""What the kernels ought to compute, written from the definitions: in float64, plain, and slow where that is plainer.

Nothing here calls the library. Activations, losses and tasks go by their names, so that a new one that is not written
here is a KeyError in the suites and not a gap.
"""

import itertools
import math

import numpy as np
from scipy import ndimage
from scipy.special import erf, log_softmax, softmax, xlogy

# ---- random numbers: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11, section 4.3 ----------------


def philox4x32(counter, key):
    """Ten rounds over four 32-bit words of counter and two of key; four words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(c0 * 0xD2511F53, 2**32)
        high1, low1 = divmod(c2 * 0xCD9E8D57, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def dropout_words(size, stream, step, layer):
    """The 32-bit word of each of `size` elements."""
    key_0, key_1, epoch = map(int, stream)
    words = []
    for group in range(math.ceil(size / 4)):
        words += philox4x32((group, step, layer, epoch), (key_0, key_1))
    return words[:size]


# ---- deformed images: the contract's formula, and scipy's interpolation ---------------------------------------------


def deform(image, sample, stream, ranges, row_basis, column_basis):
    """An image (h, w), deformed as the sample of that number is."""
    (h, w), n_nodes = image.shape, 2 * len(row_basis) * len(column_basis)
    key_0, key_1, epoch = map(int, stream)
    words = []
    for group in range(math.ceil((8 + n_nodes) / 4)):
        words += philox4x32((group, int(sample), 2**32 - 1, epoch), (key_0, key_1))
    turn, factor_x, factor_y, shear, to_x, to_y = (word / 2**31 - 1 for word in words[:6])
    angle, middle = ranges[0] * turn, np.array([(w - 1) / 2, (h - 1) / 2])
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shearing = np.array([[1, ranges[2] * shear], [0, 1]])
    scaling = np.diag([1 + ranges[1] * factor_x, 1 + ranges[1] * factor_y])
    back = np.linalg.inv(rotation @ shearing @ scaling)
    nodes = np.array([(word % 2**16 + word // 2**16) / 65535 - 1 for word in words[8 : 8 + n_nodes]]) * ranges[4]
    nodes = nodes.reshape(2, len(row_basis), len(column_basis))
    bent = np.array([row_basis.T.astype(float) @ axis @ column_basis.astype(float) for axis in nodes])
    x, y = np.meshgrid(np.arange(w), np.arange(h))
    given = np.stack([x, y]) - (middle + np.array([to_x, to_y]) * ranges[3])[:, None, None]
    found = np.einsum("ij,jhw->ihw", back, given) + middle[:, None, None] + bent
    return ndimage.map_coordinates(image.astype(float), found[::-1], order=1, mode="nearest")


# ---- activations ----------------------------------------------------------------------------------------------------


def _sigmoid(z):
    return 0.5 * (1 + np.tanh(z / 2))


def _normal_cdf(z):
    return 0.5 * (1 + erf(z / math.sqrt(2)))


def _normal_density(z):
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


_ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": lambda z: np.where(z > 0, z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "gelu": lambda z: z * _normal_cdf(z),
    "elu": lambda z: np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1),
    "softplus": lambda z: np.logaddexp(0, z),
    "silu": lambda z: z * _sigmoid(z),
    "mish": lambda z: z * np.tanh(np.logaddexp(0, z)),
    "softmax": lambda z: softmax(z, axis=1),
    "exp": np.exp,
}
_DERIVATIVES = {
    "identity": np.ones_like,
    "relu": lambda z: np.where(z > 0, 1.0, 0.0),
    "leaky_relu": lambda z: np.where(z > 0, 1.0, 0.01),
    "sigmoid": lambda z: _sigmoid(z) * (1 - _sigmoid(z)),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "gelu": lambda z: _normal_cdf(z) + z * _normal_density(z),
    "elu": lambda z: np.exp(np.minimum(z, 0)),
    "softplus": _sigmoid,
    "silu": lambda z: _sigmoid(z) * (1 + z * (1 - _sigmoid(z))),
    "mish": lambda z: np.tanh(np.logaddexp(0, z)) + z * _sigmoid(z) / np.cosh(np.logaddexp(0, z)) ** 2,
    "exp": np.exp,
}


def activate(name, z):
    return _ACTIVATIONS[name](z)


def derivative(name, z):
    return _DERIVATIVES[name](z)


# ---- losses ---------------------------------------------------------------------------------------------------------


COMBINATIONS = [  # (loss, output): a likelihood has its own output, a distance takes any
    ("cross_entropy", "softmax"),
    ("smoothed_cross_entropy", "softmax"),
    ("focal", "softmax"),
    ("binary_cross_entropy", "sigmoid"),
    ("poisson", "exp"),
    ("hinge", "identity"),
    *itertools.product(["quadratic", "absolute", "huber"], ["identity", "sigmoid", "softmax", "exp"]),
]


def row_losses(loss, output, z, targets):
    """Loss of each sample, from its logits."""
    if loss == "cross_entropy":
        return -(targets * log_softmax(z, axis=1)).sum(axis=1)
    if loss == "binary_cross_entropy":  # log(1 + exp(-z)) is -log sigmoid(z)
        return (targets * np.logaddexp(0, -z) + (1 - targets) * np.logaddexp(0, z)).sum(axis=1)
    if loss == "poisson":  # half the deviance; t log t is 0 for t = 0
        return (np.exp(z) - targets - targets * z + xlogy(targets, targets)).sum(axis=1)
    if loss == "smoothed_cross_entropy":
        return row_losses("cross_entropy", output, z, smooth(targets))
    if loss == "focal":
        log_a = log_softmax(z, axis=1)
        return -(targets * (1 - np.exp(log_a)) ** 2 * log_a).sum(axis=1)
    a = activate(output, z)
    if loss == "hinge":
        return np.maximum(0, 1 - np.sign(targets - 0.5) * a).sum(axis=1)
    d = np.abs(a - targets)
    distances = {"quadratic": d**2 / 2, "absolute": d, "huber": np.where(d < 1, d**2 / 2, d - 1 / 2)}
    return distances[loss].sum(axis=1)


def smooth(targets):
    return 0.9 * targets + 0.1 / targets.shape[1]


def logit_gradients(loss, output, z, targets):
    """Gradient of each sample's loss with respect to its logits."""
    a = activate(output, z)
    if loss in ("cross_entropy", "binary_cross_entropy", "poisson"):
        return a - targets
    if loss == "smoothed_cross_entropy":
        return a - smooth(targets)
    if loss == "focal":  # from the gradient with respect to log a
        g = targets * (2 * (1 - a) * a * log_softmax(z, axis=1) - (1 - a) ** 2)
        return g - a * g.sum(axis=1, keepdims=True)
    if loss == "hinge":
        side = np.sign(targets - 0.5)
        return np.where(side * a < 1, -side, 0.0)
    d = a - targets
    difference = {"quadratic": d, "absolute": np.sign(d), "huber": np.clip(d, -1, 1)}[loss]
    if output == "softmax":
        return np.stack([(np.diag(row) - np.outer(row, row)) @ d for row, d in zip(a, difference, strict=True)])
    return difference * derivative(output, z)


def row_hits(task, a, targets):
    """Whether, or in what share of the outputs, each sample was answered rightly."""
    if task == "classification":
        return np.array([float(np.argmax(row) == np.argmax(t)) for row, t in zip(a, targets, strict=True)])
    if task == "multilabel":
        return ((a >= 0.5) == (targets >= 0.5)).mean(axis=1)
    return {"regression": np.zeros(len(a))}[task]


# ---- optimizers -----------------------------------------------------------------------------------------------------


class Optimizer:
    """One of the optimizers on a flat float64 vector; `decay` is an array: the weight decay of each element.

    A gradient whose norm is larger than `clip_norm` is scaled down to it first.

    ``step(p, g, rate)`` returns the new p.
    """

    def __init__(self, decay=0.0, clip_norm=np.inf, **constants):
        self.decay, self.clip_norm, self.constants = decay, clip_norm, constants
        self.t, self.m, self.s = 0, 0.0, 0.0

    def step(self, p, g, rate):
        self.t += 1
        g = g * min(1.0, self.clip_norm / max(np.linalg.norm(g), 1e-300))
        return self.update(p, g, rate, **self.constants)


class SGD(Optimizer):
    def update(self, p, g, rate, momentum=0.0, nesterov=False):
        g = g + self.decay * p
        self.m = momentum * self.m + g
        return p - rate * (g + momentum * self.m if nesterov else self.m)


class RMSprop(Optimizer):
    def update(self, p, g, rate, rho=0.9, epsilon=1e-8):
        g = g + self.decay * p
        self.s = rho * self.s + (1 - rho) * g**2
        return p - rate * g / (np.sqrt(self.s) + epsilon)


class Adam(Optimizer):
    def update(self, p, g, rate, beta1=0.9, beta2=0.999, epsilon=1e-8, decoupled=False):
        if not decoupled:
            g = g + self.decay * p
        self.m = beta1 * self.m + (1 - beta1) * g
        self.s = beta2 * self.s + (1 - beta2) * g**2
        mean, mean_square = self.m / (1 - beta1**self.t), self.s / (1 - beta2**self.t)
        step = mean / (np.sqrt(mean_square) + epsilon)
        return p - rate * (step + self.decay * p if decoupled else step)


class Adagrad(Optimizer):
    def update(self, p, g, rate, epsilon=1e-10):
        g = g + self.decay * p
        self.s = self.s + g**2
        return p - rate * g / (np.sqrt(self.s) + epsilon)


class NAdam(Optimizer):
    def update(self, p, g, rate, beta1=0.9, beta2=0.999, epsilon=1e-8):
        g = g + self.decay * p
        self.m = beta1 * self.m + (1 - beta1) * g
        self.s = beta2 * self.s + (1 - beta2) * g**2
        mean = beta1 * self.m / (1 - beta1 ** (self.t + 1)) + (1 - beta1) * g / (1 - beta1**self.t)
        return p - rate * mean / (np.sqrt(self.s / (1 - beta2**self.t)) + epsilon)


class Lion(Optimizer):
    def update(self, p, g, rate, beta1=0.9, beta2=0.99):
        step = np.sign(beta1 * self.m + (1 - beta1) * g)
        self.m = beta2 * self.m + (1 - beta2) * g
        return p - rate * (step + self.decay * p)
