"""What `import fastnn` costs and offers."""

import json
import subprocess
import sys
from importlib import resources

import pytest

import fastnn

HEAVY = ("cupy", "joblib", "llvmlite", "numba", "pooch", "scipy", "sklearn", "tqdm")

MEASURE = """
import json, sys, time
start = time.process_time()  # other tests may run beside
import fastnn
seconds = time.process_time() - start
print(json.dumps([seconds, sorted(sys.modules)]))
"""


@pytest.fixture(scope="module")
def imports():
    """(seconds, names of all modules then loaded) of several fresh processes."""
    runs = [subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True) for _ in range(4)]
    assert [run.returncode for run in runs] == [0] * 4, runs[0].stderr
    return [json.loads(run.stdout) for run in runs]


def test_import_takes_less_than_half_a_second(imports):
    assert min(seconds for seconds, _ in imports) < 0.5


@pytest.mark.parametrize("library", HEAVY)
def test_import_leaves_heavy_libraries_alone(imports, library):
    assert library not in imports[0][1]


def test_import_prints_nothing():
    run = subprocess.run([sys.executable, "-W", "error", "-c", "import fastnn"], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_public_names_exist_once_and_are_documented():
    assert len(set(fastnn.__all__)) == len(fastnn.__all__)
    for name in fastnn.__all__:
        assert getattr(fastnn, name).__doc__, name


def test_no_public_name_is_forgotten():
    """A capitalized name or a function of fastnn's that can be reached but is not listed would be an oversight."""
    own = {n for n, v in vars(fastnn).items() if getattr(v, "__module__", "").startswith("fastnn.") and n[0] != "_"}
    assert own <= set(fastnn.__all__)


def test_types_are_announced():
    assert resources.files(fastnn).joinpath("py.typed").is_file()


def test_version_is_a_number():
    assert all(part.isdecimal() for part in fastnn.__version__.split(".")[:2])
