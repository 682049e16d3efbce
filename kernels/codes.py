"""The integers on which compiled and captured code branches, and the names that people use for them.

Activations, losses and optimizers have none: they are records (`fastnn.operations`), of which each backend makes what
its kernels can call.
"""

CLASSIFICATION, MULTILABEL, REGRESSION = range(3)
TASKS = {"classification": CLASSIFICATION, "multilabel": MULTILABEL, "regression": REGRESSION}
"""What a hit is: the largest output is the target's; the fraction of outputs on the target's side of 1/2; nothing."""

GRADIENT_ONLY, PLAIN_SGD, OPTIMIZER = range(3)
"""What follows back-propagation: nothing; `dense_sgd`, layer by layer inside it; `apply_optimizer`."""

PRECISIONS = ("bf16", "tf32")
"""Precisions of matrix products that are lower than float32's, with sums in float32; see `Kernels.precisions`."""
