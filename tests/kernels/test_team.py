"""Teams of threads: who does what, how they wait, what becomes of them when something fails; and whole runs in them."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import numba
import numpy as np
import pytest

from fastnn import SGD, Adam, AdamW, Network, RMSprop
from fastnn.kernels import numba_kernels, numba_team
from fastnn.kernels.numba_team import barrier, launch, partition

pytestmark = [pytest.mark.parametrize("backend", ["numba"], indirect=True), pytest.mark.usefixtures("full_teams")]


made = []  # the teams of the current test


def members(size):
    """A team, for functions that multiply nothing."""
    team = numba_team.assemble(size, 4, 4, 4, numba_kernels.load(np.dtype(np.float32), 4, None), np.dtype(np.float32))
    assert [(member.rank, member.size) for member in team] == [(rank, size) for rank in range(size)]
    made.append(team)
    return team


@pytest.fixture(autouse=True)
def _nobody_waits_any_more():
    """A test that fails must not leave threads to the next one: all that a member can wait for has happened."""
    yield
    for team in made:
        team[0].arrivals[...] = np.iinfo(np.int64).max
    made.clear()
    wait_for_the_last()


def living():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fastnn-")]


def wait_for_the_last(seconds=10):
    """Threads end a moment after what they ran; these must."""
    end = time.monotonic() + seconds
    while living() and time.monotonic() < end:
        time.sleep(0.001)
    assert living() == []


def within(seconds, function, *arguments):
    """What a function returns or raises, in a thread of its own: if it hangs, the test fails instead of hanging too."""
    outcome = []

    def run():
        try:
            outcome.append((function(*arguments), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, f"did not return within {seconds} s"
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


# ---- shares ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(1, 10))
@pytest.mark.parametrize("grain", [1, 3, 8, 32])
def test_shares_are_everything_once_in_whole_grains(size, grain):
    team = members(size)
    for n in [*range(70), 255, 256, 257, 1000]:
        shares = [partition(n, grain, member) for member in team]
        assert [i for first, last in shares for i in range(first, last)] == list(range(n))
        assert all(first % grain == 0 or first == n for first, _ in shares)
        grains = [-(-(last - first) // grain) for first, last in shares]
        assert max(grains) - min(grains) <= 1


# ---- waiting --------------------------------------------------------------------------------------------------------


@numba.njit(nogil=True)
def count_stale(counters, rounds, stale, team):
    """Each member counts rounds; how many of the others' counts are not what they ought to be, goes to `stale`."""
    for i in range(1, rounds + 1):
        counters[team.rank, 0] = i
        barrier(team)
        for other in range(team.size):
            stale[team.rank, 0] += counters[other, 0] != i
        barrier(team)


@numba.njit(nogil=True)
def count_stale_without_waiting(counters, rounds, stale, team):
    for i in range(1, rounds + 1):
        counters[team.rank, 0] = i
        for other in range(team.size):
            stale[team.rank, 0] += counters[other, 0] != i


def run_rounds(function, size, rounds):
    counters, stale = np.zeros((size, 8), np.int64), np.zeros((size, 8), np.int64)
    within(60, launch, function, [(counters, rounds, stale, member) for member in members(size)])
    assert (counters[:, 0] == rounds).all()
    return stale[:, 0]


@pytest.mark.parametrize(("size", "rounds"), [(1, 100), (2, 20_000), (3, 5_000)])
def test_after_waiting_everything_is_seen(size, rounds):
    assert (run_rounds(count_stale, size, rounds) == 0).all()


def test_without_waiting_it_is_not():
    assert run_rounds(count_stale_without_waiting, 3, 5_000).sum() > 0


def test_more_members_than_cores_wait_without_hanging():
    size = max(8, 3 * (os.cpu_count() or 1))
    start = time.perf_counter()
    assert (run_rounds(count_stale, size, 150) == 0).all()
    assert time.perf_counter() - start < 30


def test_members_do_not_share_cache_lines():
    """But for what they share anyway."""
    team = members(3)
    for member in team:
        assert member.arrivals is team[0].arrivals
        assert member.arrivals.ctypes.data % 64 == 0
        assert member.arrivals.strides == (64, 8)
    for one, other in itertools.combinations(team, 2):
        for name in ("scratch", "exponentials"):
            assert not np.shares_memory(getattr(one, name), getattr(other, name))
            assert getattr(one, name).ctypes.data // 64 != getattr(other, name).ctypes.data // 64


# ---- launching ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3])
def test_members_run_at_the_same_time(size):
    """A barrier of Python's lets nobody through until all are there."""
    barrier, seen = threading.Barrier(size), {}

    def meet(member):
        barrier.wait(30)
        seen[member.rank] = threading.get_ident()

    within(60, launch, meet, [(member,) for member in members(size)])
    assert sorted(seen) == list(range(size))
    assert len(set(seen.values())) == size
    assert living() == []


