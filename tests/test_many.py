"""`train_many`: networks side by side are what they are one by one; interrupts, errors, and one launch for all."""

import functools
import json
import os
import subprocess
import sys
import threading
import time

import cuda_on_cpu
import joblib
import numpy as np
import pytest
from cuda_on_cpu import on_cpu_only

import fastnn
from fastnn.interruption import Interruption
from fastnn.kernels import cuda_joint_launch

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (150, 20)).astype(np.uint8), RNG.integers(0, 4, 150)
SHAPES = [[20, 16, 4], [20, 16, 4], [20, 7, 4], [20, 16, 12, 4], [20, 16, 4]]
EACH = [{"optimizer": f"sgd({rate})"} for rate in (0.1, 0.3, 0.1, 0.2)] + [{"optimizer": "adam(0.01)"}]
OPTIONS = {"epochs": 3, "batch_size": 16, "validation_data": (X[:40], Y[:40])}


def make(backend, shapes=SHAPES, **options):
    options = {"threads": 1} | options
    return [fastnn.Network(sizes, seed=seed, backend=backend, **options) for seed, sizes in enumerate(shapes)]


def assert_same(networks, others):
    for one, other in zip(networks, others, strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy", "plan", "threads"):
            assert getattr(one.history, name) == getattr(other.history, name), name
        for (W, b), (other_W, other_b) in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(W, other_W)
            np.testing.assert_array_equal(b, other_b)


def test_side_by_side_is_one_by_one(backend, monkeypatch):
    """Of several shapes, learning rates and optimizers; on a device some share launches and one cannot.

    The one with two hidden layers would by itself take the graph there, which rounds otherwise.
    """
    alone, together = make(backend), make(backend)
    for network, own in zip(alone, EACH, strict=True):
        with monkeypatch.context() as patch:
            if len(network.sizes) > 3:
                patch.setenv("FASTNN_CUDA_PLAN", "persistent")
            network.fit(X, Y, **OPTIONS, **own)
    histories = fastnn.train_many(together, X, Y, each=EACH, threads=2, **OPTIONS)
    assert [network.history for network in together] == histories
    assert_same(alone, together)


def test_mappings_make_networks(backend):
    configs = [{"sizes": [20, 8, 4], "seed": seed, "backend": backend, "threads": 1} for seed in range(3)]
    (net, *_) = made = [fastnn.Network(**config) for config in configs]
    for network in made:
        network.fit(X, Y, epochs=2)
    losses = [history.loss for history in fastnn.train_many(configs, X, Y, epochs=2)]
    assert losses == [network.history.loss for network in made]
    assert len({tuple(loss) for loss in losses}) == 3
    assert net.history.epochs == 2


def test_cores_are_shared_and_given_back():
    networks = make("numba", threads=4)
    fastnn.train_many(networks, X, Y, epochs=1, threads=4)
    assert [network.threads for network in networks] == [4] * 5
    assert [network.history.threads for network in networks] == [1] * 5
    pair = make("numba", SHAPES[:2], threads=4)
    fastnn.train_many(pair, X, Y, epochs=1, threads=4)
    assert [network.history.threads for network in pair] == [2, 2]


def test_more_networks_than_cores():
    networks = make("numba", [[20, 5, 4]] * 7)
    assert len(fastnn.train_many(networks, X, Y, epochs=2, threads=2)) == 7
    assert all(network.epochs_trained == 2 for network in networks)


@pytest.mark.alone
@pytest.mark.skipif(joblib.cpu_count() < 2, reason="needs two cores")
def test_two_networks_on_two_cores_take_little_longer_than_one():
    """One after the other they would take twice as long. A busy machine gets a few tries."""
    x, y = RNG.integers(0, 256, (20_000, 784)).astype(np.uint8), RNG.integers(0, 10, 20_000)

    def measure(n):
        networks = [fastnn.Network([784, 128, 10], seed=seed, backend="numba", threads=1) for seed in range(n)]
        start = time.perf_counter()
        fastnn.train_many(networks, x, y, epochs=3, threads=2)
        return time.perf_counter() - start

    measure(1)
    ratios = []
    while len(ratios) < 10 and min(ratios, default=9) > 1.3:
        ratios.append(measure(2) / measure(1))
    assert min(ratios) <= 1.3, ratios


def test_none_is_none():
    assert fastnn.train_many([], X, Y) == []


def test_one_that_diverges_leaves_the_others_alone(backend):
    networks, alone = make(backend, SHAPES[:3]), make(backend, SHAPES[:3])
    rates = [{"optimizer": f"sgd({rate})"} for rate in (0.1, 1e30, 0.1)]
    histories = fastnn.train_many(networks, X, Y, each=rates, epochs=3)
    assert [history.diverged for history in histories] == [False, True, False]
    assert [history.epochs for history in histories][::2] == [3, 3]
    assert all(np.isfinite(W).all() for W, _ in networks[1].get_weights())
    alone[2].fit(X, Y, epochs=3, **rates[2])
    assert alone[2].history.loss == histories[2].loss


def test_an_error_in_one_ends_all(backend):
    networks = make(backend, [[20, 4], [21, 4], [20, 4]])
    with pytest.raises(fastnn.DataError, match="21 features"):
        fastnn.train_many(networks, X, Y, epochs=10**6)
    assert all(network.epochs_trained < 10**5 for network in networks)


def test_an_error_in_one_waits_until_others_have_compiled(monkeypatch):
    """What is half compiled when an exception comes from outside is broken, and the memory of the process with it."""
    from fastnn.kernels import numba_kernels

    prepare, failed, done = numba_kernels.prepare, threading.Event(), []

    def prepare_slowly(function, call):
        assert failed.wait(60)
        time.sleep(0.3)  # in which the others are asked to end
        prepare(function, call)
        done.append(call)

    class Samples:
        """What the second network is given to read."""

        def __array__(self, *arguments, **options):
            failed.set()
            raise ZeroDivisionError

    networks = make("numba", [[20, 4], [20, 4]])
    networks[0].fit(X, Y, epochs=1)
    monkeypatch.setattr(numba_kernels, "prepare", prepare_slowly)
    with pytest.raises(ZeroDivisionError):
        fastnn.train_many(networks, X, Y, epochs=10**6, each=[{}, {"validation_data": (Samples(), Y)}])
    assert len(done) == 1
    assert networks[0].history.interrupted
    assert networks[0].history.epochs == 1, "it looks after its first mini-batches"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"each": [{}]}, "each must have arguments for 2 networks, got 1"),
        ({"epochs": -1}, "epochs must be"),
        ({"threads": 0}, "threads must be"),
        ({"each": [{"optimizer": "none"}, {}]}, "optimizer"),
    ],
)
def test_wrong_arguments(change, message):
    networks = [fastnn.Network([20, 4], backend="numpy") for _ in range(2)]
    with pytest.raises(ValueError, match=message):
        fastnn.train_many(networks, X, Y, **{"epochs": 1} | change)


