"""What ends a thread from outside, and what Ctrl-C may not strike: a compiler at work."""

import os
import signal
import subprocess
import sys
import threading
import time

import numba
import pytest
from numba.core import types
from numba.core.event import Listener, install_listener

from fastnn.interruption import Interruption, look_for_interruption
from fastnn.kernels.numba_cache import compile_interruptibly


def test_a_thread_ends_when_it_looks():
    interruption, inside, asked, seen = Interruption(), threading.Event(), threading.Event(), []

    def work():
        try:
            with interruption:
                look_for_interruption()
                inside.set()
                assert asked.wait(60)
                seen.append("goes on until it looks")
                look_for_interruption()
        except KeyboardInterrupt:
            seen.append("interrupted")
        look_for_interruption()
        seen.append("left")

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(60)
    interruption.ask()
    look_for_interruption()  # nobody asked this thread
    asked.set()
    thread.join()
    assert seen == ["goes on until it looks", "interrupted", "left"]
    with pytest.raises(KeyboardInterrupt), interruption:  # asked before it began
        pytest.fail("begun")


def press_ctrl_c():
    """As a terminal does it; which thread it strikes is the interpreter's affair."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)


@pytest.mark.skipif(os.name != "posix", reason="only there a process inherits that it ignores a signal")
def test_what_tests_start_can_be_interrupted_where_ctrl_c_is_ignored():
    """As under nohup, and in a script's background: `conftest` takes that back."""
    child = "import os, signal; signal.raise_signal(signal.SIGINT); os._exit(3)"
    program = (
        f"import conftest, subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {child!r}]).returncode)"
    )
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.returncode != 3
    assert done.stderr.endswith("KeyboardInterrupt\n")


def test_ctrl_c_waits_for_what_compiles():
    seen = []

    def work():
        time.sleep(0.1)  # the main thread still starts this one
        press_ctrl_c()
        seen.append("ended")

    with pytest.raises(KeyboardInterrupt):
        compile_interruptibly(work)
    assert seen == ["ended"]
    assert compile_interruptibly(max, 1, 2) == 2
    with pytest.raises(ZeroDivisionError):
        compile_interruptibly(divmod, 1, 0)


@pytest.mark.parametrize("ended_by", ["Ctrl-C", "another thread"])
def test_compiling_ends_between_two_passes_and_can_begin_anew(ended_by):
    @numba.njit  # not kept on disk: it shall be compiled
    def twice(x):
        return 2 * x

    interruption, passes = Interruption(), []

    class Third(Listener):
        def on_start(self, event):
            passes.append(event.data["name"])
            if len(passes) == 3:
                press_ctrl_c() if ended_by == "Ctrl-C" else interruption.ask()

        def on_end(self, event):
            pass

    def compile_twice():
        with pytest.raises(KeyboardInterrupt), interruption:
            compile_interruptibly(twice.compile, (types.int64,))

    with install_listener("numba:run_pass", Third()):
        if ended_by == "Ctrl-C":
            compile_twice()
        else:
            thread = threading.Thread(target=compile_twice)
            thread.start()
            thread.join()
    assert len(passes) == 3
    assert not twice.overloads
    compile_interruptibly(twice.compile, (types.int64,))
    assert twice(21) == 42
