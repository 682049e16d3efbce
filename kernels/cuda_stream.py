"""Data sets that are larger than the device's memory."""

from collections.abc import Iterator

import numpy as np

from fastnn.kernels.cuda_device import Uploads, to_numpy, zeros

__all__ = ["StreamedSamples"]

_HALF_BYTES = 64 * 2**20  # a copy of this size takes a millisecond or more: long against what it costs to start one


class StreamedSamples:
    """Samples that stay with the host and come to the device as the epoch reaches them.

    There they have a ring of two halves. While the device computes on one, the host gathers the next mini-batches into
    page-locked memory, in the epoch's order, and they are copied to the other. `gather` finds the sample at place p of
    the order in row ``p % rows`` of the ring.

    Parameters
    ----------
    values : (n, n_in) uint8, float32 or float64
    """

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.shape, self.dtype, self.size = values.shape, values.dtype, values.size
        self._batch_size = 0

    def feed(self, order, batch_size: int, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Divide mini-batches `first` to ``last - 1`` into spans, each on its way to the device when it is yielded.

        When the next one is asked for, the computation on the last has to be launched.
        """
        self.ring(batch_size)
        places = to_numpy(order[first * batch_size : last * batch_size])
        for start in self._starts(first, last):
            half = start // self._steps % 2
            end = min(last, (start // self._steps + 1) * self._steps)
            rows = places[(start - first) * batch_size : (end - first) * batch_size]
            self._send(half, start % self._steps * batch_size, rows)
            try:
                yield start, end
            finally:  # some of the computation is launched even if it is interrupted
                self._computed[half] = self._uploads.mark()

    def ring(self, batch_size: int):
        """The ring for mini-batches of this size, (rows, n_in) on the device."""
        if batch_size != self._batch_size:
            bytes_a_step = batch_size * self.shape[1] * self.dtype.itemsize
            self._batch_size, self._steps = batch_size, max(1, _HALF_BYTES // max(bytes_a_step, 1))
            rows = self._steps * batch_size
            self._uploads = Uploads()
            self._rooms = [self._uploads.room((rows, self.shape[1]), self.dtype) for _ in range(2)]
            self._ring = zeros((2 * rows, self.shape[1]), self.dtype)
            # Of each half: what copied to it last, and the mark after what computed on it last, or made it.
            self._copied, self._computed = [None, None], [self._uploads.mark()] * 2
        return self._ring

    def _starts(self, first: int, last: int) -> list[int]:
        """The first mini-batch, and those that begin a half."""
        return [first, *range((first // self._steps + 1) * self._steps, last, self._steps)]

    def _send(self, half: int, start: int, rows: np.ndarray) -> None:
        if self._copied[half] is not None:
            self._copied[half].synchronize()
        room = self._rooms[half][start : start + len(rows)]
        self._values.take(rows, axis=0, out=room, mode="clip")
        begin = half * len(self._rooms[half]) + start
        self._copied[half] = self._uploads.put(room, self._ring[begin : begin + len(rows)], self._computed[half])
