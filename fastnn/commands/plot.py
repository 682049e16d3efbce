"""``fastnn plot``."""

import argparse
import os
import sys
import webbrowser
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn import datasets, plots
from fastnn.choices import check_choice
from fastnn.commands.exits import UsageError, usage
from fastnn.commands.options import add_backend, add_dataset, load_dataset
from fastnn.commands.printing import print_json
from fastnn.console import say
from fastnn.errors import DataError
from fastnn.kernels.codes import CLASSIFICATION, MULTILABEL
from fastnn.plots.figures import THEMES, ThemeName, save_figure
from fastnn.plots.sources import Source, read_source
from fastnn.plots.sweep import sweep_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnn.network import Network

__all__ = ["add_options", "run"]

_OF_PREDICTIONS: dict[str, Callable[..., "Figure"]] = {
    "matrix": plots.prediction_matrix,
    "misclassified": plots.misclassified,
    "classes": plots.precision_recall,
}
_FIGURES = ("curves", *_OF_PREDICTIONS, "weights")
_SWEEP, _REPORT, _AUGMENT = "sweep", "report", "augment"
_FORMATS = ("png", "svg")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="a saved network, the JSON of train --json (- for stdin) or sweep --out, or the CSV of CSVLog; several "
        "runs are compared",
    )
    words = (
        f"of {', '.join((*_FIGURES, _SWEEP, _AUGMENT))}, or {_REPORT}, a table as text; default: all that can be drawn"
    )
    parser.add_argument("--what", metavar="NAME,...", help=words)
    parser.add_argument("--augment", help=f"for --what {_AUGMENT}: how images are changed, as `fastnn train` takes it")
    add_dataset(parser)
    parser.add_argument("--out", metavar="PATH", help="a file for one figure, or a folder; default: SOURCE-plots")
    parser.add_argument("--format", help=f"{' or '.join(_FORMATS)}; default: that of --out, or png")
    parser.add_argument("--theme", default="light", help=f"{' or '.join(THEMES)}; default: light")
    parser.add_argument("--show", action="store_true", help="open the files, too")
    add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """``fastnn plot``: draw, and print the names of the files, one a line."""
    with usage():
        wanted = _parse_what(options.what)
        check_choice("theme", options.theme, THEMES)
        check_choice("format", options.format or "png", _FORMATS)
        sources = [read_source(path, options.backend, options.threads) for path in options.sources]
    names = _choose(wanted, sources)
    files = _files([name for name in names if name != _REPORT], options, sources)
    data = _load_data(options.dataset, sources[0]) if {*names} & {*_OF_PREDICTIONS, _REPORT, _AUGMENT} else ()
    for name, path in files.items():
        with usage():
            figure = _draw(name, sources, data, options.theme, options.augment)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_figure(figure, path)
        if not options.json:
            print(path, flush=True)
    report = plots.class_report(sources[0].network, *data) if _REPORT in names else None  # type: ignore[arg-type]
    if options.json:
        written = {name: str(path) for name, path in files.items()}
        print_json("plot", {"files": written, "report": report and report.to_dict()})
    elif report:
        print(report)
    if options.show:
        _show(files.values())
    return 0


# ---- what to draw ----


def _parse_what(text: str | None) -> list[str]:
    """Names in the order given; none where all are to be drawn that can be."""
    names = [] if text is None else text.split(",")
    return list(
        dict.fromkeys(check_choice("figure", name.strip(), (*_FIGURES, _SWEEP, _REPORT, _AUGMENT)) for name in names)
    )


def _choose(wanted: Sequence[str], sources: Sequence[Source]) -> list[str]:
    """What was asked for, or all that is possible; what is not is an error there, and a line on stderr here."""
    names = wanted or ([_SWEEP] if sources[0].sweep else _FIGURES if len(sources) == 1 else ["curves"])
    obstacles = {name: reason for name in names if (reason := _obstacle(name, sources))}
    possible = [name for name in names if name not in obstacles]
    if obstacles and (wanted or not possible):
        raise DataError(next(iter(obstacles.values())))
    for reason in dict.fromkeys(obstacles.values()):
        say(reason)
    return possible


