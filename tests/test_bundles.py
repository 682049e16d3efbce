"""The package without its source files beside it: in a zip, and as bytecode alone, as bundlers make it."""

import compileall
import importlib.resources
import json
import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fastnn.kernels import cuda_source

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
from fastnn.kernels import cuda_modules, numba_cache, numba_kernels
text = next(cuda_modules.all_modules()).text()
print(json.dumps([fastnn.__file__, states, len(text), str(numba_cache.CACHE_FOLDER), str(numba_kernels.dense._cache)]))
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
    file, states, length, cache, kept = json.loads(done.stdout)
    assert str(path) in file
    assert (states["numpy"], states["numba"]) == ("ready", "ready")
    assert length > 1000
    assert kept.startswith("<_Cache "), "compiled code is kept on disk"
    return cache


def test_in_a_zip(plain, tmp_path):
    assert run(shutil.make_archive(str(tmp_path / "app"), "zip", plain), tmp_path) == run(plain, tmp_path)


def test_as_bytecode_alone(plain, tmp_path):
    shutil.copytree(plain, tmp_path / "compiled")
    compileall.compile_dir(tmp_path / "compiled", quiet=2, legacy=True, ddir="elsewhere")
    for path in (tmp_path / "compiled").rglob("*.py"):
        path.unlink()
    assert "numba" in run(tmp_path / "compiled", tmp_path)


def test_cuda_sources_left_out_are_named_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    with pytest.raises(ImportError, match=r"CUDA sources in the folder cuda of fastnn\.kernels.*--collect-data"):
        runpy.run_path(cuda_source.__file__)


@pytest.mark.parametrize("missing", ["get_data", "iter_modules"])
def test_without_a_look_at_the_code_numba_works_and_keeps_nothing(missing, monkeypatch, caplog):
    numba_cache = pytest.importorskip("fastnn.kernels.numba_cache")

    def get_data(self, path):
        raise FileNotFoundError(f"no file {path}")

    if missing == "get_data":
        monkeypatch.setattr("importlib.machinery.SourceFileLoader.get_data", get_data)
    else:
        monkeypatch.setattr("pkgutil.iter_modules", lambda *_: iter(()))
    assert numba_cache._cache_folder() is None
    assert "compiled code cannot be cached" in caplog.text
