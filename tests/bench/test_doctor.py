"""`fastnn doctor`: a healthy installation has no problems, and each problem caused on purpose is found and named."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from fastnn import backends
from fastnn.backends import READY, BackendInfo
from fastnn.bench import checks, doctor, file_checks, kernel_checks, machine
from fastnn.bench.checks import NOTE, OK, PROBLEM, Finding
from fastnn.cli import main
from fastnn.files import CACHE_VARIABLE
from fastnn.kernels import numpy_kernels
from fastnn.step import KERNELS

ROOT = Path(__file__).parents[2]
CACHE = os.environ.get(CACHE_VARIABLE)
WRONG = """
from fastnn.kernels.numpy_kernels import *
from fastnn.kernels import numpy_kernels

def dense(x, W, b, activation, z, a, team):
    numpy_kernels.dense(x, W, b, activation, z, a, team)
    a *= 1.001

def apply_optimizer(*arguments):
    raise ZeroDivisionError("no such step")
"""


@pytest.fixture(autouse=True)
def _nothing_remembered():
    backends._inspect.cache_clear()
    yield
    backends._inspect.cache_clear()


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch, tmp_path):
    """Variables of the developer's shell are none of ours; the data set is not read in tests that do not ask for it."""
    for name in [name for name in os.environ if name.startswith("FASTNN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def register(monkeypatch, tmp_path):
    """Make a module a built-in backend: ``register(name, source)``."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name, source):
        module = f"{name}_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{module}.py").write_text(source)
        monkeypatch.setitem(backends._BUILTIN, name, (module, module, f"pip install {name}"))

    return make


@pytest.fixture
def no_devices(monkeypatch):
    """Backends are numpy alone, so that a run takes no compiler."""
    monkeypatch.setattr(backends, "_BUILTIN", {"numpy": backends._BUILTIN["numpy"]})


def by_subject(findings):
    """The findings of a check; of several with one subject the worst."""
    order = [OK, NOTE, PROBLEM]
    return {f.subject: f for f in sorted(findings, key=lambda f: order.index(f.state))}


def problems(check):
    return [finding for finding in check() if finding.state == PROBLEM]


def command(*options, **variables):
    line = [sys.executable, "-m", "fastnn.cli", "doctor", *options]
    return subprocess.run(line, capture_output=True, text=True, env=os.environ | variables, timeout=120, check=False)


# ---- the command ----------------------------------------------------------------------------------------------------


def test_a_healthy_machine_has_no_problems(monkeypatch, capsys):
    if CACHE is not None:  # what is compiled is of use to others, and may have been before
        monkeypatch.setenv(CACHE_VARIABLE, CACHE)
    else:
        monkeypatch.delenv(CACHE_VARIABLE)
    assert main(["doctor"]) == 0, capsys.readouterr().out
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "no problems"
    assert [line for line in lines if line and line[0] != " "][:-1] == list(doctor.CHECKS)
    for name in ("numpy", "numba"):
        for dtype in ("float32", "float64"):
            line = next(line for line in lines if f"{name} {dtype}" in line)
            assert f"{len(KERNELS)} kernels, worst error" in line


@pytest.mark.usefixtures("no_devices")
def test_json_says_the_same(capsys):
    code = main(["doctor", "--json"])
    content = json.loads(capsys.readouterr().out)
    assert (content["schema_version"], content["command"], content["problems"]) == (1, "doctor", 0)
    assert code == 0
    assert [section["heading"] for section in content["sections"]] == list(doctor.CHECKS)
    findings = [Finding(**finding) for section in content["sections"] for finding in section["findings"]]
    assert {finding.state for finding in findings} <= {OK, NOTE}
    assert any(f"{len(KERNELS)} kernels" in finding.text for finding in findings)


@pytest.mark.usefixtures("no_devices")
def test_a_problem_is_counted_and_is_the_exit_code(monkeypatch, capsys):
    monkeypatch.setenv("FASTNN_NUM_THREADS", "0")
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert text.endswith("\n1 problem\n")
    assert "PROBLEM  threads" in text
    monkeypatch.setenv("FASTNN_BACKEND", "nonsense")
    assert main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problems"] == 2


def test_wrong_options_are_wrong_usage():
    result = command("--loud")
    assert (result.returncode, result.stdout) == (2, "")
    assert "--loud" in result.stderr


def test_the_module_leaves_heavy_libraries_alone():
    code = "import sys, fastnn.bench.doctor; print({'numba', 'scipy', 'cupy', 'joblib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_a_check_that_fails_is_a_problem_and_the_others_go_on(monkeypatch, capsys):
    def broken():
        yield Finding("first", OK, "fine")
        raise OSError("the disk\nis gone")

    monkeypatch.setattr(doctor, "CHECKS", {"One": (broken,), "Two": (lambda: iter([Finding("last", OK, "fine")]),)})
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "  PROBLEM  broken  the check itself failed: OSError: the disk is gone" in lines
    assert "  ok       last  fine" in lines


@pytest.mark.parametrize("swallowed", [False, True])
def test_ctrl_c_ends_it(monkeypatch, capsys, swallowed):
    def check():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if not swallowed:  # as Python does where an object is finalized
                raise
        yield Finding("one", OK, "fine")

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(doctor, "CHECKS", {"One": (check,), "Two": (lambda: pytest.fail("goes on"),)})
    assert main(["doctor"]) == 130
    assert capsys.readouterr() == ("", "fastnn: interrupted\n")
    assert signal.getsignal(signal.SIGINT) is handler


def test_it_runs_in_a_thread(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", {"One": (lambda: iter([Finding("one", OK, "fine")]),)})
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["doctor"])))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_disk_is_told_without_a_traceback():
    with open("/dev/full", "w") as full:
        line = [sys.executable, "-m", "fastnn.cli", "doctor"]
        result = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert result.returncode in (1, 120)
    assert "Traceback" not in result.stderr


# ---- packages and settings ------------------------------------------------------------------------------------------


def test_packages_are_compared_with_the_metadata(monkeypatch):
    installed = {"numpy": "1.9.0", "numba": "0.60", "scipy": "1.100rc1"}
    monkeypatch.setattr(machine, "package_version", lambda package: installed.get(package))
    found = by_subject(checks.check_packages())
    assert found["python"].state == OK
    assert found["numpy"] == Finding("numpy", PROBLEM, "1.9.0 is older than 1.26", "pip install 'numpy>=1.26'")
    assert found["numba"].state == found["scipy"].state == OK
    assert found["tqdm"][1:3] == (PROBLEM, "not installed")
    assert "pip install 'tqdm>=" in found["tqdm"].remedy
    assert "torch" not in found


def test_optional_packages_are_notes(monkeypatch):
    monkeypatch.setattr(machine, "package_version", lambda package: "0.0.1" if package == "torch" else None)
    found = by_subject(checks.check_extras())
    assert set(found) == set(checks.EXTRAS)
    assert {finding.state for finding in found.values()} == {NOTE}
    assert all(finding.remedy.startswith("pip install '") for finding in found.values())
    assert found["matplotlib"].text == "not installed: for figures"


def test_misspelt_variables_are_noted(monkeypatch):
    monkeypatch.setenv("FASTNN_BACKND", "numpy")
    monkeypatch.setenv("FASTNN_NUM_THREADS", "1")
    found = by_subject(checks.check_settings())
    assert found["FASTNN_BACKND"].state == NOTE
    assert found["FASTNN_BACKND"].remedy == "is FASTNN_BACKEND meant?"
    assert found["FASTNN_NUM_THREADS"][1:] == (OK, "1", "")


@pytest.mark.parametrize("package", ["fastnn", "kernels", "bench"])
def test_all_variables_that_are_read_are_known(package):
    """FASTNN_ON_CPU is a macro of the CUDA sources."""
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / package).rglob("*.py")]
    found = set(re.findall(r"""["'](FASTNN(?:_[A-Z]+)+)["']""", " ".join(sources)))
    assert found
    assert found <= set(checks.VARIABLES)


# ---- backends -------------------------------------------------------------------------------------------------------


def test_a_backend_that_is_not_known(monkeypatch):
    monkeypatch.setenv("FASTNN_BACKEND", "nonsense")
    chosen = by_subject(checks.check_backends())["chosen"]
    assert chosen.state == PROBLEM
    assert "'nonsense'" in chosen.text
    assert "numpy" in chosen.remedy


def test_a_setting_of_a_backend_that_cannot_be(monkeypatch):
    monkeypatch.setenv("FASTNN_GEMM", "nonsense")
    (finding,) = problems(checks.check_backends)
    assert "FASTNN_GEMM must be simd or blas, got 'nonsense'" in finding.text
    assert finding.subject == "numba"
    assert not problems(checks.check_devices)
    checked = list(kernel_checks.check_kernels())  # the others go on
    assert {found.subject.split()[0] for found in checked} == {"numpy"}
    assert {found.state for found in checked} == {OK}


def test_a_backend_that_cannot_be_imported(register):
    register("broken", "raise OSError('libnothing.so: cannot open shared object file')")
    (finding,) = problems(checks.check_backends)
    assert finding.subject == "broken"
    assert "libnothing.so" in finding.text
    assert "pip install broken" in finding.remedy


def test_a_backend_without_its_device_is_a_note_unless_it_is_chosen(register, monkeypatch):
    source = """
from fastnn.kernels.numpy_kernels import *
from fastnn.errors import BackendError
def device():
    raise BackendError("no such device")
"""
    register("absent", source)
    found = by_subject(checks.check_backends())
    assert found["absent"].state == NOTE
    assert found["chosen"].state == OK
    monkeypatch.setenv("FASTNN_BACKEND", "absent")
    (finding,) = problems(checks.check_backends)
    assert finding.subject == "chosen"
    assert "no such device" in finding.text


def test_a_library_that_is_not_installed_is_a_note(monkeypatch):
    entry = ("fastnn.kernels.cupy_kernels", "no_such_library", "pip install it")
    monkeypatch.setitem(backends._BUILTIN, "cupy", entry)
    found = by_subject(checks.check_backends())
    assert (found["cupy"].state, found["cupy"].remedy) == (NOTE, "pip install it")
    assert by_subject(checks.check_devices())["CUDA device"].state == NOTE


def test_a_device_is_described(monkeypatch):
    device = {"name": "NVIDIA H200", "compute_capability": "9.0", "memory": "140 GiB", "driver": "580.65"}
    monkeypatch.setattr(checks, "ready_backends", lambda: {"cupy": BackendInfo("cupy", READY, "")})
    monkeypatch.setattr(machine, "device", lambda: device)
    (finding,) = checks.check_devices()
    assert finding == Finding("CUDA device", OK, "NVIDIA H200, compute capability 9.0, 140 GiB, driver 580.65")


# ---- CPU and timing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_threads_that_are_no_number(monkeypatch, value):
    monkeypatch.setenv("FASTNN_NUM_THREADS", value)
    (finding,) = problems(checks.check_threads)
    assert repr(value) in finding.text
    assert "FASTNN_NUM_THREADS" in finding.remedy


@pytest.mark.parametrize(
    ("threads", "quota", "right"),
    [("4", None, True), ("5", None, False), ("2", 1.5, True), ("3", 1.5, False), ("1", 0.5, True), ("2", 0.5, False)],
)
def test_more_threads_than_can_run(monkeypatch, threads, quota, right):
    monkeypatch.setattr(machine, "usable_cores", lambda: 4)
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    monkeypatch.setenv("FASTNN_NUM_THREADS", threads)
    assert problems(checks.check_threads) == [] if right else problems(checks.check_threads)


def test_blas_libraries_with_other_threads_are_noted(monkeypatch):
    build = dict.fromkeys(("version", "architecture", "threading_layer")) | {"internal_api": "openblas"}
    builds = [build | {"num_threads": n} for n in (2, 2)]
    monkeypatch.setattr(machine, "blas_builds", lambda: builds)
    assert "BLAS" not in by_subject(checks.check_blas())
    builds[1]["num_threads"] = 1
    finding = by_subject(checks.check_blas())["BLAS"]
    assert finding.state == NOTE
    assert "1 and 2 threads" in finding.text


def test_vector_kernels(monkeypatch):
    from fastnn.kernels import numba_simd

    monkeypatch.setattr(numba_simd, "find_isa", lambda: numba_simd.CPU_ISAS[0])
    assert by_subject(checks.check_vectors())["vector kernels"].state == OK
    monkeypatch.setenv("FASTNN_GEMM", "blas")
    assert by_subject(checks.check_vectors())["vector kernels"].remedy == "unset FASTNN_GEMM"
    monkeypatch.delenv("FASTNN_GEMM")
    monkeypatch.setattr(numba_simd, "find_isa", lambda: None)
    assert by_subject(checks.check_vectors())["vector kernels"].state == NOTE


def test_a_busy_machine_and_a_coarse_clock_are_noted(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    monkeypatch.setattr(machine, "load_average", lambda: [0.1, 0.0, 0.0])
    assert {finding.state for finding in checks.check_timing()} == {OK}
    monkeypatch.setattr(machine, "load_average", lambda: [1.9, 0.0, 0.0])
    monkeypatch.setattr(checks, "_smallest_step", lambda: 0.015)
    assert [finding.state for finding in checks.check_timing()] == [NOTE, NOTE]
    monkeypatch.setattr(machine, "load_average", lambda: None)
    assert by_subject(checks.check_timing())["load"].state == NOTE


def test_the_clock_ticks():
    assert 0 < checks._smallest_step() < 0.1


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "deeper/down"])
def test_a_file_in_the_cache_folder_s_place(monkeypatch, tmp_path, below):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path / "file" / below))
    (finding,) = problems(file_checks.check_caches)
    assert f"{tmp_path / 'file'} is not a folder" in finding.text
    assert "FASTNN_CACHE_DIR" in finding.remedy


