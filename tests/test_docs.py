"""What the documentation shows is run: README's Python, and the examples in docstrings."""

import doctest
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block {i}" for i in range(1, len(BLOCKS) + 1)])
def test_readme_s_python_runs(block, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "FASTNN_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_readme_has_the_commands_that_ci_and_newcomers_run():
    assert "fastnn train" in re.search(r"^## Train on MNIST.*?^```sh\n(.*?)^```", README, re.M | re.S)[1]
    assert "pytest" in re.search(r"^## Run the tests.*?^```sh\n(.*?)^```", README, re.M | re.S)[1]


@pytest.mark.parametrize("module", ["fastnn.choices", "fastnn.network", "fastnn.datasets"])
def test_examples_in_docstrings(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
