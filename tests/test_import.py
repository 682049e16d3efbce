"""What `import fastnn` costs and offers."""

import json
import os
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


OPTIONAL = ("IPython", "PIL", "array_api_compat", "cupy", "jinja2", "joblib", "matplotlib", "onnx", "pooch", "psutil",
            "requests", "safetensors", "sklearn", "tensorboardX", "torch")  # fmt: skip
WITHOUT = f"import sys\nsys.modules.update(dict.fromkeys({OPTIONAL}))\nimport fastnn\n"  # None: cannot be imported

TRAIN = """
import warnings
import numpy as np
warnings.simplefilter("ignore", UserWarning)  # that there is no MNIST
data = fastnn.datasets.load("auto")
assert "pooch" in data.note and "pip install 'fastnn-mlp[data]'" in data.note, data.note
for backend in ("numpy", "numba"):
    net = fastnn.Network([784, 8, 10], backend=backend, seed=0)
    net.fit(data.x_train[:500], data.y_train[:500], epochs=2, validation_data=(data.x_test, data.y_test))
    print(net.predict(data.x_test[:3]), net.evaluate(data.x_test, data.y_test))
"""

ASKS = {  # what needs a library, and the extra that brings it
    "import fastnn.sklearn": "sklearn",
    "from fastnn.datasets.holding_out import hold_out; hold_out([[1, 2, 3]], 0.5, 0)": "sklearn",
    "from fastnn.sweeps.hyperparameters import list_settings; list_settings({'width': [1]})": "sklearn",
    "from fastnn.interchange import from_sklearn; from_sklearn(3)": "sklearn",
    "fastnn.plots.class_report(fastnn.Network([2, 2], backend='numpy'), [[0., 1.]], [1])": "sklearn",
    "from fastnn.images import prepare; prepare(fastnn.datasets.load('digits').x_test[0])": "plot",
}


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


def test_training_needs_no_optional_library(tmp_path):
    environment = os.environ | {"FASTNN_CACHE_DIR": str(tmp_path), "FASTNN_DATA_DIR": ""}
    run = subprocess.run([sys.executable, "-c", WITHOUT + TRAIN], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(("code", "extra"), ASKS.items())
def test_what_needs_a_library_says_how_to_install_it(code, extra):
    run = subprocess.run([sys.executable, "-c", WITHOUT + code], capture_output=True, text=True)
    assert f"pip install 'fastnn-mlp[{extra}]'" in run.stderr.splitlines()[-1], run.stderr
