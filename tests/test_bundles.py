"""The package without its source files beside it: in a zip, and as bytecode alone, as bundlers make it."""

import compileall
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

CODE = """
import json, sys
sys.path.insert(0, sys.argv[1])
sys.meta_path[:] = [finder for finder in sys.meta_path if "ditable" not in repr(finder)]  # of an installed checkout
import numpy as np, fastnn
net = fastnn.Network([4, 3], backend="numpy")
net.fit(np.random.default_rng(0).random((6, 4), np.float32), np.arange(6) % 3, epochs=1)
net.save(sys.argv[2])
fastnn.load(sys.argv[2], backend="numpy")
states = {name: info.state for name, info in fastnn.available_backends().items()}
from fastnn.kernels import cuda_modules, numba_cache
text = next(cuda_modules.all_modules()).text()
print(json.dumps([fastnn.__file__, states, len(text), str(numba_cache.CACHE_FOLDER)]))
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    top = tmp_path_factory.mktemp("bundles")
    for name, part in (("fastnn", "fastnn"), ("fastnn.kernels", "fastnn/kernels"), ("fastnn.bench", "fastnn/bench")):
        source = Path(find_spec(name).origin).parent
        ignored = shutil.ignore_patterns("__pycache__", "results", *(["kernels", "bench"] if name == "fastnn" else []))
        shutil.copytree(source, top / "plain" / part, ignore=ignored, dirs_exist_ok=True)
    return top / "plain"


def run(path, folder):
    command = [sys.executable, "-c", CODE, str(path), str(folder / "net.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    file, states, length, cache = json.loads(done.stdout)
    assert str(path) in file
    assert (states["numpy"], states["numba"]) == ("ready", "ready")
    assert length > 1000
    return cache


def test_in_a_zip(plain, tmp_path):
    assert run(shutil.make_archive(str(tmp_path / "app"), "zip", plain), tmp_path) == run(plain, tmp_path)


def test_as_bytecode_alone(plain, tmp_path):
    shutil.copytree(plain, tmp_path / "compiled")
    compileall.compile_dir(tmp_path / "compiled", quiet=2, legacy=True)
    for path in (tmp_path / "compiled").rglob("*.py"):
        path.unlink()
    assert "numba" in run(tmp_path / "compiled", tmp_path)
