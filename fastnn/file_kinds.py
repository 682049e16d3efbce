"""What kind of network a file holds, by its content."""

import zipfile
from pathlib import Path

__all__ = ["file_kind"]

_OF_TORCH = (".pt", ".pth", ".ckpt", ".tar", ".bin")


def file_kind(path: str | Path) -> str:
    """Npz, arrays (an .npz of others), torch, pickle, onnx; or fastnn: its own, or none that is known."""
    path = Path(path)
    with open(path, "rb") as file:
        start = file.read(16)
    if start[8:9] == b"{":  # first: the eight bytes before it are a number, which may look like the others' beginnings
        return "fastnn" if _is_own(path) else "torch"
    if start.startswith(b"PK"):
        return _kind_of_zip(path)
    if start.startswith(b"\x80\x02\x8a\n"):  # torch.save's of before 2020
        return "torch"
    if start.startswith(b"\x80"):
        return "pickle"
    return "onnx" if path.suffix.lower() == ".onnx" else "fastnn"


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "torch" if path.suffix.lower() in _OF_TORCH else "npz"
    if "fastnn.npy" in names:
        return "npz"
    return "arrays" if any(name.endswith(".npy") for name in names) else "torch"


def _is_own(path: Path) -> bool:
    """Whether a safetensors file is one of fastnn's, or so damaged that nobody can tell."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return "fastnn" in (file.metadata() or {})
    except Exception:  # whatever a parser raises over damaged bytes
        return True
