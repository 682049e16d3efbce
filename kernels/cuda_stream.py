"""Data sets that are larger than the device's memory."""

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from fastnn.kernels.cuda_device import Uploads, to_numpy, zeros

__all__ = ["StreamedSamples"]

_HALF_BYTES = 64 * 2**20  # a copy of this size takes a millisecond or more: long against what it costs to start one


class StreamedSamples:
    """Samples that stay in the host's memory and are copied to the device as the epoch needs them.

    The device has a ring buffer of two halves. While it computes on one, the host gathers the next mini-batches into
    page-locked memory, in the epoch's order, and they are copied to the other. `gather` finds the sample at place p of
    the order in row ``p % rows`` of the ring.

    Parameters
    ----------
    values : (n, n_in) uint8, float32 or float64
    """

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values
        self.shape, self.dtype, self.size = values.shape, values.dtype, values.size
        self._batch_size = 0

    def feed(self, order: Any, batch_size: int, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Divide mini-batches `first` to ``last - 1`` into spans, the copy of each begun when it is yielded.

        The computation on a span has to be launched before the next one is asked for.
        """
        self.ring(batch_size)
        places = to_numpy(order[first * batch_size : last * batch_size])
        starts = [first, *range((first // self._steps + 1) * self._steps, last, self._steps)]
        for start, end in zip(starts, [*starts[1:], last], strict=True):
            half = start // self._steps % 2
            rows = places[(start - first) * batch_size : (end - first) * batch_size]
            self._send(half, start % self._steps * batch_size, rows)
            try:
                yield start, end
            finally:  # some of the computation is launched even if it is interrupted
                self._computed[half] = self._uploads.record_event()

    def ring(self, batch_size: int) -> Any:
        """The ring buffer for mini-batches of this size, (rows, n_in) on the device."""
        if batch_size != self._batch_size:
            bytes_a_step = batch_size * self.shape[1] * self.dtype.itemsize
            self._batch_size, self._steps = batch_size, max(1, _HALF_BYTES // max(bytes_a_step, 1))
            rows = self._steps * batch_size
            self._uploads = Uploads()
            self._pinned = [self._uploads.pinned_array((rows, self.shape[1]), self.dtype) for _ in range(2)]
            self._ring = zeros((2 * rows, self.shape[1]), self.dtype)
            # Of each half: the last copy to it, and an event after the last computation on it, or after its creation.
            self._copied: list[Any] = [None, None]
            self._computed = [self._uploads.record_event()] * 2
        return self._ring

    def _send(self, half: int, start: int, rows: NDArray[Any]) -> None:
        if self._copied[half] is not None:
            self._copied[half].synchronize()
        pinned = self._pinned[half][start : start + len(rows)]
        self._values.take(rows, axis=0, out=pinned, mode="clip")
        begin = half * len(self._pinned[half]) + start
        self._copied[half] = self._uploads.copy(pinned, self._ring[begin : begin + len(rows)], self._computed[half])
