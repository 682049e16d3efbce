"""Random numbers that every backend draws alike: Philox4x32-10; Salmon et al., SC11, section 4.3."""

import numpy as np

from fastnn.kernels.numba_cache import compile

__all__ = ["philox"]


@compile
def philox(group, step, layer, stream):
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = np.uint64(group) & mask, np.uint64(step), np.uint64(layer), np.uint64(stream[2])
    k0, k1 = np.uint64(stream[0]), np.uint64(stream[1])
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ k0, p1 & mask, (p0 >> shift) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
    return c0, c1, c2, c3
