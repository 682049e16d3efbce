"""What a sweep has found: a row for every setting, ranked by validation data, with an honest word on the noise."""

import csv
import json
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastnn.choices import check_choice
from fastnn.files import atomic_path, reading
from fastnn.history import History
from fastnn.network import Network
from fastnn.sweeps.hyperparameters import HYPERPARAMETERS

__all__ = ["Row", "Sweep", "Trial", "check_suffix", "short"]

_FORMAT = "fastnn sweep 1"
_KIND = "sweep saved as JSON: sweep again, with a .json file"
_SUFFIXES = (".json", ".csv")


@dataclass
class Trial:
    """One training run.

    Attributes
    ----------
    seed : int
    loss, accuracy : float
        Over the validation data after the last epoch; NaN if the run diverged. Accuracy is NaN for regression.
    seconds : float
        Of training, while others trained beside it; without compilation and validation.
    diverged : bool
    history : History
    network : Network or None
        As trained. Kept for the best setting alone, and not in files.
    """

    seed: int
    loss: float
    accuracy: float
    seconds: float
    diverged: bool
    history: History
    network: Network | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, network: Network) -> "Trial":
        """The trial that has just trained `network`."""
        history = network.history
        assert history is not None
        loss, accuracy = (math.nan, math.nan) if history.diverged else (history.val_loss[-1], history.val_accuracy[-1])
        return cls(network.seed, loss, accuracy, sum(history.seconds), history.diverged, history, network)


@dataclass
class Row:
    """A setting, and the trials it was given: one a seed."""

    settings: dict[str, Any]
    trials: list[Trial] = field(default_factory=list)

    @property
    def diverged(self) -> bool:
        """Whether a trial did; the row then has no mean."""
        return any(trial.diverged for trial in self.trials)

    def mean(self, quantity: str) -> float:
        """Of "accuracy", "loss" or "seconds" over the trials; NaN where there are none, or one diverged."""
        return statistics.fmean([getattr(trial, quantity) for trial in self.trials] or [math.nan])

    def spread(self, quantity: str) -> float:
        """Standard deviation over the trials; NaN for fewer than two."""
        values = [getattr(trial, quantity) for trial in self.trials]
        return statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan


