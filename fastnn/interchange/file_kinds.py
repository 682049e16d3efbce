"""What kind of network a file holds, by its content."""

import zipfile
from pathlib import Path

__all__ = ["file_kind"]

_OF_TORCH = (".pt", ".pth", ".ckpt", ".tar", ".bin")


def file_kind(path: str | Path) -> str:
    """Npz, torch, pickle, onnx, or fastnn: its own, or none at all, whose reader says what is wrong with it."""
    path = Path(path)
    with open(path, "rb") as file:
        start = file.read(16)
    if start[8:9] == b"{":  # first: the eight bytes before it are a number, which may look like the others' beginnings
        return "fastnn" if _is_own(path) else "torch"
    if start.startswith(b"PK"):
        return "npz" if _is_npz(path) else "torch"
    if start.startswith(b"\x80\x02\x8a\n"):  # torch.save's of before 2020
        return "torch"
    if start.startswith(b"\x80"):
        return "pickle"
    return "onnx" if path.suffix.lower() == ".onnx" else "fastnn"


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return path.suffix.lower() not in _OF_TORCH


def _is_own(path: Path) -> bool:
    """Whether a safetensors file is one of fastnn's, or so damaged that nobody can tell."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return "fastnn" in (file.metadata() or {})
    except Exception:  # whatever a parser raises over damaged bytes
        return True
