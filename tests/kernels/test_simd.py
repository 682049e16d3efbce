"""The matrix products as C functions: next to forbidden memory, at other lengths of vector, and which are chosen."""

import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path

import guard_pages
import pytest

from fastnn.kernels import numba_kernels, numba_products, numba_simd

FOLDER = Path(guard_pages.__file__).parent
X86 = platform.machine().lower() in ("x86_64", "amd64")
needs_mprotect = pytest.mark.skipif(os.name != "posix", reason="needs mprotect")
needs_isa = pytest.mark.skipif(numba_simd.find_isa() is None, reason="numba_simd does not know this CPU")


def python(*arguments, **environment):
    """A fresh process in this folder."""
    command, env = [sys.executable, *arguments], {**os.environ, **environment}
    return subprocess.run(command, cwd=FOLDER, env=env, capture_output=True, text=True, timeout=300)


def check_survives(process, instructions):
    """The process ran to its end, on these vector instructions, and found hundreds of products right."""
    assert process.returncode == 0, f"ended with {process.returncode}\n{process.stderr}"
    found, count = process.stdout.split()
    assert found == instructions
    assert int(count) > 1000


# ---- guard pages ----------------------------------------------------------------------------------------------------


@needs_mprotect
@pytest.mark.parametrize("side", ["end", "begin"])
@pytest.mark.parametrize("kind", ["simd", "blas", *numba_kernels.precisions()])
def test_products_stay_within_their_arrays(kind, side):
    if kind == "simd" and numba_simd.find_isa() is None:
        pytest.skip("numba_simd does not know this CPU")
    check_survives(python("guard_pages.py", kind, side), numba_simd.ISA.name)


@needs_mprotect
@needs_isa
@pytest.mark.parametrize(("side", "fault"), [("end", "depth"), ("begin", "start"), ("end", "scratch")])
def test_guard_pages_kill(side, fault):
    assert -python("guard_pages.py", "simd", side, fault).returncode in (signal.SIGSEGV, signal.SIGBUS)


@needs_mprotect
@needs_isa
@pytest.mark.parametrize(("fault", "message"), [("share", "wrote outside its share"), ("result", "off by")])
def test_guard_pages_program_notices(fault, message):
    process = python("guard_pages.py", "simd", "end", fault)
    assert process.returncode == 1
    assert re.search(f"AssertionError: .*{message}", process.stderr)


# ---- other vectors than this CPU's longest --------------------------------------------------------------------------


CPUS = {  # instructions: (LLVM's name of a CPU that has no better ones, its features)
    "AVX2": ("haswell", "+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2"),
    "SSE2": ("x86-64", "+sse2"),
}


@needs_mprotect
@pytest.mark.skipif(not X86, reason="these are vectors of x86-64")
@pytest.mark.parametrize("side", ["end", "begin"])
@pytest.mark.parametrize("instructions", CPUS)
def test_products_on_shorter_vectors(instructions, side):
    isa = next(isa for isa in numba_simd.CPU_ISAS if isa.name == instructions)
    if not numba_simd.has_features(*isa.features):
        pytest.skip(f"this CPU has no {instructions}")
    name, features = CPUS[instructions]
    process = python("guard_pages.py", "simd", side, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features)
    check_survives(process, instructions)


# numba is imported before: what it compiles for is the real machine.
PRETEND = "import platform, numba; platform.machine = lambda: 'aarch64'\n"


@needs_mprotect
@pytest.mark.skipif(not X86 or not numba_simd.has_features("fma"), reason="needs an x86-64 with FMA")
@pytest.mark.parametrize("side", ["end", "begin"])
def test_products_with_the_tile_of_arm(side, tmp_path):
    """Its shape, compiled for this CPU. Into a folder of its own, because numba takes the code for this CPU's."""
    code = PRETEND + f"import guard_pages; guard_pages.main('simd', '{side}')"
    check_survives(python("-c", code, FASTNN_CACHE_DIR=str(tmp_path)), "NEON")


