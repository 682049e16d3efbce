"""The contract between `fastnn.step` and the backends: the same names and parameters in every module of kernels."""

import ast
import importlib.machinery
import importlib.metadata
import inspect
import shutil
import sys
import types
from pathlib import Path

import pytest

import fastnn
from fastnn import backends, step
from fastnn.errors import BackendError
from fastnn.kernels import numpy_kernels
from fastnn.kernels.contract import KERNELS, Kernels

FOLDER = Path(numpy_kernels.__file__).parent


def functions_in(path):
    """{name: definition} of the public functions that a module's text defines."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name: node for node in nodes if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")}


def imported_from_siblings(path):
    """{name: definition} of the functions that a module's text imports by name from files beside it."""
    imports = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    found = {}
    for node in imports:
        package, _, stem = node.module.rpartition(".")
        if package == "fastnn.kernels":
            there = functions_in(path.parent / f"{stem}.py")
            found |= {alias.asname or alias.name: there[alias.name] for alias in node.names if alias.name in there}
    return found


def read_signatures(path):
    """{public function: its parameters} of a module, from its text: the library it stands on need not be here.

    All that it defines, and what it imports for the contract: the other imports are helpers.
    """
    own, imported = functions_in(path), imported_from_siblings(path)
    for function in own.values():  # compiled code and fastnn.step pass every argument, by position
        assert not function.args.defaults
    functions = {name: function for name, function in imported.items() if name in CONTRACT} | own
    signatures = {}
    for name, function in functions.items():
        arguments = function.args
        assert not any([arguments.vararg, arguments.kwarg, arguments.kwonlyargs])
        signatures[name] = [argument.arg for argument in arguments.posonlyargs + arguments.args]
    return signatures


def inspect_signatures(module, imported=()):
    """The same from the imported module, compiled functions among them; `imported` may come from its siblings."""
    signatures = {}
    for name, value in vars(module).items():
        function = inspect.unwrap(getattr(value, "py_func", value))  # of numba's dispatchers, and of caches
        if inspect.isfunction(function) and not name.startswith("_"):
            sibling = function.__module__.startswith(("fastnn.kernels.", "cuda_on_cpu")) and name in imported
            if function.__module__ == module.__name__ or sibling:
                signatures[name] = list(inspect.signature(function).parameters)
    return signatures


CONTRACT = {name: list(inspect.signature(getattr(Kernels, name)).parameters)[1:] for name in KERNELS}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*_kernels.py")), ids=lambda path: path.stem)
def test_text_has_names_and_parameters_of_the_contract(path):
    assert read_signatures(path) == CONTRACT


def test_module_has_names_and_parameters_of_the_contract(kernels):
    assert inspect_signatures(kernels, imported=CONTRACT) == CONTRACT


def test_every_builtin_backend_has_a_module():
    modules = {module for module, _, _ in backends._BUILTIN.values()}
    assert modules == {f"fastnn.kernels.{path.stem}" for path in FOLDER.glob("*_kernels.py")}


