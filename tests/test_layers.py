"""The structure of the library: imports run downwards only, those inside functions and for types too."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"fastnn": "fastnn", "fastnn.kernels": "kernels", "fastnn.bench": "bench"}


def module_files(packages=PACKAGES, root=ROOT):
    """{module: file} of all that is installed; the suites for pytest-benchmark are scripts, not modules."""
    files = {}
    for package, folder in packages.items():
        for path in (root / folder).rglob("*.py"):
            parts = path.relative_to(root / folder).with_suffix("").parts
            if not path.name.startswith(("bench_", "conftest")):
                files[".".join((package, *(part for part in parts if part != "__init__")))] = path
    return files


def imported_modules(path, modules):
    """The modules of the library that a file imports anywhere: at its top, in a function, for types only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            inner = [name for name in names if name in modules]
            yield from inner
            if len(inner) < len(names) and node.module in modules:
                yield node.module


def find_circle(files):
    """Modules that import each other in a circle, or None."""
    graph = {name: set(imported_modules(path, files)) - {name} for name, path in files.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_imports_run_downwards():
    assert find_circle(module_files()) is None


@pytest.mark.parametrize(
    "line", ["from fastnn.b import g", "def f():\n    import fastnn.b", "if False:\n    from fastnn import b"]
)
def test_a_circle_is_found(line, tmp_path):
    folder = tmp_path / "fastnn"
    folder.mkdir()
    for name, text in {"__init__": "", "a": line, "b": "from fastnn import c", "c": "import fastnn.a"}.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    files = module_files({"fastnn": "fastnn"}, tmp_path)
    assert set(find_circle(files)) == {"fastnn.a", "fastnn.b", "fastnn.c"}


LAYERS = [  # from the ground up; a module may import those of its own row and of the rows before
    ["fastnn.errors", "fastnn.choices", "fastnn.checks", "fastnn.files", "fastnn.interruption", "fastnn.version"],
    ["fastnn.operations"],
    ["fastnn.kernels"],
    ["fastnn.step", "fastnn.augmentation"],
    ["fastnn.backends", "fastnn.measured"],
    ["fastnn.model"],
    ["fastnn.loaded_samples"],
    ["fastnn.run_data", "fastnn.buffers", "fastnn.objective"],
    ["fastnn.workspace"],
    ["fastnn.training", "fastnn.evaluation"],
    ["fastnn.storage", "fastnn.callbacks"],
    ["fastnn.runs"],
    ["fastnn.network"],
    ["fastnn.many", "fastnn.interchange", "fastnn.sklearn"],
    ["fastnn.sweeps", "fastnn.plots"],
    ["fastnn.commands"],
    ["fastnn.bench", "fastnn.cli"],
]


def level(module):
    rows = [i for i, row in enumerate(LAYERS) if any(module == name or module.startswith(f"{name}.") for name in row)]
    return max(rows, default=None)  # of fastnn.kernels.x: that of fastnn.kernels


def test_no_layer_imports_a_higher_one():
    files = module_files()
    upward = [
        f"{name} imports {other}"
        for name, path in files.items()
        for other in imported_modules(path, files)
        if level(name) is not None and level(other) is not None and level(other) > level(name)
    ]
    assert upward == []
