"""``fastnn predict``."""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastnn.commands.exits import UsageError, usage
from fastnn.commands.options import add_common
from fastnn.commands.printing import plural, print_json
from fastnn.console import say
from fastnn.errors import DataError, MissingLibraryError
from fastnn.images import Sample, iterate_images
from fastnn.images.explanations import Explanation
from fastnn.images.folders import find_images
from fastnn.images.preparation import INKS
from fastnn.kernels.codes import CLASSIFICATION, MULTILABEL
from fastnn.network import Network, load

__all__ = ["add_options", "run"]

_BATCH = 256  # images that are in memory at a time


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.description = (
        "What a saved network says of images. Pictures of any size and colour are brought into MNIST's form: the ink "
        "is found, scaled and centred. Arrays (.npy) and IDX files are taken as they are, in the network's form."
    )
    parser.add_argument("file", metavar="FILE", help="a network saved by train --save")
    words = "pictures, .npy arrays, IDX files or folders of them; sub-folders named 0, 1, ... say what they show"
    parser.add_argument("images", metavar="IMAGE", nargs="+", help=words)
    parser.add_argument("--ink", default="auto", help=f"on pictures: {', '.join(INKS)}; default: auto")
    words = "only make pictures grey and scale them, for a network that learned something else than digits"
    parser.add_argument("--as-is", action="store_true", help=words)
    words = "write what the network saw as PNG, and an overview: a new folder, or one of an earlier run"
    parser.add_argument("--explain", metavar="FOLDER", help=words)
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    """``fastnn predict``: a line an image with what the network says, and how sure it is."""
    with usage():
        network = load(options.file, options.backend, options.threads, options.precision)
    if options.ink not in INKS or (options.as_is and options.ink != "auto"):
        expected = "auto where --as-is seeks no ink" if options.ink in INKS else f"one of {', '.join(INKS)}"
        raise UsageError(f"--ink must be {expected}, got {options.ink!r}")
    explanation = Explanation(Path(options.explain), network) if options.explain else None
    reader = _Reader(options, network, explanation is not None)
    report = _Report(network, reader, printing=not options.json)
    for batch in reader.batches():
        pixels = np.stack([image.sample.pixels for image in batch])
        predictions, outputs = network.predict(pixels), network.predict_proba(pixels)
        for image, prediction, output in zip(batch, predictions, outputs, strict=True):
            report.add(image, prediction, output)
            if explanation:
                explanation.add(image.sample, prediction, output)
    if explanation:
        say(f"{explanation.finish()} shows what the network saw")
    if options.json:
        print_json("predict", report.to_dict())
    else:
        report.print_accuracy()
    return 1 if reader.failed else 0


class _Image(NamedTuple):
    sample: Sample
    target: int | None


class _Reader:
    """The images that the command line names, in batches; what is wrong with those in folders goes to stderr."""

    def __init__(self, options: argparse.Namespace, network: Network, thumbnails: bool) -> None:
        self._options, self._n_features, self._thumbnails = options, network.sizes[0], thumbnails
        self.failed: list[dict[str, str]] = []
        self.passed_over = 0
        self._files: list[tuple[Path, int | None, bool]] = []  # path, target, and whether a folder brought it
        n_outputs = network.sizes[-1]
        one_label = network.task == MULTILABEL and n_outputs == 1
        n_labels = n_outputs if network.task == CLASSIFICATION else 2 if one_label else 0
        for path in map(Path, options.images):
            if not path.is_dir():
                self._files.append((path, None, False))
                continue
            images, passed_over = find_images(path, n_labels)
            self._files += [(file, target, True) for file, target in images]
            self.passed_over += passed_over
        if self.passed_over:
            say(f"{plural(self.passed_over, 'file')} passed over: no images")
        self.width = max(len(str(path)) for path, _, _ in self._files)

    def batches(self) -> Iterator[list[_Image]]:
        """At most so many images at a time, all of one dtype."""
        for _, alike in itertools.groupby(self._images(), key=lambda image: image.sample.pixels.dtype):
            while batch := list(itertools.islice(alike, _BATCH)):
                yield batch

    def _images(self) -> Iterator[_Image]:
        options = self._options
        for path, target, in_folder in self._files:
            try:
                for sample in iterate_images(
                    path, self._n_features, options.ink, prepare=not options.as_is, thumbnail=self._thumbnails
                ):
                    if sample.digits > 1:
                        words = f"the ink falls into {sample.digits} parts side by side"
                        say(f"{sample.name}: {words}; taken for one digit all the same")
                    yield _Image(sample, target)
            except MissingLibraryError:
                raise
            except (DataError, OSError) as error:
                if not in_folder:
                    raise
                say(error)
                self.failed.append({"image": str(path), "error": str(error)})


