"""Every CUDA source compiles for every architecture that is claimed, within its budget of registers; no device."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import require

from fastnn.kernels.codes import PRECISIONS
from fastnn.kernels.cuda_modules import REALS, TILES, Product, all_modules
from fastnn.kernels.cuda_source import Module

ARCHITECTURES = ["sm_80", "sm_90a", "sm_100"]  # Ampere, Hopper, Blackwell
REGISTERS = 65536  # of a multiprocessor
SPILLED = 8  # bytes a thread: the assembler gives away a value or two where that makes room for one more block
SHARED = {"sm_80": 163, "sm_90a": 227, "sm_100": 227}  # KiB that a block can have
BUDGETS = {
    # registers a thread: what the sources need today, rounded up. More means fewer blocks on a multiprocessor.
    ("batch.cu", "float", None): 40,
    ("batch.cu", "double", None): 40,
    ("deform.cu", "float", None): 56,
    ("deform.cu", "double", None): 64,
    ("gradients.cu", "float", None): 40,
    ("gradients.cu", "double", None): 40,
    ("loss.cu", "float", None): 64,
    ("loss.cu", "double", None): 112,
    ("optimizers.cu", "float", None): 56,
    ("optimizers.cu", "double", None): 72,
    ("persistent.cu", "float", None): 160,
    ("products.cu", "float", 16): 64,
    ("products.cu", "float", 32): 128,
    ("products.cu", "float", 64): 128,
    ("products.cu", "float", 128): 128,
    ("products.cu", "double", 16): 112,
    ("products.cu", "double", 32): 160,
    ("products.cu", "double", 64): 184,
}


def compile_module(module, architecture):
    """{kernel: (registers a thread, bytes that it spills or has on a stack)}, as the assembler reports."""
    nvrtc = require.nvrtc()

    def check(result, program=None):
        status, *values = result
        if int(status):
            log = bytearray(nvrtc.nvrtcGetProgramLogSize(program)[1])
            nvrtc.nvrtcGetProgramLog(program, log)
            raise AssertionError(f"{module.file} {module.macros} for {architecture}:\n{log.decode()}")
        return values[0] if values else None

    program = check(nvrtc.nvrtcCreateProgram(module.text().encode(), module.file.encode(), 0, [], []))
    options = [b"-std=c++17", f"-arch={architecture}".encode(), b"--ptxas-options=-v"]
    check(nvrtc.nvrtcCompileProgram(program, len(options), options), program)
    log = b" " * check(nvrtc.nvrtcGetProgramLogSize(program))
    check(nvrtc.nvrtcGetProgramLog(program, log))
    return read_report(log.decode())


def read_report(log):
    usage = {}
    for part in re.split(r"Compiling entry function", log)[1:]:
        name = re.search(r"'(\w+)'", part)[1]
        memory = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part)
        usage[name] = int(re.search(r"Used (\d+) registers", part)[1]), max(map(int, memory.groups()))
    return usage


def macro(module, name):
    return next((m.partition("=")[2] for m in module.macros if m.startswith(f"{name}=")), None)


def complaints(module, architecture, usage):
    """What is over budget."""
    tile = macro(module, "TILE_M")
    limit = BUDGETS[module.file, macro(module, "REAL"), int(tile) if tile else None]
    where = f"{module.file} {' '.join(module.macros)} for {architecture}"
    found = []
    for kernel, (registers, spilled) in usage.items():
        if registers > limit:
            found.append(f"{where}: {kernel} takes {registers} registers, the budget is {limit}")
        if spilled > SPILLED:
            found.append(f"{where}: {kernel} spills {spilled} bytes, the budget is {SPILLED}")
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_sources_compile_within_their_budgets(architecture):
    modules = list(all_modules())
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda module: compile_module(module, architecture), modules))
    assert all(reports)
    assert [c for pair in zip(modules, reports, strict=True) for c in complaints(pair[0], architecture, pair[1])] == []


def test_a_source_that_does_not_compile_is_seen():
    wrong = Module("optimizers.cu", ("REAL=no_such_type",))
    with pytest.raises(AssertionError, match="no_such_type"):
        compile_module(wrong, "sm_80")


def test_a_kernel_over_budget_is_seen():
    module = Module("loss.cu", ("REAL=float",))
    usage = compile_module(module, "sm_80")
    assert set(usage) == {"softmax", "loss_gradient"}
    assert complaints(module, "sm_80", usage) == []
    for worse in [(65, 0), (64, 9)]:
        assert len(complaints(module, "sm_80", usage | {"softmax": worse})) == 1


def test_every_budget_is_used():
    keys = {(m.file, macro(m, "REAL"), int(macro(m, "TILE_M") or 0) or None) for m in all_modules()}
    assert keys == set(BUDGETS)


def test_every_precision_and_type_is_compiled():
    macros = {m for module in all_modules() for m in module.macros}
    assert {p.upper() for p in PRECISIONS} | {f"REAL={real}" for real in REALS.values()} <= macros


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("real", TILES)
def test_a_block_of_every_tile_fits_a_multiprocessor(real, architecture):
    for tile in TILES[real]:
        assert tile.threads <= 1024
        assert tile.threads * BUDGETS["products.cu", real, tile.m] <= REGISTERS
        for a_by_k in (False, True):
            for b_by_k in (False, True):
                shared = tile.shared(real, Product(100, 100, 100, a_by_k, b_by_k))
                assert shared <= SHARED[architecture] * 1024


def test_messages_of_the_compiler_name_the_file_and_its_line():
    text = Module("loss.cu", ("REAL=float",)).text()
    lines = text.splitlines()
    at = lines.index("struct Counts {")
    start = max(i for i in range(at) if lines[i].startswith("#line"))
    number, name = re.fullmatch(r'#line (\d+) "(.*)"', lines[start]).groups()
    source = (require.CUDA / name).read_text(encoding="utf-8").splitlines()
    assert source[int(number) + at - start - 2] == "struct Counts {"
