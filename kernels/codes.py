"""The integers by which the step and the kernels speak of activations, losses, tasks and optimizers.

Compiled and captured code branches on integers; people use the names. A new activation is a line here, in `NEEDS_Z` too
where its derivative is computed from z, and a branch in each backend's `dense` and `input_gradient`: the suites find it
by themselves.
"""

IDENTITY, RELU, LEAKY_RELU, SIGMOID, TANH, GELU, SOFTMAX, EXPONENTIAL = range(8)
HIDDEN_ACTIVATIONS = {
    "identity": IDENTITY,
    "relu": RELU,
    "leaky_relu": LEAKY_RELU,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "gelu": GELU,
}
NEEDS_Z = frozenset({GELU})
"""The hidden activations whose derivative is computed from z; that of all others from the activation's value alone."""

OUTPUT_ACTIVATIONS = {"identity": IDENTITY, "sigmoid": SIGMOID, "softmax": SOFTMAX, "exp": EXPONENTIAL}

LEAKY_SLOPE = 0.01
"""Slope of leaky_relu for negative arguments (Maas et al. 2013)."""

CROSS_ENTROPY, BINARY_CROSS_ENTROPY, QUADRATIC, POISSON = range(4)
LOSSES = {
    "cross_entropy": CROSS_ENTROPY,
    "binary_cross_entropy": BINARY_CROSS_ENTROPY,
    "quadratic": QUADRATIC,
    "poisson": POISSON,
}

CLASSIFICATION, MULTILABEL, REGRESSION = range(3)
TASKS = {"classification": CLASSIFICATION, "multilabel": MULTILABEL, "regression": REGRESSION}
"""What a hit is: the largest output is the target's; the share of outputs on the target's side of 1/2; nothing."""

PRECISIONS = ("bf16", "tf32")
"""In which matrix products may be computed instead of the arrays' own, sums in float32; see `precisions`."""

GRADIENT_ONLY, PLAIN_SGD, SGD, RMSPROP, ADAM = range(5)
"""What follows back-propagation. PLAIN_SGD is applied layer by layer inside it and needs no gradient buffer."""