def test_one_member_needs_no_thread():
    seen = []
    launch(lambda member: seen.append(threading.get_ident()), [(members(1)[0],)])
    assert seen == [threading.get_ident()]


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("error", [ZeroDivisionError("a"), KeyboardInterrupt("b")], ids=repr)
@pytest.mark.parametrize("failing", [{0}, {3}, {1, 4}, {0, 1, 2, 3, 4, 5}], ids=str)
def test_an_error_in_one_member_ends_all(failing, error, after):
    """Nobody waits for a member that failed, or that never began because another failed; the error comes out.

    The team can be used again.
    """
    team, finished = members(6), []

    def fail(member):
        for i in range(10):
            if i == after and member.rank in failing:
                raise error
            barrier(member)

    def succeed(member):
        for _ in range(10):
            barrier(member)
        finished.append(member.rank)

    calls = [(member,) for member in team]
    with pytest.raises(type(error)) as caught:
        within(10, launch, fail, calls)
    assert caught.value is error
    assert living() == []
    within(10, launch, succeed, calls)
    assert sorted(finished) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()], ids=repr)
def test_no_thread_to_be_had(monkeypatch, number, error):
    """The first `number - 1` of three are there when the next one is not: nobody may begin without it."""
    real, started, ran = threading.Thread.start, [], []

    def start(thread):
        if thread.name.startswith("fastnn-"):
            started.append(thread)
            if len(started) == number:
                raise error
        real(thread)

    calls = [(member,) for member in members(4)]
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(type(error)) as caught:
            within(30, launch, lambda member: ran.append(member.rank), calls)
    assert caught.value is error
    wait_for_the_last()
    assert ran == []
    within(30, launch, lambda member: ran.append(member.rank), calls)
    assert sorted(ran) == [0, 1, 2, 3]


# ---- when others want the cores -------------------------------------------------------------------------------------

AFFORDABLE = numba_team._Oversubscription.limit  # before `full_teams` replaces it


@pytest.fixture
def oversubscription(monkeypatch):
    """One of its own for the test, and a clock that the test sets: ``oversubscription.clock[0]``."""
    oversubscription = numba_team._Oversubscription()
    oversubscription.clock = [100.0]
    monkeypatch.setattr(numba_team._Oversubscription, "limit", AFFORDABLE)
    monkeypatch.setattr(numba_team, "_oversubscription", oversubscription)
    monkeypatch.setattr(time, "monotonic", lambda: oversubscription.clock[0])
    return oversubscription


def test_a_team_whose_members_had_their_cores_stays_whole(oversubscription):
    for shares in ([1.0, 1.0, 1.0], [1.0, oversubscription._MIN_CPU_SHARE, 0.9]):
        oversubscription.record(shares, 1.0)
        assert oversubscription.limit(3) == 3


@pytest.mark.parametrize("share", [0.0, 0.3, numba_team._Oversubscription._MIN_CPU_SHARE - 0.01])
@pytest.mark.parametrize("size", [2, 3, 4, 8, 64])
def test_a_team_that_lost_a_core_shrinks_as_long_as_it_has_to(oversubscription, size, share):
    """By one at least each time, down to one; and smaller teams are what they are."""
    while size > 1:
        oversubscription.record([1.0] * (size - 1) + [share], 1.0)
        smaller = oversubscription.limit(size)
        assert 1 <= smaller < size
        assert [oversubscription.limit(n) for n in range(1, smaller + 1)] == list(range(1, smaller + 1))
        size = smaller


def test_a_short_call_tells_nothing(oversubscription):
    oversubscription.record([0.1, 0.1], oversubscription._MIN_SECONDS / 2)
    assert oversubscription.limit(2) == 2


def test_the_whole_team_is_tried_again_less_and_less_often(oversubscription):
    retreats = []
    for _ in range(10):
        oversubscription.record([1.0, 0.1], 1.0)
        before = oversubscription.clock[0]
        while oversubscription.limit(2) == 1:
            oversubscription.clock[0] += 0.01
        retreats.append(oversubscription.clock[0] - before)
    expected = [min(oversubscription._FIRST_BACKOFF * 2**i, oversubscription._MAX_BACKOFF) for i in range(10)]
    np.testing.assert_allclose(retreats, expected, atol=0.02)
    oversubscription.record([1.0, 1.0], 1.0)
    oversubscription.record([1.0, 0.1], 1.0)
    oversubscription.clock[0] += oversubscription._FIRST_BACKOFF + 0.01
    assert oversubscription.limit(2) == 2, "patience begins anew after a call that went well"


