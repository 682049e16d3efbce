"""Multi-layer perceptrons as scikit-learn has them, trained by fastnn: changing the import is enough.

>>> from fastnn.sklearn import MLPClassifier  # in place of sklearn.neural_network

Parameters and attributes have scikit-learn's names, defaults and meaning, and the same `random_state` gives the same
initial weights. What is different:

- The order of samples comes from a generator of fastnn's own.
- The L2 penalty ``alpha / 2 * |W|^2`` is divided by `batch_size` for every mini-batch (times the mean sample weight);
  scikit-learn divides it by the samples, or their weights, of each, which differ in a smaller last one.
- ``loss_`` and ``loss_curve_`` average over all samples of an epoch by their weights, with the penalty taken as linear
  between the epoch's first and last weights.
- Adam adds `epsilon` after undoing the bias of the mean square (Kingma & Ba, algorithm 1); scikit-learn before, where
  it weighs more in the first steps. The velocity of sgd does not contain the learning rate, which matters where
  "invscaling" or "adaptive" change that: the new rate applies to the whole velocity at once.
- With several outputs lbfgs minimizes the sum of their losses, of which ``loss_`` is the mean; scikit-learn gives it
  the mean with the gradient of the sum.
- Sparse samples are made dense, all at once.
- ``coefs_`` and ``intercepts_`` are copies: set them as a whole, ``clf.coefs_ = [...]``.
"""

from fastnn.optional import require

require("sklearn", "sklearn")

from fastnn.sklearn.perceptrons import MLPClassifier, MLPRegressor  # noqa: E402  # says how to get scikit-learn first

__all__ = ["MLPClassifier", "MLPRegressor"]
