"""``fastnn sweep``."""

import argparse
import re
from pathlib import Path
from typing import Any

from fastnn.arguments import check_count, check_seed
from fastnn.backends import resolve_backend
from fastnn.commands import printing
from fastnn.commands.exits import INTERRUPTED, usage
from fastnn.commands.options import (
    HYPERPARAMETERS,
    add_common,
    add_dataset,
    add_hyperparameters,
    load_dataset,
    read_preset,
)
from fastnn.commands.printing import plural
from fastnn.errors import DivergedError
from fastnn.optional import require_matplotlib
from fastnn.plots.figures import find_theme, save_figure
from fastnn.plots.sweep import sweep_panels
from fastnn.storage import check_writable
from fastnn.sweeps import sweep
from fastnn.sweeps.hyperparameters import SHARES, WHOLE, list_settings
from fastnn.sweeps.ranking import Sweep, check_suffix

__all__ = ["add_options", "run"]

_SHAPE = {
    "width": (str, "hidden units; 128-64 are two layers; default: 128"),
    "depth": (int, "hidden layers of that width; default: 1"),
}
_OPTIONS = _SHAPE | HYPERPARAMETERS
_FIGURES = (".png", ".svg", ".pdf")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.description = (
        "Train with every combination of the values given, V,V,..., or with random draws from values and ranges, "
        "LOW..HIGH; rank them by accuracy on a part held out of the training data; test the best."
    )
    add_dataset(parser)
    for name, (_, words) in _SHAPE.items():
        parser.add_argument(_option(name), metavar="V,...", help=words)
    add_hyperparameters(parser, several=True)
    parser.add_argument("--random", type=int, metavar="N", help="draw N settings instead of trying all")
    parser.add_argument("--repeats", type=int, metavar="N", default=1, help="seeds a setting; default: 1")
    parser.add_argument("--seed", type=int, metavar="N", help="the first of them, and that of the draws; default: 0")
    words = "share of the training samples that is held out, to rank by; default: 0.1"
    parser.add_argument("--validation", type=float, metavar="X", default=0.1, help=words)
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time on a CPU; default: as many as threads")
    parser.add_argument("--out", metavar="FILE", help="write all results to FILE.json, or a table to FILE.csv")
    parser.add_argument("--plot", metavar="FILE", help="draw them to FILE.png, .svg or .pdf")
    parser.add_argument("--theme", default="light", help="of the figure, light or dark; default: light")
    parser.add_argument("--save-best", metavar="FILE", help="write the best network to a safetensors file")
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    """``fastnn sweep``."""
    with usage():
        space, fixed = _read_space(options)
        seed = fixed.pop("seed", 0) if options.seed is None else options.seed
        check_count("repeats", options.repeats)
        settings = list_settings(space, random=options.random, seed=check_seed(seed), fixed=fixed)
    _check_targets(options)
    choice = resolve_backend(options.backend)
    dataset = load_dataset(options.dataset)
    if not options.json:
        printing.print_dataset(dataset)
        printing.print_backend(choice)
        print(f"fixed     {_words(fixed) or 'nothing; the rest are defaults'}")
        seeds, runs = plural(options.repeats, "seed"), plural(len(settings) * options.repeats, "run")
        print(f"sweep     {plural(len(settings), 'setting')}, {seeds} each: {runs}", flush=True)
    with usage():
        result = sweep(
            space,
            dataset.x_train,
            dataset.y_train,
            validation_fraction=options.validation,
            random=options.random,
            repeats=options.repeats,
            seed=seed,
            jobs=options.jobs,
            backend=choice.name,
            threads=options.threads,
            verbose=True,
            **fixed,
        )
    if options.out:
        result.save(options.out)
    if options.save_best and result.network:
        result.network.save(options.save_best)
    if options.plot and result.best:
        save_figure(sweep_panels(result, theme=options.theme), Path(options.plot))
    test = None
    if result.best and result.network and not result.interrupted:  # the one look at the test data
        loss = (result.fixed | result.best.settings).get("loss")
        test = result.network.evaluate(dataset.x_test, dataset.y_test, loss=loss)
    if options.json:
        backend = result.network and printing.backend_json(result.network)
        content = {
            "dataset": printing.dataset_json(dataset),
            "backend": backend and backend | {"origin": choice.origin, "reason": choice.reason},
            "sweep": result.to_dict(),
            "best": result.best and result.best.settings,
        }
        printing.print_json("sweep", content | printing.result_json(test) | {"saved": options.save_best})
    else:
        _print_result(result, test, options.save_best)
    if result.best is None and not result.interrupted:
        raise DivergedError("every setting diverged: lower the learning rates")
    return INTERRUPTED if result.interrupted else 0


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _read_space(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Hyperparameters with several values, and those with one; the preset's among these."""
    preset = read_preset(options.preset)
    preset.pop("networks", None)  # settings are compared by single networks
    if "layers" in preset:
        preset["width"] = "-".join(map(str, preset.pop("layers")[1:-1]))
    given = {name: _read_values(name, text) for name in _OPTIONS if (text := getattr(options, name)) is not None}
    space = {name: values for name, values in given.items() if not (isinstance(values, list) and len(values) == 1)}
    if not space:
        raise ValueError("nothing to sweep: give an option several values, as --learning-rate 0.01,0.03,0.1")
    ranges = [_option(name) for name, values in space.items() if not isinstance(values, list)]
    if ranges and options.random is None:
        raise ValueError(f"{' and '.join(ranges)}: a range needs --random N, the number of settings to draw from it")
    single = {name: values[0] for name, values in given.items() if name not in space}
    single |= {name: value for name in ("nesterov", "precision") if (value := getattr(options, name)) is not None}
    return space, {name: value for name, value in (preset | single).items() if name not in space}


def _read_values(name: str, text: str) -> Any:
    """A list of values, or the distribution that a range means."""
    kind, _ = _OPTIONS[name]
    low, dots, high = text.partition("..")
    try:
        if dots and (kind is not str or name in WHOLE):
            return _distribution(name, float(low), float(high))
        parts = [part.strip() for part in re.split(r",(?![^(]*\))", text)]  # not within parentheses
        return [int(part) if name in WHOLE and part.isdecimal() else kind(part) for part in parts]
    except ValueError as error:
        example = "32,128 or 32..512" if name in WHOLE else "0.01,0.1 or 0.001..1"
        raise ValueError(f"{_option(name)} must have values as {example}, got {text!r} ({error})") from None


def _distribution(name: str, low: float, high: float) -> Any:
    from scipy.stats import loguniform, randint, uniform

    if not low < high:
        raise ValueError("a range begins with the smaller number")
    if name in SHARES:
        return uniform(low, high - low)
    if name == "depth":
        return randint(int(low), int(high) + 1)
    if low <= 0:
        raise ValueError("a logarithmic range begins above 0")
    return loguniform(low, high)


def _check_targets(options: argparse.Namespace) -> None:
    """What cannot be written or drawn is known before anything is trained."""
    with usage():
        if options.out:
            check_suffix(options.out)
        if options.plot:
            check_suffix(options.plot, _FIGURES)
            find_theme(options.theme)
            require_matplotlib()
    for path in (options.out, options.plot, options.save_best):
        if path:
            check_writable(path)


def _words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _print_result(result: Sweep, test: printing.Result, saved: str | None) -> None:
    print(f"          {result.way}; {result.seconds:.1f} s in all\n\n{result.table()}")
    if result.interrupted:
        print("interrupted: the settings above are those that were tried; nothing was tested")
    best, network = result.best, result.network
    if best and network:
        print(f"\nbest      {_words(best.settings)}")
        if test:
            print(f"          its network of seed {network.seed}, on test data that had no part in the choice:")
        printing.print_result(test, saved)