def test_launch_uses_no_more_members_than_the_cores_have_time_for(oversubscription):
    def sizes_seen(function):
        seen = []
        launch(lambda member: seen.append((member.rank, member.size, function())), [(member,) for member in members(3)])
        return sorted((rank, size) for rank, size, _ in seen)

    def whole(size):
        return [(rank, size) for rank in range(size)]

    assert sizes_seen(lambda: None) == whole(3)
    assert sizes_seen(lambda: time.sleep(2 * oversubscription._MIN_SECONDS)) == whole(3)
    assert oversubscription.limit(3) < 3, "who sleeps has no core"
    assert sizes_seen(lambda: None) == whole(oversubscription.limit(3))
    oversubscription.clock[0] += 2 * oversubscription._MAX_BACKOFF
    assert sizes_seen(lambda: None) == whole(3)


# ---- whole runs -----------------------------------------------------------------------------------------------------

RUNS = {  # what differs from run to run; every activation, loss and optimizer is among them
    "sgd": {"hidden": ["relu", "tanh"], "optimizer": SGD(0.1, weight_decay=0.01)},
    "momentum": {"hidden": ["tanh", "gelu"], "optimizer": SGD(0.05, momentum=0.9), "weighted": True},
    "nesterov": {"hidden": ["leaky_relu", "sigmoid"], "optimizer": SGD(0.05, momentum=0.8, nesterov=True)},
    "rmsprop": {"hidden": ["gelu", "relu"], "optimizer": RMSprop(0.002, weight_decay=0.01), "dropout": [0.1, 0.2, 0.3]},
    "adam": {"hidden": ["relu", "gelu"], "optimizer": Adam(0.01, weight_decay=0.01), "dropout": [0.0, 0.5, 0.5]},
    "clipped": {"hidden": "relu", "optimizer": SGD(0.1, momentum=0.9, clip_norm=0.1)},
    "adamw": {"hidden": "relu", "optimizer": AdamW(0.01, weight_decay=0.1), "bias": False},
    "labels by weight": {"hidden": "tanh", "optimizer": SGD(0.1), "dropout": 0.4, "weighted": True},
    "float64": {"hidden": ["gelu", "tanh"], "optimizer": Adam(0.01), "dropout": 0.2, "dtype": "float64"},
    "sigmoid": {"hidden": "relu", "optimizer": SGD(0.1), "output": "sigmoid", "weighted": True},
    "identity": {"hidden": "identity", "optimizer": SGD(0.01), "output": "identity"},
    "columns": {"hidden": ["relu", "tanh"], "optimizer": Adam(0.01), "sizes": [13, 137, 97, 5], "dropout": 0.2},
    "columns by sgd": {"hidden": ["relu", "gelu"], "optimizer": SGD(0.1), "sizes": [130, 101, 67, 5]},
    "few samples": {"hidden": "relu", "optimizer": Adam(0.01), "batch_size": 3},
}


def train(threads, *, optimizer, sizes=(13, 37, 11, 5), batch_size=100, weighted=False, **options):
    """Bytes of all that comes out of a run of two epochs, whose last mini-batch is smaller."""
    rng = np.random.default_rng(5)
    x, labels = rng.standard_normal((230, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], 230)
    y = rng.standard_normal((230, sizes[-1])) if options.get("output") == "identity" else labels
    weights = rng.random(230) if weighted else None
    net = Network(sizes, seed=7, threads=threads, backend="numba", **options)
    validation = (x[:50], y[:50])
    history = net.fit(
        *(x, y), epochs=2, batch_size=batch_size, optimizer=optimizer, sample_weight=weights, validation_data=validation
    )
    recorded = [history.loss, history.accuracy, history.val_loss, history.val_accuracy]
    loss, gradients = net.gradients(x, y, sample_weight=weights, dropout=1)
    arrays = [net.parameters, *map(np.array, recorded), net.predict_proba(x), np.array(loss)]
    arrays += [array for pair in gradients for array in pair if array is not None]
    assert all(np.isfinite(array).all() for array in arrays if array is not arrays[2] and array is not arrays[4])
    return [array.tobytes() for array in arrays]


@pytest.fixture
def sizes_launched(monkeypatch):
    """The sizes of all teams that ran."""
    seen, real = set(), numba_kernels.launch

    def launch(function, calls):
        seen.add(len(calls))
        real(function, calls)

    monkeypatch.setattr(numba_kernels, "launch", launch)
    return seen


@pytest.mark.parametrize("name", RUNS)
def test_results_do_not_depend_on_the_number_of_threads(name, sizes_launched):
    expected = train(1, **RUNS[name])
    assert sizes_launched == {1}
    for threads in (2, 3):
        sizes_launched.clear()
        assert train(threads, **RUNS[name]) == expected, f"{threads} threads"
        assert sizes_launched == {threads}


def test_runs_differ():
    """Or their comparison would say nothing."""
    parameters = [train(1, **options)[0] for options in RUNS.values()]
    assert len(set(parameters)) == len(RUNS)


