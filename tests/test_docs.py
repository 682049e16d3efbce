"""What the documentation shows is run: README's Python and its commands, and the examples in docstrings."""

import doctest
import functools
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn
from fastnn.operations import LOSSES
from fastnn.operations.activations import hidden_activations

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
INSTALLATION = re.compile(r"python3 -m venv \.venv && \.venv/bin/pip install -q -e \S+ && |\.venv/bin/pip install.*")
ELSEWHERE = {  # commands that take a minute or more, and where they are run
    ".venv/bin/fastnn bench\n": "tests/bench/test_harness.py, with less to measure",
    ".venv/bin/python -m pytest -q\n": "by .ci/run",
}


def documented(folder, package):
    """Names of a package's modules that have examples."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        if re.search(r"^ +>>> |^>>> ", path.read_text(encoding="utf-8"), re.MULTILINE):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join((package, *(part for part in parts if part != "__init__")))


MODULES = [
    *documented("fastnn", "fastnn"),
    *documented("kernels", "fastnn.kernels"),
    *documented("bench", "fastnn.bench"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where README's blocks are run, one after the other: what one leaves, the next may read."""
    return tmp_path_factory.mktemp("readme")


def run(command, folder, **options):
    environment = {key: value for key, value in os.environ.items() if key != "FASTNN_BACKEND"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False, **options
    )


@functools.cache
def has_mnist():
    try:
        fastnn.datasets.load("mnist")
    except fastnn.DatasetUnavailableError:
        return False
    return True


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block {i}" for i in range(1, len(BLOCKS) + 1)])
def test_readme_s_python_runs(block, folder):
    if not has_mnist():
        block = block.replace('load("mnist")', 'load("digits")')
    done = run([sys.executable, "-W", "error", "-c", block], folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", COMMANDS, ids=[f"block {i}" for i in range(1, len(COMMANDS) + 1)])
def test_readme_s_commands_run(block, folder):
    """But for what installs, which CI does before the tests."""
    commands = INSTALLATION.sub("", block)
    if commands in ELSEWHERE or not commands.strip():
        pytest.skip(f"run {ELSEWHERE.get(commands, 'by .ci/run: it installs')}")
    done = run(["bash", "-euo", "pipefail", "-c", commands.replace(".venv/bin/", "")], folder)
    assert done.returncode == 0, done.stderr


def test_commands_that_are_run_elsewhere_are_still_in_readme():
    assert set(ELSEWHERE) <= {INSTALLATION.sub("", block) for block in COMMANDS}


def test_a_block_that_fails_is_noticed(folder):
    with pytest.raises(AssertionError):
        test_readme_s_python_runs("import fastnn\nfastnn.no_such_name", folder)
    with pytest.raises(AssertionError):
        test_readme_s_commands_run(
            "python3 -m venv .venv && .venv/bin/pip install -q -e . && .venv/bin/fastnn trai\n", folder
        )


def test_readme_has_the_commands_that_ci_and_newcomers_run():
    assert "fastnn train" in re.search(r"^## Train on MNIST.*?^```sh\n(.*?)^```", README, re.M | re.S)[1]
    assert "pytest" in re.search(r"^## Run the tests.*?^```sh\n(.*?)^```", README, re.M | re.S)[1]


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module, monkeypatch, tmp_path):
    if module.startswith("fastnn.interchange.torch"):
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0


def test_public_functions_and_classes_have_examples():
    """Of those that people begin with."""
    for module in (
        "fastnn.network",
        "fastnn.many",
        "fastnn.callbacks",
        "fastnn.sweeps.sweeping",
        "fastnn.plots.curves",
    ):
        assert module in MODULES


# ---- the pages for those who read and change the source -------------------------------------------------------------

PAGES = [ROOT / ".github" / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    names = set(re.findall(r"`((?:fastnn|kernels|bench|tests|\.ci)/[\w./*]+)`", page.read_text(encoding="utf-8")))
    assert len(names) > 5
    assert [name for name in sorted(names) if not list(ROOT.glob(name))] == []


def test_a_mini_batch_passes_at_most_five_files():
    """Each has the function that the page names, and calls the next one."""
    page = (ROOT / ".github" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    way = re.findall(r"^\d\. `([\w/.]+)`, `(?:\w+\.)?(\w+)`", page, re.MULTILINE)
    assert 3 < len(way) <= 5
    texts = [(ROOT / file).read_text(encoding="utf-8") for file, _ in way]
    for text, (_, function) in zip(texts, way, strict=True):
        assert re.search(rf"def {function}\b", text)
    assert "Workspace(" in texts[0]
    assert "workspace.run(bind(self._kernels).train_steps" in texts[1]
    assert ".kernels.launch(function" in texts[2]
    assert "dense(" in texts[3]


def test_docstrings_of_network_name_all_operations():
    hidden, losses = hidden_activations(), LOSSES
    assert [name for name in hidden if not re.search(rf"\b{name}\b", fastnn.Network.__doc__)] == []
    assert [name for name in losses if not re.search(rf"\b{name}\b", fastnn.Network.fit.__doc__)] == []


def test_readme_lists_all_environment_variables():
    sources = [*(ROOT / "fastnn").rglob("*.py"), *(ROOT / "kernels").glob("*.py"), *(ROOT / "bench").rglob("*.py")]
    sources += [ROOT / "tests" / "support" / "require.py"]
    used = {name for path in sources for name in re.findall(r"\bFASTNN_[A-Z_]+\b", path.read_text(encoding="utf-8"))}
    listed = set(re.findall(r"^\| `(FASTNN_[A-Z_]+)`", README, re.MULTILINE))
    assert used == listed


def test_readme_lists_all_operations():
    for table in (fastnn.operations.ACTIVATIONS, fastnn.operations.LOSSES, fastnn.operations.OPTIMIZERS):
        assert [
            name
            for name in table
            if not re.search(rf"^\| (?:hidden|outputs|losses|optim).*\b{name}\b", README, re.MULTILINE)
        ] == []
