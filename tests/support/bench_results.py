"""Results of `fastnn bench` as they could come from a machine, made up from a seed: for tests of the report."""

import itertools
from typing import Any

import numpy as np

SPEED = {  # times as fast as numpy, about
    "numpy": 1.0,
    "numba": 1.9,
    "numba, again": 1.9,
    "numba, bf16": 2.6,
    "plain numpy loop": 0.7,
    "JAX scan": 1.3,
    "PyTorch eager": 0.45,
}
CASES = (((784, 30, 10), 64), ((784, 128, 10), 64), ((784, 128, 10), 256), ((784, 512, 512, 10), 64))
SIZES, SEEDS, EPOCHS = [784, 128, 10], 3, 5
QUANTITIES = {"outputs": 1e-5, "loss": 1e-5, "gradients": 1e-4, "weights after steps": 1e-4}


def make_results(**changes: Any) -> dict[str, Any]:
    """Complete results; keywords replace whole sections."""
    generator = np.random.default_rng(7)
    results = {
        **_header(),
        "environment": _environment(),
        "contenders": {name: _contender(name) for name in SPEED},
        "skipped": {"cupy": "not installed: No module named 'cupy'", "scikit-learn": "not part of this level"},
        "gate": _gate(generator),
        "throughput": [_case(generator, sizes, batch_size) for sizes, batch_size in CASES],
        "roofline": _roofline(generator),
        "accuracy": _accuracy(generator),
        "curves": _curves(generator),
        "crossover": _crossover(generator),
        "startup": [_startup(name) for name in SPEED],
    }
    return results | changes