@pytest.mark.parametrize("closed", ["cache", "cache/numba"])
def test_a_cache_folder_that_cannot_be_written(monkeypatch, tmp_path, closed):
    (tmp_path / "cache" / "numba").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / closed)
    (finding,) = problems(file_checks.check_caches)
    assert f"{tmp_path / closed} cannot be written" in finding.text


def test_what_is_in_the_caches(tmp_path):
    for name in ("numba/a/step/f.nbc", "numba/a/step/f.nbi", "numba/b/g.nbc", "mnist/x.gz", "digits-v1.npz"):
        path = tmp_path / "cache" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100_000))
    found = by_subject(file_checks.check_caches())
    assert "2 functions of 2 versions of the sources, 0.3 MB" in found["compiled code"].text
    assert "2 files, 0.2 MB" in found["data"].text
    assert not (tmp_path / "cache" / "other").exists()


def test_an_empty_cache_is_none_and_stays_so(tmp_path):
    assert {finding.state for finding in file_checks.check_caches()} == {OK}
    assert not (tmp_path / "cache").exists()


def test_no_mnist_is_noted_and_nothing_downloaded(monkeypatch, tmp_path):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("uses the network"))
    (finding,) = file_checks.check_mnist()
    assert finding.state == NOTE
    assert "fastnn data mnist" in finding.remedy
    monkeypatch.setenv("FASTNN_DATA_DIR", str(tmp_path))
    assert [finding.state for finding in file_checks.check_mnist()] == [NOTE, NOTE]
    monkeypatch.setenv("FASTNN_DATA_DIR", str(tmp_path / "absent"))
    assert [finding.state for finding in file_checks.check_mnist()] == [PROBLEM, NOTE]