CROSS_COMPILE = """
import re
import llvmlite.binding as llvm, numpy as np
from fastnn.kernels import numba_cache, numba_products

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
target = llvm.Target.from_triple("aarch64-unknown-linux-gnu").create_target_machine(cpu="neoverse-n1", opt=3)
for real in ("float32", "float64"):
    numba_products.load(np.dtype(real), 1)
for (_, dtype, _), compiled in numba_cache.compiled_for_c.items():
    text = re.sub('target triple = ".*"', f'target triple = "{target.triple}"', compiled.inspect_llvm())
    text = re.sub('target datalayout = ".*"', f'target datalayout = "{target.target_data}"', text)
    assembly = target.emit_assembly(llvm.parse_assembly(text))
    print(dtype, len(re.findall(r"fmla\\s+v[0-9]+[.][24][sd]", assembly)), len(re.findall("bl\\s+fma", assembly)))
"""


@pytest.mark.skipif(not X86, reason="compiles from x86-64 for ARM")
def test_tile_compiles_for_arm(tmp_path):
    """To vector instructions, without a call of the C library's fma."""
    from llvmlite import binding

    binding.initialize_all_targets()
    try:
        binding.Target.from_triple("aarch64-unknown-linux-gnu")
    except RuntimeError as error:
        pytest.skip(f"this LLVM does not compile for ARM: {error}")
    process = python("-c", PRETEND + CROSS_COMPILE, FASTNN_CACHE_DIR=str(tmp_path))
    assert process.returncode == 0, process.stderr
    found = [line.split() for line in process.stdout.splitlines()]
    assert [dtype for dtype, _, _ in found] == ["float32", "float32", "float64", "float64"]
    for _, vectors, calls in found:
        assert int(vectors) >= 16 + 8, "one multiply-add for each accumulator of a wide tile and a slim one"
        assert int(calls) == 0


# ---- which products -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "features", "expected"),
    [
        ("x86_64", "+sse2,+avx2,+fma,+avx512f", "AVX-512"),
        ("AMD64", "+sse2,+avx2,+fma,-avx512f", "AVX2"),
        ("x86_64", "+sse2,+avx2", "SSE2"),
        ("x86_64", "", None),
        ("aarch64", "", "NEON"),
        ("arm64", "+neon", "NEON"),
        ("riscv64", "+v", None),
        ("ppc64le", "", None),
    ],
)
def test_isa(monkeypatch, machine, features, expected):
    codegen = type("Codegen", (), {"magic_tuple": lambda self: ("triple", "cpu", features)})
    monkeypatch.setattr(numba_simd.cpu_target.target_context, "codegen", codegen)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    isa = numba_simd.find_isa()
    assert (isa.name if isa else None) == expected


@needs_isa
@pytest.mark.parametrize(("value", "expected"), [(None, "simd"), ("", "simd"), ("simd", "simd"), ("blas", "blas")])
def test_choice_on_a_known_cpu(monkeypatch, value, expected):
    if value is not None:
        monkeypatch.setenv("FASTNN_GEMM", value)
    assert numba_products.choose() == expected


@pytest.mark.parametrize("value", [None, "", "blas"])
def test_choice_on_an_unknown_cpu(monkeypatch, value):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    if value is not None:
        monkeypatch.setenv("FASTNN_GEMM", value)
    assert numba_simd.find_isa() is None
    assert numba_products.choose() == "blas"


def test_vectors_that_are_not_known_cannot_be_chosen(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    monkeypatch.setenv("FASTNN_GEMM", "simd")
    with pytest.raises(ValueError, match=r"FASTNN_GEMM=simd: .* no vector instructions for this CPU; use blas"):
        numba_products.choose()


@pytest.mark.parametrize("value", ["foo", "SIMD", " blas"])
def test_unknown_choice(monkeypatch, value):
    monkeypatch.setenv("FASTNN_GEMM", value)
    with pytest.raises(ValueError, match=f"FASTNN_GEMM must be simd or blas, got '{value}'"):
        numba_products.choose()


@pytest.mark.parametrize("value", ["foo", "simd"])
def test_network_says_what_is_wrong_with_the_choice(monkeypatch, value):
    """Not only where the products are chosen: the message comes through to who trains."""
    import fastnn

    net = fastnn.Network([2, 2], backend="numba")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    monkeypatch.setenv("FASTNN_GEMM", value)
    with pytest.raises(ValueError, match="FASTNN_GEMM"):
        net.predict([[0.0, 1.0]])