def only(results: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The results without any contender but these."""

    def keep(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: keep(item) for key, item in value.items() if key not in SPEED or key in names}
        if isinstance(value, list):
            return [
                keep(item) for item in value if not isinstance(item, dict) or item.get("contender", names[0]) in names
            ]
        return value

    kept = keep(results)
    if sum(entry["kind"] == "backend" for entry in kept["contenders"].values()) < 2:
        kept["crossover"] = None
    if "numba, again" not in names:
        kept["control"] = None
        for row in kept["throughput"]:
            row["control"] = None
    return kept


def _header() -> dict[str, Any]:
    missing = {
        "state": "not installed",
        "reason": "No module named 'cupy'",
        "remedy": "pip install 'fastnn-mlp[cuda13]'",
    }
    ready = {"state": "ready", "reason": "2 threads, 512-bit vectors", "remedy": "", "versions": {"numba": "0.65.0"}}
    return {
        "schema_version": 1,
        "kind": "fastnn bench",
        "level": "standard",
        "seconds": 291.4,
        "budget": 300.0,
        "interrupted": False,
        "command": "fastnn bench standard",
        "dataset": {
            "name": "mnist",
            "source": "/data/mnist",
            "note": "",
            "training_samples": 60000,
            "test_samples": 10000,
        },
        "backends": {"cupy": missing, "numba": ready, "numpy": {**ready, "versions": {"numpy": "2.4.6"}}},
        "reference": "numpy",
        "control": ["numba", "numba, again"],
    }


def _environment() -> dict[str, Any]:
    return {
        "platform": "Linux x86_64",
        "python": "3.13.5",
        "cpu": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
        "cores": {"logical": 2, "usable": 2, "quota": None},
        "threads": 2,
        "versions": {"numpy": "2.4.6", "numba": "0.65.0", "jax": "0.9.2", "torch": None},
        "commit": "6f1d0c2a9be34517c08e6d4f5a7b81920c3d4e5f",
        "dirty": False,
        "date": "2026-11-22T23:10:04+00:00",
        "blas": [{"internal_api": "openblas", "version": "0.3.31", "num_threads": 2, "architecture": "SkylakeX"}],
        "memory": 8 * 2**30,
        "load_average": [0.31, 0.4, 0.28],
    }


def _contender(name: str) -> dict[str, Any]:
    if name == "numba, again":
        return {"kind": "control"}
    if name.startswith("num"):
        return {"kind": "backend", "backend": name[:5], "precision": "bf16" if "bf16" in name else None}
    return {"kind": "yardstick" if "plain" in name else "peer"}


def _gate(generator: np.random.Generator) -> list[dict[str, Any]]:
    checks = []
    for name in SPEED:
        for sizes in ([784, 30, 10], SIZES):
            for quantity, tolerance in QUANTITIES.items():
                scale = 2e3 if "bf16" in name else 1
                error = float(10 ** generator.uniform(-2.2, -0.8)) * tolerance * scale
                check = {"contender": name, "sizes": sizes, "quantity": quantity, "tolerance": tolerance * scale}
                checks.append({**check, "error": error, "passed": True})
        for kernel in ("dense 64 x 784 x 128", "sgd 100480"):
            check = {"contender": name, "sizes": SIZES, "quantity": kernel, "tolerance": 1e-5}
            checks.append({**check, "error": 2.1e-7, "passed": True})
    return checks


def _interval(values: np.ndarray) -> dict[str, float]:
    half = 2.2 * values.std() / len(values) ** 0.5
    middle = float(np.median(values))
    return {"ratio": middle, "low": middle - half, "high": middle + half}


def _verdict(comparison: dict[str, float]) -> dict[str, Any]:
    faster, slower = comparison["low"] > 1, comparison["high"] < 1
    return {**comparison, "verdict": "faster" if faster else "slower" if slower else "no difference"}


def _case(generator: np.random.Generator, sizes: tuple[int, ...], batch_size: int) -> dict[str, Any]:
    products = sum(a * b for a, b in itertools.pairwise(sizes))
    flops, peak = 6 * 60000 * products, 9e10
    work = flops / 3e10 + 60000 / batch_size * 6e-5
    seconds = {name: work / speed * generator.lognormal(0, 0.03, (2, 9)) for name, speed in SPEED.items()}
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    apart = float(generator.uniform(0.99, 1.015))
    ratios = {name: (seconds["numpy"] / values).ravel() for name, values in seconds.items()}
    return {
        "sizes": list(sizes),
        "batch_size": batch_size,
        "samples": 60000,
        "steps": 60000 // batch_size,
        "flops": flops,
        "launches": [
            {
                "seconds": {name: values[launch].tolist() for name, values in seconds.items()},
                "peaks": {name: (peak * generator.normal(1, 0.02, 9)).tolist() for name in SPEED},
            }
            for launch in range(2)
        ],
        "memory": {name: {"host_peak": 4.1e8 + 1e6 * len(name), "device_peak": None} for name in SPEED},
        "summary": {
            name: {
                "seconds": np.quantile(values, [0.25, 0.5, 0.75]).tolist(),
                "samples_per_second": 60000 / medians[name],
                "flops_per_second": flops / medians[name],
                "share_of_peak": flops / medians[name] / peak,
                "n": values.size,
            }
            for name, values in seconds.items()
        },
        "comparisons": {name: _verdict(_interval(values)) for name, values in ratios.items() if name != "numpy"},
        "control": _verdict({"ratio": apart, "low": apart - 0.021, "high": apart + 0.02}),
        "fastest": min(medians, key=lambda name: medians[name]),
    }


def _roofline(generator: np.random.Generator) -> dict[str, Any]:
    kernels = []
    for kernel, shape, flops, moved in (
        ("dense", "64 x 784 x 128", 1.28e7, 6.3e5),
        ("gradient to the weights", "784 x 64 x 128", 1.28e7, 1.03e6),
        ("dense", "64 x 128 x 10", 1.6e5, 4.0e4),
        ("gradient to the input", "64 x 10 x 128", 1.6e5, 7.3e4),
        ("softmax, delta and loss", "64 x 10", 8e3, 5.1e3),
        ("gather", "64 x 784", 5e4, 2.5e5),
        ("update", "100480", 2e5, 1.2e6),
    ):
        for name in ("numpy", "numba", "numba, bf16"):
            limit = min(7.5e10, 1.5e10 * flops / moved) * min(1.0, 0.3 * SPEED[name]) * generator.uniform(0.5, 0.9)
            seconds = (flops / limit * generator.lognormal(0, 0.05, 9)).tolist()
            row = {"contender": name, "kernel": kernel, "shape": shape, "flops": flops, "bytes": moved}
            kernels.append({**row, "seconds": seconds, "error": 2e-7, "tolerance": 1e-5})
    return {
        "threads": 2,
        "peaks": (9e10 * generator.normal(1, 0.04, 12)).tolist(),
        "bandwidths": (1.6e10 * generator.normal(1, 0.06, 12)).tolist(),
        "device": None,
        "kernels": kernels,
    }


def _accuracy(generator: np.random.Generator) -> dict[str, Any]:
    recipe = {"layers": SIZES, "epochs": EPOCHS, "batch_size": 64, "optimizer": "SGD(0.1)", "schedule": "Cosine()"}
    runs = []
    for name, speed in SPEED.items():
        for seed in range(SEEDS):
            learned = 0.9815 - 0.03 * np.exp(-0.8 * np.arange(EPOCHS)) + generator.normal(0, 5e-4, EPOCHS)
            run = {
                "contender": name,
                "seed": seed,
                "seconds": (np.cumsum(generator.normal(1, 0.03, EPOCHS)) / speed).tolist(),
                "accuracy": learned.tolist(),
                "loss": (0.3 * np.exp(-0.6 * np.arange(EPOCHS))).tolist(),
                "import_seconds": 0.3,
                "compile_seconds": 0.2,
                "peak_memory": 3.1e8,
            }
            runs.append(run)
    return {"recipe": recipe, "runs": runs, "goals": [0.97, 0.98], "summary": _reached(runs)}


def _reached(runs: list[dict[str, Any]]) -> dict[str, Any]:
    summary = {}
    for name in SPEED:
        mine = [run for run in runs if run["contender"] == name]
        last = np.array([run["accuracy"][-1] for run in mine])
        times: dict[str, Any] = {}
        for goal in (0.97, 0.98):
            each = [
                next((s for s, a in zip(r["seconds"], r["accuracy"], strict=True) if a >= goal), None) for r in mine
            ]
            times[str(goal)] = None if None in each else np.quantile(each, [0.25, 0.5, 0.75]).tolist()
        spread = [float(last.mean()), float(last.std()), float(last.min()), float(last.max())]
        summary[name] = {"accuracy": spread, "seconds_to": times, "n": len(mine)}
    return summary


def _curves(generator: np.random.Generator) -> dict[str, Any]:
    steps = np.arange(1874)
    reference = (0.25 + 2 * np.exp(-steps / 60)) * generator.lognormal(0, 0.25, len(steps))
    losses = {"float64, plain numpy": reference.tolist()}
    divergence = {}
    for name, scale in (("numpy", 1e-7), ("numba", 1.4e-7)):
        drift = scale * np.exp(steps / 400) * generator.normal(0, 1, len(steps))
        losses[name] = (reference * (1 + drift)).tolist()
        step = int(np.abs(drift).argmax())
        divergence[name] = {"largest": float(abs(drift[step])), "step": step}
    run = {"sizes": SIZES, "batch_size": 64, "seed": 0, "optimizer": "SGD(0.1)"}
    check = {"reference": "float64, plain numpy", "divergence": divergence, "tolerance": 1e-3, "passed": True}
    exact = {name: {"largest": 3e-13, "step": 1800} for name in divergence}
    check |= {"divergence_float64": exact, "tolerance_float64": 1e-8}
    return {**run, "losses": losses, **check}


def _crossover(generator: np.random.Generator) -> dict[str, Any]:
    widths, batch_sizes, cells = [16, 64, 256, 1024], [16, 64, 256, 1024], []
    for width in widths:
        for batch_size in batch_sizes:
            work = width * batch_size
            seconds = {"numpy": 4e-5 + work * 3e-8, "numba": 8e-6 + work * 3.3e-8}
            ordered = sorted(seconds, key=lambda name: seconds[name])
            ratio = seconds[ordered[1]] / seconds[ordered[0]]
            cell = {
                "width": width,
                "batch_size": batch_size,
                "fastest": ordered[0] if ratio > 1.04 else None,
                "ahead": _verdict({"ratio": ratio, "low": ratio - 0.05, "high": ratio + 0.05}),
                "second": ordered[1],
                "seconds": {name: (s * generator.lognormal(0, 0.02, 7)).tolist() for name, s in seconds.items()},
            }
            cells.append(cell)
    return {"hidden_layers": 1, "widths": widths, "batch_sizes": batch_sizes, "cells": cells}


def _startup(name: str) -> dict[str, Any]:
    cold, warm = (9.8, 0.21) if name.startswith("numba") else (None, None)
    startup = {"contender": name, "import_seconds": 0.2, "compile_cold_seconds": cold, "compile_warm_seconds": warm}
    return {**startup, "first_batch_seconds": 0.0011}