def test_mnist_is_told_by_its_content(monkeypatch, tmp_path):
    from fastnn.datasets import catalogue, folders

    entries = catalogue.FILES["mnist"]
    (tmp_path / "mnist").mkdir()
    for entry in entries:
        (tmp_path / "mnist" / entry.name).write_bytes(b"")
    monkeypatch.setenv("FASTNN_DATA_DIR", str(tmp_path))
    assert by_subject(file_checks.check_mnist())["MNIST"].state == PROBLEM  # empty files are damaged ones
    monkeypatch.setattr(folders, "read_arrays", lambda files: dict.fromkeys(files, np.zeros(1, np.uint8)))
    assert "something else" in next(file_checks.check_mnist()).text
    monkeypatch.setattr(folders, "is_published", lambda *_: True)
    (finding,) = file_checks.check_mnist()
    assert (finding.state, str(tmp_path / "mnist") in finding.text) == (OK, True)


# ---- self-check -----------------------------------------------------------------------------------------------------


def test_a_wrong_kernel_is_found_and_one_that_fails(register):
    register("wrong", WRONG)
    found = [finding for finding in kernel_checks.check_kernels() if finding.subject.startswith("wrong")]
    assert {finding.state for finding in found} == {PROBLEM}
    for dtype, tolerance in (("float32", "1e-05"), ("float64", "1e-13")):
        texts = [finding.text for finding in found if finding.subject == f"wrong {dtype}"]
        assert {text.partition(" ")[0] for text in texts} == {"dense", "apply_optimizer"}
        assert all("error 1e-03" in text and tolerance in text for text in texts if text.startswith("dense"))
        assert any("fails: ZeroDivisionError: no such step" in text for text in texts)
    assert "numpy" in found[0].remedy