class _Report:
    """The predictions: a line each as they come, or all of them as JSON; and how many are right."""

    def __init__(self, network: Network, reader: _Reader, printing: bool) -> None:
        self._network, self._reader, self._printing = network, reader, printing
        one_label = network.task == MULTILABEL and network.sizes[-1] == 1
        self._chooses = network.task == CLASSIFICATION or one_label
        self._is_probability = self._chooses and (network.output == "softmax" or one_label)
        n_labels = max(2, network.sizes[-1])
        self._matrix = np.zeros((n_labels, n_labels), np.int64)
        self._rows: list[dict[str, Any]] = []
        self._has_header = False

    def add(self, image: _Image, prediction: Any, output: np.ndarray) -> None:
        values = np.array([1 - output[0], output[0]]) if self._chooses and len(output) == 1 else output
        if image.target is not None:
            self._matrix[image.target, int(prediction)] += 1
        if self._printing:
            self._print(image, prediction, values)
            return
        confidence = float(values[int(prediction)]) if self._is_probability else None
        known = {"confidence": confidence, "target": image.target, "ink": image.sample.ink}
        row = {"image": image.sample.name, "prediction": prediction.tolist(), "outputs": output.tolist()}
        self._rows.append(row | known | {"parts": image.sample.digits})

    def to_dict(self) -> dict[str, Any]:
        total = int(self._matrix.sum())
        return {
            "predictions": self._rows,
            "accuracy": float(np.trace(self._matrix)) / total if total else None,
            "matrix": self._matrix.tolist() if total else None,
            "passed_over": self._reader.passed_over,
            "failed": self._reader.failed,
        }

    def print_accuracy(self) -> None:
        """Of the images whose folder says what they show: the share of hits, and targets by predictions."""
        total = int(self._matrix.sum())
        if not total:
            return
        right = int(np.trace(self._matrix))
        print(f"\naccuracy  {100 * right / total:.2f} % ({right:,} of {total:,})\n\ntarget  prediction")
        labels = np.flatnonzero(self._matrix.sum(axis=0) + self._matrix.sum(axis=1))
        width = 2 + max(len(str(self._matrix.max())), len(str(labels[-1])))
        print(" " * 6 + "".join(f"{label:{width}}" for label in labels))
        for label in labels:
            print(f"{label:6}" + "".join(f"{self._matrix[label, column] or '.':>{width}}" for column in labels))

    def _print(self, image: _Image, prediction: Any, values: np.ndarray) -> None:
        width = max(self._reader.width, len("file"))
        if not self._has_header:
            self._has_header = True
            sure = ("confidence" if self._is_probability else "output") + "  second choice" if self._chooses else ""
            print(f"{'file':{width}}  prediction  {sure}".rstrip())
        if not self._chooses:
            print(f"{image.sample.name:{width}}  {_in_words(prediction, self._network.task)}")
            return
        first = int(prediction)
        second = int(np.argmax(np.where(np.arange(len(values)) == first, -np.inf, values)))
        shown = [f"{100 * values[i]:.1f} %" if self._is_probability else f"{values[i]:.3f}" for i in (first, second)]
        line = f"{image.sample.name:{width}}  {first:10}  {shown[0]:>10}  {second} ({shown[1]})"
        target = "" if image.target in (None, first) else f"  is {image.target}"
        print(line + target)


def _in_words(prediction: np.ndarray, task: int) -> str:
    """The labels that are on, or the numbers of a regression."""
    if task == MULTILABEL:
        return " ".join(map(str, np.flatnonzero(prediction))) or "none"
    return " ".join(f"{value:.6g}" for value in np.atleast_1d(prediction))