def test_a_network_given_twice_is_an_error():
    network = fastnn.Network([20, 4], backend="numpy")
    with pytest.raises(ValueError, match="given twice"):
        fastnn.train_many([network, network], X, Y)


def test_callbacks_are_each_network_s_own(backend):
    seen, networks = [], make(backend, SHAPES[:2])
    each = [{"callbacks": [lambda net, history: history.epochs == 1]}, {}]
    common = [lambda net, history: seen.append(net)]
    histories = fastnn.train_many(networks, X, Y, epochs=3, each=each, callbacks=common)
    assert [history.epochs for history in histories] == [1, 3]
    assert seen == [networks[1]] * 3


INTERRUPTED = """
import json, os, signal, sys, threading, time
import numpy as np
import fastnn

networks = [fastnn.Network([64, 32, 10], backend=sys.argv[1], seed=seed) for seed in range(3)]
x, y = np.random.default_rng(0).random((100_000, 64), np.float32), np.arange(100_000) % 10
networks[0].fit(x[:64], y[:64], epochs=1)
sent = []

def kill():
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

threading.Timer(1.0, kill).start()
try:
    fastnn.train_many(networks, x, y, epochs=10**6, batch_size=16, threads=2)
except KeyboardInterrupt:
    waited = time.perf_counter() - sent[0]
    interrupted = [n.history is not None and n.history.interrupted for n in networks]
    finite = all(np.isfinite(a).all() for n in networks for pair in n.get_weights() for a in pair)
    print(json.dumps([waited, interrupted, finite]))
    sys.exit(130)
"""


@pytest.mark.parametrize("backend", ["numpy", "numba"], indirect=True)
def test_ctrl_c_ends_all(backend):
    command = [sys.executable, "-c", INTERRUPTED, backend]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    assert run.returncode == 130, run.stderr
    waited, interrupted, finite = json.loads(run.stdout)
    assert waited < 5
    assert interrupted.count(True) == 2, "those that had a core; the third had not begun"
    assert finite
    assert run.stderr == ""


# ---- on a device ----------------------------------------------------------------------------------------------------


@on_cpu_only
def test_networks_share_launches_and_the_data(backend, monkeypatch):
    launched, uploaded = [], []
    start, asarray = cuda_on_cpu.Loaded.start, cuda_on_cpu.asarray
    monkeypatch.setattr(
        cuda_on_cpu.Loaded, "start", lambda s, name, *a: launched.append((name, a[0])) or start(s, name, *a)
    )
    kernels = cuda_on_cpu.load_kernels()
    monkeypatch.setattr(kernels, "asarray", lambda v: uploaded.append(v.shape) or asarray(v))
    monkeypatch.setattr("fastnn.training._CALL_SECONDS", 1e9)

    def train(n):
        launched.clear()
        uploaded.clear()
        fastnn.train_many(make(backend, [[20, 6, 4]] * n), X, Y, epochs=3, batch_size=15)
        assert uploaded.count(X.shape) == 1
        return [blocks for name, blocks in launched if name.startswith("train")]

    alone, together = train(1), train(4)
    assert set(together) == {4}, "four networks, a block each"
    assert len(together) == len(alone), "as many launches as for one"