@dataclass
class Sweep:
    """Result of `fastnn.sweeps.sweep`.

    Attributes
    ----------
    rows : list of Row
        In the order of the space; after an interrupt without those that had not begun.
    fixed : dict
        What was the same in all of them.
    training_samples, validation_samples : int
    backend : str
    way : str
        How the trials were run: side by side, in processes, one after the other.
    repeats : int
        Trials that every setting was meant to have.
    seconds : float
        By the clock, for all.
    interrupted : bool
        The user stopped it.

    Notes
    -----
    The best of many is best by luck, too: its validation accuracy is a little kind. `standard_error` says how far
    luck goes, `rivals` whom it leaves in the race. What the choice is worth, only data say that it was not made by.
    """

    rows: list[Row]
    fixed: dict[str, Any]
    training_samples: int
    validation_samples: int
    backend: str
    way: str
    repeats: int = 1
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def metric(self) -> str:
        """By which settings are ranked: "accuracy", or "loss" for regression."""
        values = [trial.accuracy for row in self.rows for trial in row.trials if not trial.diverged]
        return "loss" if values and all(map(math.isnan, values)) else "accuracy"

    @property
    def names(self) -> list[str]:
        """The hyperparameters that were swept."""
        return [name for name in HYPERPARAMETERS if any(name in row.settings for row in self.rows)]

    def ranked(self) -> list[Row]:
        """The rows, best first; then those an interrupt has left with fewer trials; then those that diverged."""
        sign = -1 if self.metric == "accuracy" else 1

        def key(row: Row) -> tuple[float, ...]:
            if row.diverged:
                return (2,)
            return len(row.trials) < self.repeats, sign * row.mean(self.metric), row.mean("loss")

        return sorted((row for row in self.rows if row.trials), key=key)

    @property
    def best(self) -> Row | None:
        """The first of `ranked`; None if every setting diverged."""
        return next((row for row in self.ranked() if not row.diverged), None)

    @property
    def network(self) -> Network | None:
        """The best setting's, of the seed that validated best; None after reading from a file."""
        best = self.best
        if best is None:
            return None
        trials = sorted(best.trials, key=lambda trial: float(getattr(trial, self.metric)))
        return trials[-1 if self.metric == "accuracy" else 0].network

    @property
    def standard_error(self) -> float:
        """Of the best mean: what other seeds and other validation samples would change in it.

        Accuracy over n samples has the variance ``p (1 - p) / n`` of a binomial share, to which comes that of the mean
        over the seeds. A loss has the latter alone, and with one seed none: NaN.
        """
        best = self.best
        if best is None:
            return math.nan
        spread, seeds = best.spread(self.metric), len(best.trials)
        if self.metric == "loss":
            return spread / math.sqrt(seeds)
        p, variance = best.mean("accuracy"), 0.0 if math.isnan(spread) else spread**2 / seeds
        return math.sqrt(p * (1 - p) / self.validation_samples + variance)

    def rivals(self) -> list[Row]:
        """Other rows within one standard error of the best.

        References
        ----------
        Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3: the 1 SE rule.
        """
        best, reach = self.best, self.standard_error
        if best is None or math.isnan(reach):
            return []
        near = [row for row in self.ranked() if abs(row.mean(self.metric) - best.mean(self.metric)) <= reach]
        return [row for row in near if row is not best]

    def add(self, row: Row, trial: Trial) -> None:
        """Enter a trial; of settings that are out of the race the networks are forgotten."""
        row.trials.append(trial)
        best = self.best
        for other in self.rows:
            if other is not best and len(other.trials) == self.repeats:
                for one in other.trials:
                    one.network = None

    # ---- for people ----

    def table(self) -> str:
        """The settings, best first, and what can be said of the best."""
        lines = [["", *self.names, "accuracy %", "loss", "seconds", ""]]
        lines += [self._line(rank, row) for rank, row in enumerate(self.ranked(), start=1)]
        if self.metric == "loss":
            lines = [line[:-4] + line[-3:] for line in lines]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(map(str.rjust, line, widths)).rstrip() for line in lines]
        return "\n".join([*table, "", *self._remarks()])

    def _line(self, rank: int, row: Row) -> list[str]:
        cells = [short(row.settings[name]) if name in row.settings else "-" for name in self.names]
        if row.diverged:
            count = sum(trial.diverged for trial in row.trials)
            note = "diverged" if self.repeats == 1 else f"diverged in {count} of {len(row.trials)}"
            return ["", *cells, "", "", "", note]
        note = "" if len(row.trials) == self.repeats else f"{len(row.trials)} of {self.repeats} seeds"
        accuracy = _with_spread(100 * row.mean("accuracy"), 100 * row.spread("accuracy"), 2)
        loss = _with_spread(row.mean("loss"), row.spread("loss"), 4)
        return [str(rank), *cells, accuracy, loss, f"{row.mean('seconds'):.2f}", note]

    def _remarks(self) -> list[str]:
        best, error, rivals = self.best, self.standard_error, len(self.rivals())
        spread = f"; mean ± standard deviation over {self.repeats} seeds" if self.repeats > 1 else ""
        remarks = [f"{self.metric} over {self.validation_samples:,} validation samples{spread}"]
        if best is None:
            return [*remarks, "no setting has come to an end without diverging"] if self.rows else ["no run is done"]
        if math.isnan(error):
            return [*remarks, "how much of the differences is noise, one seed does not tell: repeat with several"]
        value = f"{100 * error:.2f} %" if self.metric == "accuracy" else f"{error:.4f}"
        within = f"within one standard error ({value}) of the best"
        if not rivals:
            return [*remarks, f"no other setting is {within}"]
        are = "1 other setting is" if rivals == 1 else f"{rivals} other settings are"
        return [*remarks, f"{are} {within}: this sweep does not tell them apart"]

    # ---- files ----

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, None where a value is NaN: the rows best first, each with its trials' histories."""
        rows = [
            {
                "settings": row.settings,
                "accuracy": _plain(row.mean("accuracy")),
                "loss": _plain(row.mean("loss")),
                "trials": [_trial_dict(trial) for trial in row.trials],
            }
            for row in self.ranked()
        ]
        own = {name: value for name, value in vars(self).items() if name != "rows"}
        error = _plain(self.standard_error)
        return {"format": _FORMAT, **own, "metric": self.metric, "standard_error": error, "rows": rows}

    def save(self, path: str | Path) -> None:
        """Write a ``.json`` file of all there is, or a ``.csv`` file with a line for every trial, for spreadsheets.

        Raises
        ------
        ValueError
            If the suffix is another.
        OSError
            If the file cannot be written.
        """
        check_suffix(path)
        with atomic_path(Path(os.path.realpath(path))) as temporary:
            if str(path).lower().endswith(".csv"):
                self._write_csv(temporary)
            else:
                temporary.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def _write_csv(self, path: Path) -> None:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*self.names, "seed", "val_accuracy", "val_loss", "seconds", "diverged"])
            for row in self.ranked():
                settings = [row.settings.get(name, "") for name in self.names]
                for trial in row.trials:
                    results = (trial.accuracy, trial.loss, trial.seconds)
                    writer.writerow([*settings, trial.seed, *map(_plain, results), trial.diverged])

    @classmethod
    def load(cls, path: str | Path) -> "Sweep":
        """Read what `save` wrote as JSON; without the networks.

        Raises
        ------
        FileFormatError
            If the file is another, or damaged.
        OSError
            If it cannot be read.
        """
        content = Path(path).read_bytes()
        with reading(path, _KIND):
            return cls.from_dict(json.loads(content), path)

    @classmethod
    def from_dict(cls, values: Any, name: str | Path = "it") -> "Sweep":
        """What `to_dict` made of a sweep; `name` is for what a FileFormatError says if it is something else."""
        with reading(name, _KIND):
            if values["format"] != _FORMAT:
                raise ValueError(f"its format is not {_FORMAT!r}")
            rows = [Row(row["settings"], list(map(_as_trial, row["trials"]))) for row in values["rows"]]
            left_out = ("format", "rows", "metric", "standard_error")
            return cls(rows, **{key: value for key, value in values.items() if key not in left_out})


def check_suffix(path: str | Path, suffixes: Sequence[str] = _SUFFIXES) -> None:
    """Raise a ValueError for a name with another suffix."""
    suffix = Path(path).suffix.lower()
    try:
        check_choice("suffix", suffix, suffixes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _trial_dict(trial: Trial) -> dict[str, Any]:
    values = {name: _plain(getattr(trial, name)) for name in ("seed", "loss", "accuracy", "seconds", "diverged")}
    return values | {"history": trial.history.to_dict()}


def _as_trial(values: dict[str, Any]) -> Trial:
    numbers = {name: math.nan if values[name] is None else values[name] for name in ("loss", "accuracy", "seconds")}
    return Trial(**values | numbers | {"history": History.from_dict(values["history"])})


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _with_spread(mean: float, spread: float, digits: int) -> str:
    return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if math.isfinite(spread) else "")
