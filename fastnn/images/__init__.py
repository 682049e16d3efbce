"""One's own images as samples for a network: files are read, their ink found, and brought into MNIST's form.

The command ``fastnn predict`` answers them.
"""

from fastnn.images.preparation import prepare
from fastnn.images.reading import Sample, iterate_images, read_images

__all__ = ["Sample", "iterate_images", "prepare", "read_images"]