@on_cpu_only
def test_a_lost_block_is_everybody_s_error(backend, monkeypatch):
    start = cuda_on_cpu.Loaded.start

    def start_less(self, name, blocks, *arguments):
        start(self, name, blocks - (1 if name.startswith("train") else 0), *arguments)

    monkeypatch.setattr(cuda_on_cpu.Loaded, "start", start_less)
    persistent = cuda_on_cpu.find_part(cuda_on_cpu.load_kernels(), "cuda_persistent")
    monkeypatch.setattr(persistent, "choose_blocks", lambda size: (2, 1))
    with pytest.raises(fastnn.BackendError, match="did not reach a barrier"):
        fastnn.train_many(make(backend, [[20, 6, 4]] * 2), X, Y, epochs=1)


def test_an_interrupted_network_is_not_trained_on():
    """What it had submitted is taken back; the others go on without it."""
    launched = []
    joint = cuda_joint_launch.JointLaunch(2, lambda requests: launched.append(list(requests)))
    waiting, seen = threading.Event(), []
    interruptions = {"interrupted": Interruption(), "other": Interruption()}

    def train(request):
        with interruptions[request], joint:
            waiting.set()
            try:
                joint.submit(request)
            except KeyboardInterrupt:
                seen.append(request)

    thread = threading.Thread(target=train, args=["interrupted"])
    thread.start()
    waiting.wait()
    interruptions["interrupted"].ask()
    thread.join()
    train("other")
    assert seen == ["interrupted"]
    assert launched == [["other"]]


def test_networks_have_callbacks_of_their_own():
    nets = [fastnn.Network([12, 8, 3], seed=seed, backend="numpy") for seed in range(3)]
    alone = [fastnn.Network([12, 8, 3], seed=seed, backend="numpy") for seed in range(3)]
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 12), np.float32), rng.integers(0, 3, 60)
    options = {"epochs": 20, "validation_data": (x[:20], (y[:20] + 1) % 3), "optimizer": "adam(0.05)"}
    histories = fastnn.train_many(nets, x, y, callbacks=iter([fastnn.EarlyStopping(patience=2)]), **options)
    for net, history, one in zip(nets, histories, alone, strict=True):
        expected = one.fit(x, y, callbacks=[fastnn.EarlyStopping(patience=2)], **options)
        assert history.loss == expected.loss
        np.testing.assert_array_equal(net.parameters, one.parameters)


def test_a_callback_that_cannot_be_shared_is_refused_before_anything_starts(tmp_path):
    class Stuck(fastnn.Callback):
        def __deepcopy__(self, memo):
            raise TypeError("it holds a socket")

    nets = [fastnn.Network([12, 3], seed=seed, backend="numpy") for seed in range(2)]
    x, y = np.zeros((6, 12), np.float32), np.arange(6) % 3
    for callback, words in (
        (Stuck(), "it holds a socket"),
        (fastnn.CSVLog(tmp_path / "log.csv"), "2 networks would write"),
    ):
        with pytest.raises(ValueError, match=words):
            fastnn.train_many(nets, x, y, callbacks=[callback], epochs=1)
    assert [net.epochs_trained for net in nets] == [0, 0]


class Counting:
    """Ends the training after three epochs: of one network, if it hears of one alone."""

    def __init__(self):
        self.epochs = 0

    def __call__(self, net, history):
        self.epochs += 1
        return self.epochs == 3


def iterator_for_each():
    callbacks = iter([Counting()])
    return {"each": [{"callbacks": callbacks}] * 3}


def one_object_in_three_lists():
    callback = Counting()
    return {"each": [{"callbacks": [callback]} for _ in range(3)]}


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"callbacks": [Counting()]},
        lambda: {"callbacks": [Counting().__call__]},
        lambda: {"callbacks": [functools.partial(Counting.__call__, Counting())]},
        iterator_for_each,
        one_object_in_three_lists,
    ],
    ids=["object", "method", "partial", "iterator", "lists"],
)
def test_whatever_remembers_is_each_network_s_own(make):
    nets = [fastnn.Network([12, 3], seed=seed, backend="numpy") for seed in range(3)]
    x, y = np.zeros((6, 12), np.float32), np.arange(6) % 3
    histories = fastnn.train_many(nets, x, y, epochs=5, **make())
    assert [history.epochs for history in histories] == [3, 3, 3]


def test_a_file_is_the_same_however_its_path_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nets = [fastnn.Network([12, 3], seed=seed, backend="numpy") for seed in range(2)]
    x, y = np.zeros((6, 12), np.float32), np.arange(6) % 3
    each = [{"callbacks": [fastnn.CSVLog(path)]} for path in ("log.csv", tmp_path / "log.csv")]
    with pytest.raises(ValueError, match="2 networks would write"):
        fastnn.train_many(nets, x, y, each=each, epochs=1)
    assert not (tmp_path / "log.csv").exists()


def test_callbacks_that_are_none_are_refused_as_by_fit():
    with pytest.raises(ValueError, match="callbacks must be functions or objects"):
        fastnn.train_many([fastnn.Network([12, 3], backend="numpy")], [[0.0] * 12], [0], callbacks=None)
