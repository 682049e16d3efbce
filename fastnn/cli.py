"""The command ``fastnn``: its options, and what its exit code says.

0 done, 1 failed, 2 wrong usage, 3 backend or data not to be had, 130 interrupted. Results go to stdout, progress and
errors to stderr; nobody sees a traceback for what he can mend himself.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from fastnn import commands
from fastnn.bench import command, doctor, which
from fastnn.datasets import DATASETS
from fastnn.errors import BackendError, DatasetUnavailableError, FastnnError
from fastnn.presets import PRESETS

__all__ = ["main"]

DONE, FAILED, USAGE, UNAVAILABLE, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    try:
        options = _parser().parse_args(arguments)
        code = options.run(options)
        sys.stdout.flush()
        return code
    except SystemExit as error:  # argparse: 0 after --help, 2 for wrong usage
        return int(error.code or 0)
    except commands.UsageError as error:
        return _fail(error, USAGE)
    except (BackendError, DatasetUnavailableError) as error:
        return _fail(error, UNAVAILABLE)
    except BrokenPipeError:  # the reader of a pipe has left: nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (FastnnError, OSError) as error:
        return _fail(error, FAILED)
    except MemoryError:
        return _fail("out of memory: a smaller network or data set is needed", FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)


def _fail(error: object, code: int) -> int:
    print(f"fastnn: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastnn",
        description="Feed-forward networks on numpy, numba or CuPy.",
        epilog="exit codes: 0 done, 1 failed, 2 wrong usage, 3 backend or data not to be had, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"fastnn {commands.version()}")
    sub = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_train(sub.add_parser("train", help="train a network and print its test accuracy"))

    evaluate = sub.add_parser("evaluate", help="loss and accuracy of a saved network")
    evaluate.set_defaults(run=commands.evaluate)
    evaluate.add_argument("file", metavar="FILE", help="a network saved by train --save")
    evaluate.add_argument("--loss", help="default: the one that belongs to the network's output")
    _add_dataset(evaluate)
    _add_common(evaluate)

    predict = sub.add_parser("predict", help="what a saved network says of images")
    predict.set_defaults(run=commands.predict)
    predict.add_argument("file", metavar="FILE", help="a network saved by train --save")
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="pictures, .npy arrays or IDX files")
    _add_common(predict)

    backends = sub.add_parser("backends", help="which backends are ready, and which one is chosen")
    backends.set_defaults(run=commands.backends)
    backends.add_argument("--json", action="store_true", help="print JSON")

    command.add_options(sub.add_parser("bench", help="compare the backends on this machine, and write a report"))
    which.add_options(sub.add_parser("which", help="the fastest backend here for a network, and where the time goes"))
    doctor.add_options(sub.add_parser("doctor", help="what is wrong with this installation, and what to do about it"))

    data = sub.add_parser("data", help="the datasets; with a name, get that one and describe it")
    data.set_defaults(run=commands.data)
    data.add_argument("name", nargs="?", metavar="NAME", help=f"{', '.join(DATASETS)}, a folder or an .npz file")
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", help="numpy, numba, cupy or auto; default: FASTNN_BACKEND, or auto")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: FASTNN_NUM_THREADS, or all")
    parser.add_argument("--precision", help="of matrix products: bf16, where the backend has it; default: the dtype's")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    choices = f"{', '.join(DATASETS)}, a folder of IDX files or an .npz file; default: auto"
    parser.add_argument("--dataset", default="auto", help=choices)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=commands.train)
    _add_dataset(parser)
    parser.add_argument("--preset", help=f"a recipe whose settings the other options change: {', '.join(PRESETS)}")
    parser.add_argument("--layers", metavar="N,N,...", help="features, hidden units, classes; default: 784,128,10")
    parser.add_argument("--hidden", help="activation of the hidden layers; default: relu")
    parser.add_argument("--output", help="activation of the output; default: softmax")
    parser.add_argument("--loss", help="default: the one that belongs to the output")
    parser.add_argument("--init", help="he, xavier, lecun, 'uniform(-0.1, 0.1)', 'normal(0.05)'; default: he")
    parser.add_argument("--dtype", help="float32 or float64; default: float32")
    parser.add_argument("--epochs", type=int, metavar="N", help="default: 5")
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: 64")
    parser.add_argument("--optimizer", help="sgd, rmsprop, adam, adamw; default: sgd")
    parser.add_argument("--learning-rate", type=float, metavar="X", help="default: 0.1 for sgd, 0.001 for the others")
    parser.add_argument("--momentum", type=float, metavar="X", help="of sgd; default: 0")
    parser.add_argument("--nesterov", action="store_true", default=None, help="with momentum, look ahead")
    parser.add_argument("--weight-decay", type=float, metavar="X", help="L2, of weights but not of biases; default: 0")
    parser.add_argument("--dropout", type=float, metavar="X", help="share of hidden units; default: 0")
    parser.add_argument("--schedule", help="constant, 'exponential(0.999)', 'step(10, 0.1)', cosine; default: constant")
    parser.add_argument("--seed", type=int, metavar="N", help="of weights, sample order and dropout; default: 0")
    parser.add_argument("--save", metavar="FILE", help="write the trained network to a safetensors file")
    _add_common(parser)


if __name__ == "__main__":
    sys.exit(main())