def test_two_runs_at_once():
    options = [RUNS["adam"], RUNS["momentum"]]
    expected, found = [train(2, **one) for one in options], {}

    def run(i):
        found[i] = [train(2, **options[i]) for _ in range(5)]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {i: [expected[i]] * 5 for i in range(2)}


def test_a_callback_may_train(sizes_launched):
    """A team within a run of a team: nothing of one is left in the other."""
    inner, plain = [], train(2, **RUNS["momentum"])
    net, again = (Network([13, 37, 11, 5], seed=3, threads=3, backend="numba") for _ in range(2))
    x, y = np.random.default_rng(1).random((90, 13), np.float32), np.arange(90) % 5
    net.fit(x, y, epochs=2, callbacks=[lambda *_: inner.append(train(2, **RUNS["momentum"]))])
    again.fit(x, y, epochs=2)
    assert inner == [plain] * 2
    np.testing.assert_array_equal(net.parameters, again.parameters)


# ---- other processes ------------------------------------------------------------------------------------------------

PREPARE = """
import os, signal, sys, threading, time
import numpy as np
import fastnn
from fastnn.kernels import numba_kernels, numba_team

numba_kernels._WORK = 1e-9
numba_team._Oversubscription.limit = lambda self, size: size
x, y = np.random.default_rng(0).random((500, 13), np.float32), np.arange(500) % 5

def living():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fastnn-")]

def make():
    return fastnn.Network([13, 37, 11, 5], backend="numba", threads=2)

def train():
    net = make()
    net.fit(x, y, epochs=2)
    return net.parameters.tobytes()

expected = train()
"""


def python(code, timeout=120):
    """Standard output of a fresh process."""
    command = [sys.executable, "-c", PREPARE + code]
    process = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert process.returncode == 0, f"ended with {process.returncode}\n{process.stderr}"
    return process.stdout


FORK = """
def child_trains():
    child = os.fork()
    if child == 0:
        try:
            status = 0 if train() == expected and not living() else 1
        except BaseException:
            status = 2
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

print(child_trains())
inside = []
net = make()
net.fit(x, y, epochs=2, callbacks=[lambda *_: inside.append(child_trains())])
print(*inside, net.parameters.tobytes() == expected, train() == expected)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_trains():
    """After the parent has, and from inside a run: a team is gone when its call is."""
    assert python(FORK).split() == ["0", "0", "0", "True", "True"]


INTERRUPT = """
class Late(Exception):
    pass

raised = []

def interrupt(*_):
    raised.append(1)
    raise Late

signal.signal(signal.SIGALRM, interrupt)
"""

INTERRUPT_RUN = """
many = np.random.default_rng(0).random((100_000, 13), np.float32), np.arange(100_000) % 5
for delay in np.random.default_rng(1).uniform(0.001, 0.15, 20):
    net = make()
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        net.fit(*many, epochs=1000, batch_size=20)
    except Late:
        parameters = net.parameters.copy()
    time.sleep(0.1)
    assert (net.parameters == parameters).all(), "somebody still trains"
    assert not living(), living()
    assert train() == expected
print("done")
"""

INTERRUPT_LAUNCH = """
import faulthandler, numba
from fastnn.kernels.numba_team import barrier, launch

@numba.njit(nogil=True)
def wait_some_times(team):
    for _ in range(3):
        barrier(team)

def work(member):
    working.append(member.rank)
    try:
        wait_some_times(member)
    finally:
        working.remove(member.rank)

working = []
threading.excepthook = sys.unraisablehook = lambda *_: None  # CPython's own threading is not safe from signals
team = numba_kernels.make_team(2, (4, 4), 4, np.dtype(np.float32), None)
launch(work, [(member,) for member in team])
for delay in np.random.default_rng(1).uniform(5e-5, 6e-4, 1000):
    faulthandler.dump_traceback_later(10, exit=True)
    raised.clear()
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        while not raised:
            launch(work, [(member,) for member in team])
    except (Late, RuntimeError):  # a RuntimeError comes from threading, struck at a bad moment
        assert not working, working
faulthandler.cancel_dump_traceback_later()
print("done")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
@pytest.mark.parametrize("code", [INTERRUPT_RUN, INTERRUPT_LAUNCH], ids=["run", "launch"])
def test_nobody_works_on_after_a_signal(code):
    """Whatever a handler raises at whatever moment, as Ctrl-C does; and it ends."""
    assert python(INTERRUPT + code) == "done\n"


EXIT = """
assert not living()
threading.Thread(target=lambda: make().fit(x, y, epochs=100), daemon=True).start()
print("done")
"""


def test_the_process_ends_while_a_daemon_thread_trains():
    assert python(EXIT) == "done\n"
