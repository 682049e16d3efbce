"""fastnn on a CUDA device against PyTorch and JAX on the same one: ``python -m fastnn.bench.gpu``.

Each trainer has a process of its own; only one at a time trains, in random order, and all begin with the same weights
and see the same samples in the same order (`fastnn.bench.runner`). The loss of the first epoch has to agree before any
time counts. Images stay on the device as uint8; an epoch's time includes the upload of its order and ends when its loss
is on the host. (fastnn's includes drawing that order too; the others are given it.) Rounds go on as long as there is
time: the whole command keeps to its budget. A trainer that fails or hangs is named and left out.

Where float32 is asked for, nobody multiplies in tf32; who does has it in the name. In bfloat16, PyTorch has autocast
and JAX casts the operands of its products, both with weights in float32, as fastnn has.

"fastnn graph, again" is the control: what it differs from "fastnn graph" by is what the measurement cannot tell.

Then come three sections in this process, each in its part of the budget, for fastnn alone:

* agreement: training runs on the device are compared with the same ones on the CPU;
* many: an epoch of as many networks at once (`fastnn.train_many`) as the device has multiprocessors takes at most
  twice as long as that of one, by the clock around the whole training and by `History.seconds`, and two of them have
  the loss curves of those trained alone;
* accuracy: seconds of training until a network has 98 % on MNIST's test images, which are looked at after each epoch.
  What that takes is not part of `History.seconds`, and so not counted, nor is compilation.

The last two let the backend choose its plan, whatever FASTNN_CUDA_PLAN says; their limits of time are for CUDA devices.
The command returns 1 if one of the three fails, 3 if the backend is not ready and 130 after Ctrl-C, with everything
until then in its JSON.
"""

import argparse
import functools
import math
import os
import re
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fastnn.bench import machine, recipe, runner, verdicts
from fastnn.bench.recipe import RECIPE
from fastnn.bench.trainers import LEARNING_RATE, make_fastnn, make_jax, make_torch
from fastnn.bench.workers import WorkerError

import fastnn
from fastnn.backends import READY, BackendChoice, resolve_backend
from fastnn.cli import exit_code
from fastnn.datasets import Dataset
from fastnn.history import History
from fastnn.schedules import Schedule, as_schedule
from fastnn.threads import resolve_threads

SCHEMA_VERSION = 1
"""Of the JSON: raised when a field changes its meaning or goes."""

FAILS, NOT_READY, INTERRUPTED = 1, 3, 130  # what the command returns


class Case(NamedTuple):
    """What is trained."""

    sizes: tuple[int, ...]
    batch_size: int
    precision: str | None = None
    with_tf32: bool = False  # some are measured in tf32 too

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch_size}, {self.precision or 'float32'}"


CASES = {
    1: Case((784, 128, 10), 64),
    2: Case((784, 512, 512, 512, 10), 64, with_tf32=True),
    3: Case((784, 512, 512, 512, 10), 512, with_tf32=True),
    4: Case((784, 2500, 2000, 1500, 1000, 500, 10), 512, "bf16"),
}
OWN = "fastnn graph"
PLANS = {
    OWN: "graph",
    f"{OWN}, again": "graph",
    "fastnn persistent": "persistent",
    "fastnn eager": "eager",
}
PEERS = {
    "PyTorch eager": make_torch,
    "PyTorch CUDA graph": functools.partial(make_torch, how="graph"),
    "PyTorch compiled": functools.partial(make_torch, how="compiled"),
    "JAX scan": make_jax,
}
TF32 = ", tf32"  # ends the names of
IN_TF32 = (OWN, "PyTorch eager", "PyTorch CUDA graph", "JAX scan")
NAMES = (*PLANS, *PEERS, *(name + TF32 for name in IN_TF32))
REFERENCE = "reference"
TOLERANCES = {None: 1e-3, "tf32": 1e-2, "bf16": 1e-2}  # of the first epoch's loss, relative to the reference's
WIDTH = 24  # of the column of names

