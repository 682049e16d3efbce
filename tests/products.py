"""Which matrix products there are for each backend."""

import pytest

with_all_products = pytest.mark.parametrize(
    ("backend", "gemm"), [("numpy", None), ("numba", "simd"), ("numba", "blas"), ("cupy", None)], indirect=True
)
"""For tests that take `gemm`; instead of what `backend` alone would run them on."""