def _obstacle(name: str, sources: Sequence[Source]) -> str:
    """Why that cannot be drawn from these; empty if it can."""
    if len(sources) > 1 and name != "curves":
        raise UsageError(f"several sources are compared by their curves alone: give one for {name}")
    for source in sources:
        if (name == _SWEEP) != bool(source.sweep):
            return f"{source.name} is {'a' if source.sweep else 'no'} sweep: {name} cannot be drawn of it"
        if source.sweep:
            return ""
        if name == "curves":
            if not (source.history and source.history.epochs):
                why = "it was not trained, is a committee, or was saved by an older fastnn"
                return f"{source.name} has no epochs to draw curves of: {why}"
        elif source.network is None:
            return f"{source.name} has no weights, only curves can be drawn of it: for the others, train with --save"
        elif name != "weights" and not _has_classes(source.network):
            return f"{source.name} is no classification: only curves and weights can be drawn of it"
    return ""


def _has_classes(network: "Network") -> bool:
    return network.task == CLASSIFICATION or (network.task == MULTILABEL and network.sizes[-1] == 1)


def _load_data(name: str, source: Source) -> tuple[Any, Any]:
    """The test part of a data set, once it is known that it fits."""
    data: datasets.Dataset = load_dataset(name)
    try:
        assert source.network is not None
        plots.predictions(source.network, data.x_test, data.y_test)
    except DataError as error:
        raise DataError(f"{data.name} does not fit {source.name}: {error}; choose another with --dataset") from error
    return data.x_test, data.y_test


def _draw(
    name: str, sources: Sequence[Source], data: tuple[Any, ...], theme: ThemeName, augment: str | None
) -> "Figure":
    """A figure that `_obstacle` has nothing against."""
    source = sources[0]
    if source.sweep:
        return sweep_panels(source.sweep, theme=theme)
    if name == "curves":
        histories = {one.path: one.history for one in sources if one.history}
        names = {one.path: one.name for one in sources}
        if len({*names.values()}) == len(names):  # else the whole paths tell them apart
            histories = {names[path]: history for path, history in histories.items()}
        return plots.curves(histories if len(sources) > 1 else next(iter(histories.values())), theme=theme)
    assert source.network is not None
    if name == _AUGMENT:
        return plots.augmented(augment or "none", data[0], theme=theme)
    if name == "weights":
        return plots.weights(source.network, theme=theme)
    return _OF_PREDICTIONS[name](source.network, *data, theme=theme)


# ---- where to ----


def _files(names: Sequence[str], options: argparse.Namespace, sources: Sequence[Source]) -> dict[str, Path]:
    """A file for each figure."""
    default = f"{sources[0].name}-plots" if len(sources) == 1 else "comparison-plots"
    out = Path(default if options.out is None else options.out)
    if options.out is None or out.is_dir() or not out.suffix:
        return {name: out / f"{name}.{options.format or 'png'}" for name in names}
    suffix = out.suffix[1:].lower()
    if suffix not in _FORMATS or options.format not in (None, suffix):
        formats = [options.format] if options.format else _FORMATS
        raise UsageError(f"--out must be a folder, or a file .{' or .'.join(formats)}, got {options.out!r}")
    if len(names) != 1:
        raise UsageError(f"--out is one file, for {len(names)} figures: name a folder, or one figure with --what")
    return {names[0]: out}


def _show(files: Iterable[Path]) -> None:
    """Open files with the program that the desktop has for them."""
    has_display = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if not has_display:
        say("there is no display to show figures: open the files on another machine")
    elif not all([webbrowser.open(path.resolve().as_uri()) for path in files]):
        say("no program was found that shows the files: open them by hand")