BUDGET = 480.0  # seconds
LEAST_ROUNDS, MOST_ROUNDS = 3, 15
LEAST_SECONDS = 0.3  # that each is measured for at a time, if there is as much
STARTING = 0.7  # of a case's time at most, with compilation and the first epoch
PATIENCE = 20.0  # seconds longer than expected, and who is not done hangs

EPOCHS, CURVE_LIMIT, ACCURACY_LIMIT = 5, 1e-3, 0.1  # of the agreement; relative, and in percentage points

TIMED = "cupy"  # the backend whose times have limits
MANY, MANY_LIMIT = Case((784, 30, 10), 64), 2.0  # times as long as one alone
GOAL, GOAL_SECONDS, GOAL_SEEDS = 0.98, 0.050, (0, 1, 2)
PERIODS = 3  # as many times the epochs of the recipe, at most


# ---- who is measured ------------------------------------------------------------------------------------------------


def contender(name: str, precision: str | None, backend: str) -> runner.Contender:
    """One of PLANS or PEERS; peers train on the CPU where `backend` is not cupy."""
    device = "cuda" if backend == "cupy" else "cpu"
    environment = {"JAX_PLATFORMS": device, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if name in PLANS:
        make = functools.partial(make_fastnn, backend=backend, precision=precision)
        environment["FASTNN_CUDA_PLAN"] = PLANS[name]
    else:
        make = functools.partial(PEERS[name], device=device, precision=precision)
    return runner.Contender(make, environment, TOLERANCES[precision])


def contenders(case: Case, backend: str, names: Iterable[str]) -> dict[str, runner.Contender]:
    """Those of `names` that there are in this case."""
    table = {name: contender(name, case.precision, backend) for name in (*PLANS, *PEERS)}
    if case.with_tf32:
        table |= {name + TF32: contender(name, "tf32", backend) for name in IN_TF32}
    return {name: table[name] for name in names if name in table}


def reference_backend() -> str:
    """The CPU's, whose results count as right."""
    return "numba" if fastnn.available_backends()["numba"].state == READY else "numpy"


def own_of(name: str) -> str:
    """The one that a trainer is compared with: fastnn in the same precision."""
    return OWN + TF32 if name.endswith(TF32) else OWN


# ---- measurement ----------------------------------------------------------------------------------------------------


def measure(
    result: dict[str, Any],
    case: Case,
    table: Mapping[str, runner.Contender],
    task: runner.Task,
    generator: np.random.Generator,
    deadline: float,
    end: float,
) -> None:
    """Fill `result`, round by round: what is there counts, whenever it stops.

    The rounds are over at `deadline`, of the clock `time.monotonic`; the least number of them is completed if that
    takes not longer than until `end`.
    """
    reference = runner.Contender(functools.partial(make_fastnn, backend=reference_backend()), {}, 0.0)
    everyone = dict(table) if case.precision else {REFERENCE: reference, **table}
    begin = time.monotonic()
    ready_by = begin + STARTING * (deadline - begin)
    with runner.contest(everyone, task, together=True, deadline=ready_by) as contest:
        result |= {"settings": contest.settings, "skipped": contest.workers.skipped}
        result["reference"], expected = reference_loss(contest)
        result["reference_loss"] = runner.finite(expected)
        result["first_loss"] = {name: runner.finite(loss) for name, loss in contest.losses.items()}
        for name, why in runner.disagreeing(contest.losses, expected, everyone).items():
            contest.workers.leave_out(name, why)
        alone = train(contest, list(contest.workers), dict.fromkeys(contest.workers, 1), PATIENCE, end)
        if not alone:
            return
        least = min(LEAST_SECONDS, (deadline - time.monotonic()) / MOST_ROUNDS / len(alone))
        epochs = result["epochs"] = {name: max(1, round(least / seconds)) for name, seconds in alone.items()}
        seconds = result["seconds"] = {name: [] for name in alone}
        took = sum(epochs[name] * alone[name] for name in alone)
        for number in range(MOST_ROUNDS):
            start = time.monotonic()
            if start + took > (end if number < LEAST_ROUNDS else deadline):
                return
            names = map(str, generator.permutation(sorted(contest.workers)))
            for name, value in train(contest, names, epochs, PATIENCE + took, end).items():
                seconds[name].append(value)
            for name in contest.workers.skipped:
                seconds.pop(name, None)
            took = time.monotonic() - start


def reference_loss(contest: runner.Contest) -> tuple[str, float]:
    """Whose loss, and what it was, that of the first epoch has to be.

    The CPU's where it was asked and has answered; the largest network takes that too long. There it is the median of
    all, which is wrong only if half of them are, in the same way.
    """
    if REFERENCE in contest.workers:
        contest.workers.end(REFERENCE)
        return contest.settings[REFERENCE]["backend"], contest.losses.pop(REFERENCE)
    losses = [loss for loss in contest.losses.values() if math.isfinite(loss)]
    return "median", statistics.median(losses) if losses else math.nan


def train(
    contest: runner.Contest, names: Iterable[str], epochs: Mapping[str, int], patience: float, end: float
) -> dict[str, float]:
    """Seconds of an epoch of each; who fails, or takes more than `patience` seconds, is left out.

    Nothing if it is not over at `end`: then they were not all measured.
    """
    seconds = {}
    for name in names:
        try:
            seconds[name] = contest.run(name, epochs[name], min(end, time.monotonic() + patience))
        except WorkerError as error:
            if time.monotonic() >= end:
                return {}
            contest.workers.leave_out(name, str(error))
    return seconds


# ---- report ---------------------------------------------------------------------------------------------------------


def add_ratios(result: dict[str, Any], generator: np.random.Generator) -> None:
    """How many times as long as fastnn each takes, with its 99 % interval; of those that were measured."""
    rounds = result["rounds"] = min(map(len, result["seconds"].values()), default=0)  # a Ctrl-C may fall between two
    measured = {name: values[:rounds] for name, values in result["seconds"].items() if rounds}
    result["seconds"] = measured
    for name, values in measured.items():
        own = own_of(name)
        if name != own and own in measured:
            ratio, *interval = verdicts.compare(values, measured[own], generator)
            result["ratios"][name] = {"to": own, "median": ratio, "interval": interval}


def show(result: dict[str, Any], case: Case) -> None:
    print(f"\n{case}: {result['steps']} steps an epoch, {result['rounds']} rounds")

    def describe(name: str, values: Sequence[float]) -> str:
        low, median, high = (q * 1e3 for q in verdicts.quartiles(values))
        spread, step = f"[{low:.2f}, {high:.2f}]", median * 1e3 / result["steps"]
        text = f"{median:8.2f} ms an epoch {spread:18s} {step:8.1f} us a step"
        if ratio := result["ratios"].get(name):
            least, most = ratio["interval"]
            text += f"  {ratio['median']:6.2f} x {ratio['to']} [{least:.2f}, {most:.2f}]"
        return text

    runner.print_rows(result["seconds"], result["skipped"], describe, WIDTH)


# ---- training in this process ---------------------------------------------------------------------------------------


def train_here(train: Callable[..., Any], data: Dataset, samples: int, end: float, **options: Any) -> Any:
    """What `train`, a `Network.fit` or `train_many`, returns; WorkerError if that is not before `end`.

    It is in this process, which looks at the clock after each epoch.
    """

    def is_over(*_: object) -> bool:
        return time.monotonic() > end

    if is_over():
        raise WorkerError("no time left")
    callbacks = [*options.pop("callbacks", ()), is_over]
    result = train(data.x_train[:samples], data.y_train[:samples], callbacks=callbacks, verbose=False, **options)
    if is_over():
        raise WorkerError("no time left")
    return result


@contextmanager
def filling(result: dict[str, Any]) -> Iterator[None]:
    """The block fills `result`, the backend choosing its plan; if it fails, this is there, and what is next goes on."""
    plan = os.environ.pop("FASTNN_CUDA_PLAN", None)
    try:
        yield
    except WorkerError as error:
        result["skipped"] = str(error)
        print(f"  left out: {error}")
    except Exception as error:  # of CuPy too, which has its own
        result |= {"error": f"{type(error).__name__}: {error}".strip(), "passed": False}
        print(f"  FAIL: {result['error'].splitlines()[0]}")
        if not isinstance(error, fastnn.FastnnError):
            traceback.print_exc()
    finally:
        if plan is not None:
            os.environ["FASTNN_CUDA_PLAN"] = plan
        sys.stdout.flush()


def largest_difference(losses: Sequence[float], expected: Sequence[float]) -> float:
    """Of two curves, relative to the second; NaN if there is one, unlike Python's max."""
    return float(np.max(np.abs(np.array(losses) - expected) / expected))


# ---- agreement ------------------------------------------------------------------------------------------------------


def fit(backend: str, precision: str | None, data: Dataset, samples: int, end: float) -> dict[str, Any]:
    """The losses and the test accuracy of a training run; WorkerError if there is no such precision, or no time."""
    case = CASES[1]
    try:
        network = fastnn.Network(case.sizes, backend=backend, precision=precision)
    except fastnn.BackendError as error:
        raise WorkerError(str(error).splitlines()[0]) from error
    history = train_here(
        network.fit,
        data,
        samples,
        end,
        epochs=EPOCHS,
        batch_size=case.batch_size,
        optimizer=fastnn.SGD(LEARNING_RATE),
        validation_data=(data.x_test, data.y_test),
    )
    return {
        "backend": backend,
        "precision": precision or "float32",
        "plan": history.plan,
        "loss": history.loss,
        "accuracy": history.val_accuracy[-1],
    }


def check(run: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """Whether a run agrees with the reference: its accuracy, and in float32 its losses too."""
    difference = largest_difference(run["loss"], reference["loss"])
    points = abs(run["accuracy"] - reference["accuracy"]) * 100
    same_curve = run["precision"] != "float32" or difference <= CURVE_LIMIT
    passed = same_curve and points <= ACCURACY_LIMIT + 1e-9  # a tenth of a point is not a binary fraction
    return run | {"loss_difference": difference, "accuracy_difference": points, "passed": passed}


def agree(result: dict[str, Any], backend: str, data: Dataset, samples: int, end: float) -> None:
    """Fill `result` with training runs of one seed, on the backend and on the CPU, until `end`."""
    other = reference_backend()
    limits = {"loss_difference": CURVE_LIMIT, "accuracy_difference": ACCURACY_LIMIT}
    result |= {"epochs": EPOCHS, "samples": samples, "limits": limits, "runs": [], "skipped": {}}
    print(f"\nagreement with {other} after {EPOCHS} epochs of {CASES[1]}")
    try:
        reference = result["reference"] = fit(other, None, data, samples, end)
    except WorkerError as error:
        result["skipped"][other] = str(error)
        print(f"  left out: {error}")
        return
    for precision in (None, "tf32", "bf16"):
        name = f"{backend}, {precision or 'float32'}"
        try:
            run = check(fit(backend, precision, data, samples, end), reference)
        except WorkerError as error:
            result["skipped"][name] = str(error)
            print(f"  {name:{WIDTH}s} left out: {error}", flush=True)
            continue
        except fastnn.FastnnError as error:  # it diverges, or a kernel does not compile
            run = {"backend": backend, "precision": precision or "float32", "error": str(error), "passed": False}
        result["runs"].append(run)
        print(f"  {name:{WIDTH}s} {'PASS' if run['passed'] else 'FAIL'}: {describe_run(run, reference)}", flush=True)


def describe_run(run: dict[str, Any], reference: dict[str, Any]) -> str:
    if "error" in run:
        return run["error"].splitlines()[0]
    limit = f" (limit {CURVE_LIMIT:.0e})" if run["precision"] == "float32" else ""
    return (
        f"losses within {run['loss_difference']:.1e}{limit}; test accuracy {run['accuracy']:.2%}, there "
        f"{reference['accuracy']:.2%} (limit {ACCURACY_LIMIT} points)"
    )


# ---- many networks at once ------------------------------------------------------------------------------------------


def compare_many(result: dict[str, Any], backend: str, data: Dataset, samples: int, end: float) -> None:
    """Fill `result` with the times of one network and of many at once, round by round, until `end`."""
    n = count_networks(backend)
    limits = {"ratio": MANY_LIMIT if backend == TIMED else None, "loss_difference": CURVE_LIMIT}
    result |= {"networks": n, "sizes": MANY.sizes, "batch_size": MANY.batch_size, "epochs": EPOCHS, "samples": samples}
    result |= {"limits": limits, "plans": {}, "rounds": [], "medians": {}, "ratios": {}, "one_by_one": None}
    result |= {"loss_difference": None, "passed": None, "skipped": None}
    print(f"\nan epoch of {n} networks at once against one alone, {MANY}", flush=True)
    with filling(result):
        measure_many(result, backend, data, samples, end)
        judge_many(result)
        print(describe_many(result))


def count_networks(backend: str) -> int:
    """One for each multiprocessor; on a CPU a few, just so that there are more than cores."""
    if backend == "cupy":
        from fastnn.kernels.cuda_device import multiprocessors

        return multiprocessors()
    return min(4, 2 * resolve_threads(None))


def measure_many(result: dict[str, Any], backend: str, data: Dataset, samples: int, end: float) -> None:
    """One and many in turn; WorkerError if the least number of rounds is not there at `end`."""
    n, rounds = result["networks"], result["rounds"]
    try:
        for number in range(-1, MOST_ROUNDS):  # the one before the first is for compilation
            seed = (0, n - 1)[number % 2]  # so that there are two whose losses are compared
            alone = fastnn.Network(MANY.sizes, seed=seed, backend=backend)
            networks = [fastnn.Network(MANY.sizes, seed=seed, backend=backend) for seed in range(n)]
            one, (history,) = time_epoch(alone.fit, data, samples, end)
            many, histories = time_epoch(functools.partial(fastnn.train_many, networks), data, samples, end)
            difference = largest_difference(histories[seed].loss, history.loss)
            result["plans"] = {"one": history.plan, "many": histories[0].plan}
            if number >= 0:
                rounds.append({"seed": seed, "one": one, "many": many, "loss_difference": difference})
    except WorkerError:
        if len(rounds) < LEAST_ROUNDS:
            raise


def time_epoch(
    train: Callable[..., Any], data: Dataset, samples: int, end: float
) -> tuple[dict[str, float], list[History]]:
    """Seconds of an epoch, by the clock around all of them and by the histories, and these.

    By the histories, networks that are trained at once take as long as the slowest of them. Where there are more than
    cores they are not all trained at once, and only the clock knows.
    """
    start = time.perf_counter()
    options = {"epochs": EPOCHS, "batch_size": MANY.batch_size, "optimizer": fastnn.SGD(LEARNING_RATE)}
    histories = train_here(train, data, samples, end, **options)
    seconds = (time.perf_counter() - start) / EPOCHS
    histories = histories if isinstance(histories, list) else [histories]
    if any(history.diverged for history in histories):  # of which `train_many` makes no error
        raise fastnn.DivergedError("one of the networks diverged")
    longest = [max(epoch) for epoch in zip(*(history.seconds for history in histories), strict=True)]
    return {"clock": seconds, "history": statistics.mean(longest)}, histories


def judge_many(result: dict[str, Any]) -> None:
    """The times have to be within their limit by both measures: each leaves out what the other shows."""
    rounds, limits, generator = result["rounds"], result["limits"], np.random.default_rng()
    for measure in ("clock", "history"):
        seconds = {who: [row[who][measure] for row in rounds] for who in ("one", "many")}
        ratio, *interval = verdicts.compare(seconds["many"], seconds["one"], generator)
        result["medians"][measure] = {who: statistics.median(values) for who, values in seconds.items()}
        result["ratios"][measure] = {"median": ratio, "interval": interval}
    result["one_by_one"] = result["networks"] * result["medians"]["clock"]["one"]
    result["loss_difference"] = float(np.max([row["loss_difference"] for row in rounds]))
    in_time = limits["ratio"] is None or all(ratio["median"] <= limits["ratio"] for ratio in result["ratios"].values())
    result["passed"] = in_time and result["loss_difference"] <= CURVE_LIMIT


def describe_many(result: dict[str, Any]) -> str:
    words = []
    for measure, ratio in result["ratios"].items():
        one, many = (result["medians"][measure][who] * 1e3 for who in ("one", "many"))
        least, most = ratio["interval"]
        words.append(f"by the {measure} {many:.2f} ms, {ratio['median']:.2f} x {one:.2f} ms [{least:.2f}, {most:.2f}]")
    limit = f" (limit {result['limits']['ratio']:g} x)" if result["limits"]["ratio"] else ""
    off = result["loss_difference"]
    losses = f"within {off:.1e} (limit {CURVE_LIMIT:.0e}) of" if off else "equal to"
    return (
        f"  {'PASS' if result['passed'] else 'FAIL'}: {'; '.join(words)}{limit}; {len(result['rounds'])} rounds\n"
        f"  one by one {result['one_by_one'] * 1e3:.0f} ms; plans {' and '.join(result['plans'].values())}; "
        f"losses {losses} those of two trained alone"
    )


# ---- time to an accuracy --------------------------------------------------------------------------------------------


def time_accuracy(result: dict[str, Any], backend: str, data: Dataset, samples: int, end: float) -> None:
    """Fill `result` with the seconds of training until the goal, of several seeds, until `end`."""
    judged = backend == TIMED and data.name == "mnist" and samples >= len(data.x_train)  # what the limit is for
    result |= {"recipe": RECIPE, "most_epochs": PERIODS * RECIPE["epochs"], "samples": samples, "goal": GOAL}
    result |= {"limit": GOAL_SECONDS if judged else None, "runs": [], "seconds": None, "passed": None, "skipped": None}
    sizes = "-".join(map(str, RECIPE["layers"]))
    print(f"\ntraining, validation not counted, to {GOAL:.0%} on {data.name}: {sizes}, preset quick", flush=True)
    with filling(result):
        train_to_goal(GOAL_SEEDS[0], backend, data, samples, end)  # for compilation
        for seed in GOAL_SEEDS:
            result["runs"].append(train_to_goal(seed, backend, data, samples, end))
        judge_accuracy(result)
        print(describe_accuracy(result))


def train_to_goal(seed: int, backend: str, data: Dataset, samples: int, end: float) -> dict[str, Any]:
    """Train by the recipe until the first epoch with the goal; if its epochs do not do, it begins again and goes on."""
    network = recipe.make_network(seed, backend)
    history = train_here(
        network.fit,
        data,
        samples,
        end,
        epochs=PERIODS * RECIPE["epochs"],
        batch_size=RECIPE["batch_size"],
        loss=RECIPE["loss"],
        optimizer=recipe.make_optimizer(),
        schedule=functools.partial(repeat, as_schedule(RECIPE["schedule"]), RECIPE["epochs"]),
        validation_data=(data.x_test, data.y_test),
        callbacks=[lambda _, history: has_goal(history)],
    )
    return {
        "seed": seed,
        "plan": history.plan,
        "epochs": history.epochs,
        "seconds": sum(history.seconds) if has_goal(history) else None,
        "epoch_seconds": history.seconds,
        "accuracy": history.val_accuracy,
    }


def has_goal(history: History) -> bool:
    return history.val_accuracy[-1] >= GOAL - 1e-9  # which is not a binary fraction


def repeat(schedule: Schedule, epochs: int, steps: np.ndarray, steps_per_epoch: int, total_steps: int) -> np.ndarray:
    """A schedule of `epochs` epochs, over and over."""
    period = epochs * steps_per_epoch
    return schedule(steps % period, steps_per_epoch, period)


def judge_accuracy(result: dict[str, Any]) -> None:
    """All seeds have to reach the goal, and the median of their times has to be within the limit."""
    seconds = [run["seconds"] for run in result["runs"]]
    if None not in seconds:
        result["seconds"] = statistics.median(seconds)
    if result["limit"] is not None:
        result["passed"] = result["seconds"] is not None and result["seconds"] <= result["limit"]


def describe_accuracy(result: dict[str, Any]) -> str:
    runs, limit = result["runs"], result["limit"]
    words = {True: "PASS: ", False: "FAIL: ", None: ""}[result["passed"]]
    if result["seconds"] is None:
        best = ", ".join(f"{max(run['accuracy']):.2%} of seed {run['seed']}" for run in runs if run["seconds"] is None)
        return f"  {words}not reached in {result['most_epochs']} epochs; best {best}"
    each = ", ".join(f"{run['seconds'] * 1e3:.1f} ({run['epochs']} epochs)" for run in runs)
    within = f" (limit {limit * 1e3:.0f} ms)" if limit is not None else ""
    return f"  {words}{result['seconds'] * 1e3:.1f} ms{within}, median of {each}; plan {runs[0]['plan']}"


# ---- what the figures depend on -------------------------------------------------------------------------------------


def environment(choice: BackendChoice, threads: int) -> dict[str, Any]:
    """`runner.environment`, and the device, the commit, the date and what is known of tf32."""
    words = choice.reason.split(", ")
    device = {"description": choice.reason, "name": words[0], "versions": choice.kernels.versions()}
    if choice.name == "cupy":
        from fastnn.kernels.cuda_device import capability, multiprocessors

        device |= {
            "compute_capability": ".".join(map(str, capability())),
            "multiprocessors": multiprocessors(),
            "memory": words[-1],
        }
    return runner.environment(threads) | {
        "backend": choice.name,
        "device": device,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "tf32": {
            "float32": "nobody: fastnn by default, PyTorch and JAX with matmul_precision highest",
            "names ending in tf32": "fastnn precision tf32, PyTorch matmul_precision high, JAX tensorfloat32",
            "NVIDIA_TF32_OVERRIDE": os.environ.get("NVIDIA_TF32_OVERRIDE"),
        },
        **machine.revision(),
    }


def default_file(device: str) -> Path:
    slug = re.sub("[^a-z0-9]+", "-", device.lower()).strip("-")
    return Path("bench", "results", f"gpu-{slug}-{datetime.now(UTC):%Y%m%d-%H%M}.json")


# ---- the command ----------------------------------------------------------------------------------------------------


class Section(NamedTuple):
    """What comes after the cases."""

    fill: Callable[[dict[str, Any], str, Dataset, int, float], None]  # fills a result, until the end of its time
    kept: float  # of the budget
    what: str


SECTIONS = {
    "agreement": Section(agree, 0.1, "training runs compared with the CPU's"),
    "many": Section(compare_many, 0.05, "the time of many networks at once against that of one"),
    "accuracy": Section(time_accuracy, 0.05, "the time of training to an accuracy"),
}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fastnn.bench.gpu", description=__doc__.splitlines()[0])
    listed = "; ".join(f"{number}: {case}" for number, case in CASES.items())
    parser.add_argument("--cases", metavar="N,...", help=f"default: all. {listed}")
    parser.add_argument("--only", metavar="NAME;...", help=f"of {'; '.join(NAMES)}")
    parser.add_argument("--budget", type=float, default=BUDGET, metavar="SECONDS", help="of all (default: 480)")
    parser.add_argument("--samples", type=int, default=60_000, metavar="N", help="of an epoch (default: 60000)")
    parser.add_argument("--dataset", default="auto")
    parser.add_argument("--json", metavar="FILE", help="default: a new one in bench/results")
    for name, section in SECTIONS.items():
        parser.add_argument(f"--no-{name}", dest=name, action="store_false", help=f"without {section.what}")
    parser.add_argument("--backend", default="cupy", metavar="NAME", help="default: cupy; peers on the CPU for others")
    options = parser.parse_args(arguments)
    try:
        options.cases = [int(n) for n in options.cases.split(",")] if options.cases else list(CASES)
    except ValueError:
        parser.error(f"--cases must be numbers separated by commas, got {options.cases!r}")
    options.only = [name.strip() for name in options.only.split(";")] if options.only else list(NAMES)
    for number in options.cases:
        if number not in CASES:
            parser.error(f"no case {number}: there are {', '.join(map(str, CASES))}")
        if options.samples < CASES[number].batch_size:
            parser.error(f"--samples must be at least {CASES[number].batch_size}, the batch size of case {number}")
    for name in options.only:
        if name not in NAMES:
            parser.error(f"no trainer {name}: there are {', '.join(NAMES)}")
    return options


def run_case(
    number: int,
    options: argparse.Namespace,
    data: Dataset,
    results: list[dict[str, Any]],
    deadline: float,
    end: float,
) -> None:
    """Measure and show a case; its result is there however this ends."""
    case, generator = CASES[number], np.random.default_rng()
    table = contenders(case, options.backend, options.only)
    if not table:
        return
    task = runner.make_task(case.sizes, case.batch_size, options.samples, resolve_threads(None), data)
    result: dict[str, Any] = {
        "case": number,
        "sizes": case.sizes,
        "batch_size": case.batch_size,
        "precision": case.precision or "float32",
        "samples": len(task.x),
        "steps": len(task.x) // case.batch_size,
        "flops": task.flops(),
        "reference": None,
        "reference_loss": None,
        **{name: {} for name in ("first_loss", "settings", "epochs", "seconds", "ratios", "skipped")},
    }
    results.append(result)
    try:
        if time.monotonic() < deadline:
            measure(result, case, table, task, generator, deadline, end)
        else:
            result["skipped"] = dict.fromkeys(table, "no time left")
    finally:
        add_ratios(result, generator)
        show(result, case)


def run_all(content: dict[str, Any], options: argparse.Namespace, file: Path, data: Dataset, end: float) -> None:
    """Each case in its share of the time that is left, then the sections; after each of them the file is complete."""
    kept = {name: section.kept for name, section in SECTIONS.items() if getattr(options, name)}
    left = sum(kept.values())
    reserve = left * options.budget
    for done, number in enumerate(options.cases):
        now = time.monotonic()
        deadline = now + (end - reserve - now) / (len(options.cases) - done)
        run_case(number, options, data, content["results"], deadline, end)
        runner.write_json(file, content)
    for name, part in kept.items():
        now = time.monotonic()
        until = now + (end - now) * part / left
        left -= part
        content[name] = {}
        SECTIONS[name].fill(content[name], options.backend, data, options.samples, until)
        runner.write_json(file, content)


def has_failed(content: Mapping[str, Any]) -> bool:
    """Whether a section did; None is not judged."""
    runs = [run for name in SECTIONS if (result := content[name]) for run in [*result.get("runs", []), result]]
    return any(run.get("passed") is False for run in runs)


def main(arguments: Sequence[str] | None = None) -> int:
    begin = time.monotonic()
    options = parse(arguments)
    try:
        choice = resolve_backend(options.backend)
    except fastnn.BackendError as error:
        print(error, file=sys.stderr)
        return NOT_READY
    options.backend, data = choice.name, fastnn.datasets.load(options.dataset)
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "environment": environment(choice, resolve_threads(None)),
        "dataset": data.name,
        "budget": options.budget,
        "interrupted": False,
        "results": [],
        **dict.fromkeys(SECTIONS),
    }
    file = Path(options.json) if options.json else default_file(content["environment"]["device"]["name"])
    runner.write_json(file, content)  # what cannot be written should fail now
    print(f"{choice.reason}; {data.name}; within {options.budget:.0f} s; medians [quartiles], ratios [99 % intervals]")
    sys.stdout.flush()
    try:
        run_all(content, options, file, data, begin + options.budget)
    except KeyboardInterrupt:
        content["interrupted"] = True
    content["seconds"] = time.monotonic() - begin
    runner.write_json(file, content)
    print(f"\n{content['seconds']:.0f} s; all samples in {file}")
    if content["interrupted"]:
        return INTERRUPTED
    return FAILS if has_failed(content) else 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