@pytest.fixture
def copied(tmp_path):
    """A copy of the folder of kernels, to be spoiled."""
    return Path(shutil.copytree(FOLDER, tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__")))


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("change", ["parameter", "order", "function", "one more"])
def test_comparison_notices(copied, change):
    path, whole = copied / "numpy_kernels.py", "def dense_gradient(x, delta, dW, db, team)"
    old, new = {
        "parameter": (whole, "def dense_gradient(x, delta, dW, team)"),
        "order": (whole, "def dense_gradient(x, delta, db, dW, team)"),
        "function": ("def dense_gradient(", "def dense_gradients("),
        "one more": (whole, f"def helper():\n    pass\n\n\n{whole}"),
    }[change]
    assert read_signatures(path) == CONTRACT
    replace(path, old, new)
    assert read_signatures(path) != CONTRACT


@pytest.fixture
def importing(copied):
    """The reference, but for one function, which it imports from ``beside.py``."""
    path = copied / "numpy_kernels.py"
    replace(path, "def to_numpy(array: Any) -> Any:", "def _to_numpy(array: Any) -> Any:")
    replace(path, "\n_CHUNK = ", "\nfrom fastnn.kernels.beside import helper, to_numpy\n\n_CHUNK = ")
    (copied / "beside.py").write_text("def to_numpy(array):\n    pass\n\n\ndef helper():\n    pass\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("change", ["parameter", "name", "module"])
def test_comparison_notices_in_what_is_imported(importing, change):
    beside = importing.with_name("beside.py")
    path, old, new = {
        "parameter": (beside, "to_numpy(array)", "to_numpy(values)"),
        "name": (beside, "to_numpy(array)", "as_numpy(array)"),
        "module": (importing, "from fastnn.kernels.beside", "from beside"),
    }[change]
    assert read_signatures(importing) == CONTRACT
    replace(path, old, new)
    assert read_signatures(importing) != CONTRACT


def test_only_what_is_imported_may_have_defaults(importing):
    """It has other callers too, which need not pass every argument."""
    replace(importing.with_name("beside.py"), "to_numpy(array)", "to_numpy(array=None)")
    assert read_signatures(importing) == CONTRACT
    replace(importing, "def synchronize()", "def synchronize(device=None)")
    with pytest.raises(AssertionError):
        read_signatures(importing)


def test_comparison_of_the_imported_module_notices():
    """Helpers may come from anywhere, functions of the contract from the folder of kernels only."""

    def to_numpy(array):
        return array

    module = types.ModuleType("fastnn.kernels.some_kernels")
    module.to_numpy = to_numpy
    assert inspect_signatures(module, imported=CONTRACT) == {}
    to_numpy.__module__ = "fastnn.kernels.beside"
    assert inspect_signatures(module, imported=CONTRACT) == {"to_numpy": ["array"]}
    assert inspect_signatures(module) == {}
    module.helper = to_numpy
    assert inspect_signatures(module, imported=CONTRACT) == {"to_numpy": ["array"]}
    to_numpy.__module__ = module.__name__  # what the module defines itself is compared, whatever its name
    assert inspect_signatures(module, imported=CONTRACT) == {"to_numpy": ["array"], "helper": ["array"]}


@pytest.mark.parametrize("name", CONTRACT)
def test_contract_is_documented(name):
    assert getattr(Kernels, name).__doc__


@pytest.mark.parametrize("module", [fastnn, fastnn.datasets, backends], ids=lambda module: module.__name__)
def test_all_names_exist(module):
    assert len(set(module.__all__)) == len(module.__all__)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


# ---- binding --------------------------------------------------------------------------------------------------------


def step_functions():
    return [value for value in vars(step).values() if inspect.isfunction(value) and value.__module__ == step.__name__]


def test_step_lists_the_kernels_that_it_calls():
    called = {name for function in step_functions() for name in function.__code__.co_names}
    assert sorted(called & set(CONTRACT)) == sorted(step.KERNELS)


def fake_kernels(name, without=()):
    """A module with the reference's functions, less some."""
    module = types.ModuleType(name)
    for function in set(CONTRACT) - set(without):
        setattr(module, function, getattr(numpy_kernels, function))
    return module


def test_bound_step_calls_the_kernels_it_was_given():
    calls = []
    module = fake_kernels("counting_kernels")
    for name in step.KERNELS:
        setattr(module, name, lambda *arguments, name=name: calls.append(name))
    layers = step.Layers(weights=(None, None), biases=(None, None), activations=(0, 0), dropout=(0.0, 0.5))
    buffers = step.Buffers(*[(None,) * 3] * 4, None, None, None)
    data = step.Data(*[None] * 5, 1, 1.0, 0.0)
    step.bind(module).forward(0, data, layers, buffers, None)
    assert calls == ["gather", "dense", "dropout", "dense"]


@pytest.mark.parametrize("name", step.KERNELS)
def test_bind_needs_every_kernel(name):
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
        step.bind(fake_kernels("lacking_kernels", without=[name]))


def test_variants_of_a_kernel_are_told_apart(backend, kernels, tmp_path, monkeypatch):
    """A step kept on disk must not be taken for one that was compiled with other kernels."""
    if kernels.__name__ == "fastnn.kernels.numba_kernels":
        monkeypatch.setattr("fastnn.kernels.numba_cache.CACHE_FOLDER", tmp_path)

    def ones(x, order, step, batch_size, scale, shift, out, team):
        out[...] = 1

    def twos(x, order, step, batch_size, scale, shift, out, team):
        out[...] = 2

    net = fastnn.Network([3, 3], output="identity", bias=False, dtype="float64", backend=backend)
    net.set_weights([([[1, 0, 0], [0, 1, 0], [0, 0, 1]], None)])
    for gather, expected in [(ones, 1), (twos, 2)]:
        net.kernels = types.ModuleType("variant_kernels")
        for name in CONTRACT:
            setattr(net.kernels, name, getattr(kernels, name))
        net.kernels.gather = kernels.compile(gather, True)
        assert net.predict_proba([[0.0, 0.0, 0.0]]).tolist() == [[expected] * 3]


# ---- backends of other packages -------------------------------------------------------------------------------------


@pytest.fixture
def register(monkeypatch):
    """A function that registers a module as a third-party backend for the length of the test."""
    real = importlib.metadata.entry_points

    def register(name, module):
        entry = importlib.metadata.EntryPoint(name, module.__name__, "fastnn.backends")

        def entry_points(**selection):
            return [entry] if selection == {"group": "fastnn.backends"} else real(**selection)

        monkeypatch.setitem(sys.modules, module.__name__, module)
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
        forget()

    def forget():
        backends._registered.cache_clear()
        backends._inspect.cache_clear()

    yield register
    forget()


def test_third_party_backend_with_all_functions_is_ready(register):
    register("third", fake_kernels("third_kernels"))
    assert fastnn.available_backends()["third"].state == backends.READY
    net = fastnn.Network([2, 3, 2], backend="third")
    net.fit([[0.0, 1.0], [1.0, 0.0]], [0, 1], epochs=1)
    assert net.backend == "third"
    assert net.history.backend == "third"


def test_third_party_backend_may_replace_a_single_function(register):
    """All others it has from the reference."""
    module = types.ModuleType("halving_kernels")

    def gather(x, order, step, batch_size, scale, shift, out, team):
        numpy_kernels.gather(x, order, step, batch_size, scale / 2, shift / 2, out, team)

    module.gather = gather
    register("halving", module)
    assert fastnn.available_backends()["halving"].state == backends.READY
    halving = fastnn.Network([2, 3, 2], backend="halving")
    plain = fastnn.Network([2, 3, 2], backend="numpy")
    x = [[0.0, 1.0], [1.0, 0.5]]
    assert halving.predict_proba(x).tolist() == plain.predict_proba([[0.0, 0.5], [0.5, 0.25]]).tolist()
    assert halving.fit(x, [0, 1], epochs=1).backend == "halving"


def test_third_party_backend_without_any_function_says_so(register):
    register("empty", types.ModuleType("empty_kernels"))
    info = fastnn.available_backends()["empty"]
    assert info.state == backends.IMPORT_FAILED == "import failed"
    assert "empty_kernels has none of the functions of the kernel contract: " in info.reason
    with pytest.raises(BackendError, match=r"import failed.*none of the functions"):
        fastnn.Network([2, 3, 2], backend="empty")


def test_builtin_backends_take_nothing_from_the_reference(backend, kernels):
    """What a device computes must not be replaced silently by what the host does."""
    assert kernels is sys.modules[backends._BUILTIN[backend][0]]


def test_third_party_backend_that_is_gone_says_so(register):
    module = fake_kernels("gone_kernels")
    register("gone", module)
    del sys.modules["gone_kernels"]
    info = fastnn.available_backends()["gone"]
    assert info.state == backends.NOT_INSTALLED
    assert "gone_kernels" in info.reason


def test_third_party_backend_cannot_replace_a_builtin_one(register):
    register("numpy", fake_kernels("numpy_of_others"))
    assert backends.resolve_backend("numpy").kernels is numpy_kernels
