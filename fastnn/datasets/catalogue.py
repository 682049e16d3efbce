"""The datasets by name: what they are, which files they consist of, where these are published."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["DATASETS", "FILES", "MIRRORS", "TITLES", "FileEntry"]

DATASETS: dict[str, str] = {
    "auto": "mnist where it can be had, else digits",
    "mnist": "60,000 + 10,000 handwritten digits, 28x28, LeCun, Cortes and Burges (11 MB download)",
    "fashion-mnist": "60,000 + 10,000 pieces of clothing, 28x28, Zalando Research (30 MB download)",
    "digits": "20,000 + 4,000 digits, 28x28, varied from the 1,797 that scikit-learn ships (no network needed)",
}

TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}


@dataclass(frozen=True)
class FileEntry:
    """One published file.

    Attributes
    ----------
    array : str
        The array of the dataset that it holds.
    name : str
        Its standard name, without ``.gz``.
    nbytes : int
        Its size unpacked.
    sha256 : str
        Digest, hexadecimal.
    digest_of : {"content", "gzip"}
        Whether the digest is of the unpacked content or of the gzip file as published.
    """

    array: str
    name: str
    nbytes: int
    sha256: str
    digest_of: Literal["content", "gzip"]


_STANDARD = (
    ("x_train", "train-images-idx3-ubyte", 16 + 60_000 * 784),
    ("y_train", "train-labels-idx1-ubyte", 8 + 60_000),
    ("x_test", "t10k-images-idx3-ubyte", 16 + 10_000 * 784),
    ("y_test", "t10k-labels-idx1-ubyte", 8 + 10_000),
)

# MNIST's mirrors differ in their gzip wrapping, so only the digest of the unpacked content is common to them.
_MNIST_CONTENT = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)

# Fashion-MNIST's digests are published for the gzip files only (as MD5 in its README, as SHA-256 by several loaders),
# and both mirrors serve those very files, so here the gzip file is what is checked.
_FASHION_GZIP = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)

FILES: dict[str, tuple[FileEntry, ...]] = {
    "mnist": tuple(
        FileEntry(*standard, digest, "content") for standard, digest in zip(_STANDARD, _MNIST_CONTENT, strict=True)
    ),
    "fashion-mnist": tuple(
        FileEntry(*standard, digest, "gzip") for standard, digest in zip(_STANDARD, _FASHION_GZIP, strict=True)
    ),
}

# Tried in this order. Plain http is no weakness where it stands: every file is checked against its digest.
MIRRORS: dict[str, tuple[str, ...]] = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://raw.githubusercontent.com/fgnt/mnist/master/",
    ),
    "fashion-mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
}
