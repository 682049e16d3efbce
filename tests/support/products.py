"""Which matrix products there are for each backend."""

import pytest

with_all_products = pytest.mark.parametrize(
    ("backend", "gemm"),
    [
        ("numpy", None),
        ("numba", "simd"),
        ("numba", "blas"),
        pytest.param("cupy", None, marks=pytest.mark.gpu),
        ("cuda_on_cpu", None),
    ],
    indirect=True,
)
"""For tests that take `gemm`; instead of what `backend` alone would run them on."""
