"""scikit-learn's multi-layer perceptrons as networks."""

from typing import Any

import numpy as np

from fastnn.errors import DataError
from fastnn.interchange.layers import build_network
from fastnn.kernels.codes import MULTILABEL
from fastnn.network import Network
from fastnn.optional import require

__all__ = ["from_sklearn"]

_NAMES = {name: name for name in ("identity", "tanh", "relu", "softmax", "exp")} | {"logistic": "sigmoid"}


def from_sklearn(estimator: Any, **options: Any) -> Network:
    """The network of a fitted ``MLPClassifier`` or ``MLPRegressor``: says what ``predict_proba`` or ``predict`` says.

    Of two classes there is one output, the probability of the second. Labels are positions in ``estimator.classes_``.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
    **options
        Other arguments of `Network`: backend, threads, ... `scale` is 1 by default, for uint8 samples too, as for
        scikit-learn; `dtype` is that of the estimator's weights.

    Raises
    ------
    DataError
        If it is no such estimator, is not fitted, or has an activation that fastnn has not.

    Examples
    --------
    >>> import numpy as np, warnings
    >>> from sklearn.neural_network import MLPClassifier
    >>> from fastnn.interchange import from_sklearn
    >>> x, y = np.random.default_rng(0).random((90, 4)), np.arange(90) % 3
    >>> with warnings.catch_warnings(action="ignore"):  # that one epoch is not enough
    ...     estimator = MLPClassifier([8], max_iter=1, random_state=0).fit(x, y)
    >>> net = from_sklearn(estimator, backend="numpy")
    >>> bool(np.allclose(net.predict_proba(x), estimator.predict_proba(x)))
    True
    """
    theirs = require("sklearn.neural_network", "sklearn")
    if not isinstance(estimator, theirs.MLPClassifier | theirs.MLPRegressor):
        remark = "; its network_ is a Network already" if hasattr(estimator, "network_") else ""
        raise DataError(
            f"expected an MLPClassifier or MLPRegressor of scikit-learn, got {type(estimator).__name__}{remark}"
        )
    if not hasattr(estimator, "coefs_"):
        raise DataError(f"this {type(estimator).__name__} is not fitted: call fit first")
    for name in (estimator.activation, estimator.out_activation_):
        if name not in _NAMES:
            raise DataError(f"fastnn has no activation like scikit-learn's {name!r}; there are {', '.join(_NAMES)}")
    layers = [(np.asarray(W), np.asarray(b)) for W, b in zip(estimator.coefs_, estimator.intercepts_, strict=True)]
    hidden, output = _NAMES[estimator.activation], _NAMES[estimator.out_activation_]
    network = build_network(layers, hidden, output, **{"scale": 1.0} | options)
    if output == "sigmoid":  # one label, or several at once
        network.decided_task = MULTILABEL
    return network
