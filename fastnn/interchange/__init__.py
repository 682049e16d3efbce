"""Networks in and out: ``.npz`` files, ONNX, folders of ``.npy`` files, scikit-learn's and PyTorch's models.

What comes in is a `fastnn.Network` like any other; what goes out says the same of the same samples. Files from which
code could run, pickles, are neither read nor written.
"""

from fastnn.interchange.named_arrays import load_arrays, load_npy_folder, save_npy_folder
from fastnn.interchange.npz_file import load_npz, save_npz
from fastnn.interchange.onnx_export import export_onnx
from fastnn.interchange.sklearn_models import from_sklearn
from fastnn.interchange.torch_files import load_torch, save_torch
from fastnn.interchange.torch_models import from_torch, to_torch

__all__ = [
    "export_onnx",
    "from_sklearn",
    "from_torch",
    "load_arrays",
    "load_npy_folder",
    "load_npz",
    "load_torch",
    "save_npy_folder",
    "save_npz",
    "save_torch",
    "to_torch",
]