def test_nothing_finite_is_wrong_too(monkeypatch):
    Call = namedtuple("Call", "kernel shape error tolerance")
    calls = [Call("nan", "1 x 1", lambda: float("nan"), 1.0), Call("inf", "1 x 1", lambda: float("inf"), 1.0)]
    monkeypatch.setattr("fastnn.bench.kernel_calls.calls", lambda *_, **__: calls)
    found = list(kernel_checks._check_kernels("it", numpy_kernels, {}, "mend it"))
    assert [finding.state for finding in found] == [PROBLEM, PROBLEM] * len(kernel_checks.SELF_CHECKS)


def test_a_self_check_that_cannot_begin_is_a_problem():
    (finding,) = kernel_checks._check_kernels("it", numpy_kernels, {"dtype": "complex32"}, "mend it")
    assert finding.state == PROBLEM
    assert "the self-check stopped: " in finding.text


def test_kernels_that_were_not_checked_are_no_success(monkeypatch):
    from fastnn.bench import kernel_calls

    some = kernel_calls.calls(numpy_kernels, only=["dense", "apply_optimizer"])
    monkeypatch.setattr(kernel_calls, "calls", lambda *_, **__: some)
    (finding,) = kernel_checks._check_kernels("it", numpy_kernels, {}, "mend it")
    assert finding.state == PROBLEM
    assert "not checked: " in finding.text
    assert "dropout" in finding.text
