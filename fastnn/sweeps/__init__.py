"""Sweeps: many settings of the hyperparameters tried on the same data, and ranked by validation data.

Grids and random draws are scikit-learn's, processes are joblib's. There is no successive halving and no search that
learns from what it has tried: Optuna is for that. The command is ``fastnn sweep``.
"""

from fastnn.sweeps.hyperparameters import HYPERPARAMETERS
from fastnn.sweeps.ranking import Row, Sweep, Trial
from fastnn.sweeps.sweeping import sweep

__all__ = ["HYPERPARAMETERS", "Row", "Sweep", "Trial", "sweep"]
