"""The record of the machine: it can be committed, tells what figures depend on, and which machine it was."""

import getpass
import json
import os
import platform
import re
import sys
from types import ModuleType, SimpleNamespace

import pytest

from fastnn import backends
from fastnn.backends import READY, BackendInfo
from fastnn.bench import machine

PARTS = {"platform", "python", "cpu", "cores", "memory", "threads", "blas", "device", "versions", "commit", "date"}


@pytest.fixture(scope="module")
def record():
    return machine.environment(2)


def strings(value):
    """All in a JSON value, names of fields too."""
    if isinstance(value, dict):
        return [text for name, item in value.items() for text in (name, *strings(item))]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def test_the_record_is_complete_and_json(record):
    assert set(record) >= PARTS
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert set(record["versions"]) >= {"matplotlib", "pytest-benchmark", "cupy-cuda13x", "numba"}
    assert record["cpu"]
    assert 1 <= record["cores"]["usable"] <= record["cores"]["logical"]
    assert {build["internal_api"] for build in record["blas"]}


def test_the_record_tells_no_host_user_or_path(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "tell-no-host")
    monkeypatch.setenv("FASTNN_DATA_DIR", "tell-no-relative-folder")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/tell/no/folder")
    monkeypatch.setenv("MKL_SOMETHING", "/tell/no/file")
    names = {os.uname().nodename if hasattr(os, "uname") else "tell", getpass.getuser(), os.path.expanduser("~")}
    for text in strings(machine.environment(1) | {"cpu": ""}):  # some makers write "w/ graphics" in its name
        assert "tell" not in text
        assert "\\" not in text
        assert "/" not in text
        assert not names & set(re.split(r"[\s,;:()]+", text))


def test_the_platform_tells_no_name_that_a_builder_gave():
    assert machine._leading_number("6.18.44-alices-laptop") == "6.18.44"
    assert machine._leading_number("5.4.0.alice") == "5.4.0"
    assert machine._leading_number("alice") == ""


def test_variables_that_matter_are_told():
    told = {"OMP_NUM_THREADS": "2", "FASTNN_GEMM": "blas", "CUDA_VISIBLE_DEVICES": "", "OMP_PLACES": "{0:2}"}
    others = {"PATH": "x", "FASTNN_CACHE_DIR": "x", "FASTNN_NEW": "~x", "CUDA_PATH": "x", "MKL_LIB": "C:\\x"}
    assert machine.variables(told | others) == told


def test_the_same_machine_is_known_again(record):
    again = machine.environment(2)
    assert machine.identity(again) == machine.identity(record)
    json.dumps(machine.identity(record), allow_nan=False)


@pytest.mark.parametrize(
    "change",
    [
        {"cpu": "another"},
        {"threads": 3},
        {"platform": "CP/M Z80"},
        {"memory": 2**30},
        {"cores": {"usable": 999}},
        {"device": {"name": "another"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_machine_is_told_apart(record, change):
    assert machine.identity(record | change) != machine.identity(record)


def test_memory_that_the_system_keeps_does_not_make_another_machine(record):
    one, other = ({**record, "memory": 2**34 + extra} for extra in (0, 2**20))
    assert machine.identity(one) == machine.identity(other)


def test_without_psutil_the_memory_is_not_known(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    record = machine.environment(1)
    assert record["memory"] is None
    assert machine.identity(record)["memory_gib"] is None


# ---- what the system tells ------------------------------------------------------------------------------------------


def test_the_cpu_s_name(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Zilog Z80 @ 4 MHz\n\nprocessor\t: 1\nmodel name\t: other\n")
    assert machine.cpu_model(file) == "Zilog Z80 @ 4 MHz"
    assert machine.cpu_model(tmp_path / "absent")  # the platform's word


def quota(tmp_path, membership, files):
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "membership").write_text(membership)
    return machine.cpu_quota(tmp_path / "cgroup", tmp_path / "membership")


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2.0),
        ("0::/a/b\n", {"a/cpu.max": "50000 100000\n", "a/b/cpu.max": "200000 100000\n"}, 0.5),
        ("0::/unseen/here\n", {"cpu.max": "300000 100000\n"}, 3.0),
        ("4:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "50000\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, 0.5),
        ("4:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("4:memory:/x\n", {"cpu/x/cpu.cfs_quota_us": "50000\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, None),
    ],
)
def test_the_container_s_limit(tmp_path, membership, files, expected):
    assert quota(tmp_path, membership, files) == expected


def test_no_control_groups_no_limit(tmp_path):
    assert machine.cpu_quota(tmp_path / "absent", tmp_path / "absent too") is None


def test_a_device_is_described(monkeypatch):
    reason = "NVIDIA H200, compute capability 9.0, 140 GiB"
    versions = {"cupy": "14.2.0", "cuda": "13.0", "driver": "13.0"}
    info = BackendInfo("cupy", READY, reason, "", versions)
    cuda = ModuleType("fastnn.kernels.cuda_device")
    cuda.capability, cuda.multiprocessors = lambda: (9, 0), lambda: 132
    monkeypatch.setitem(sys.modules, "fastnn.kernels.cuda_device", cuda)
    monkeypatch.setattr(backends, "available_backends", lambda: {"cupy": info})
    answer = SimpleNamespace(stdout="580.65.06\n580.65.06\n")
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: answer)
    assert machine.device() == {
        "name": "NVIDIA H200",
        "compute_capability": "9.0",
        "multiprocessors": 132,
        "memory": "140 GiB",
        "driver": "580.65.06",
        "versions": versions,
    }


def test_a_command_that_fails_or_is_absent_says_nothing():
    assert machine._output(sys.executable, "-c", "print('one'); print('two')") == "one"
    assert machine._output(sys.executable, "-c", "raise SystemExit(1)") is None
    assert machine._output("no such command") is None
