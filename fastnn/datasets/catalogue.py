"""The datasets by name: what they are, which files they consist of, where these are published."""

from dataclasses import dataclass

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
    sha256, gzip_sha256 : str
        Digests, hexadecimal, of the unpacked content and of the gzip file that the mirrors have.
    """

    array: str
    name: str
    nbytes: int
    sha256: str
    gzip_sha256: str


_STANDARD = (
    ("x_train", "train-images-idx3-ubyte", 16 + 60_000 * 784),
    ("y_train", "train-labels-idx1-ubyte", 8 + 60_000),
    ("x_test", "t10k-images-idx3-ubyte", 16 + 10_000 * 784),
    ("y_test", "t10k-labels-idx1-ubyte", 8 + 10_000),
)

_SHA256 = {
    "mnist": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "fashion-mnist": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}

_GZIP_SHA256 = {
    "mnist": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    "fashion-mnist": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
}

FILES: dict[str, tuple[FileEntry, ...]] = {
    name: tuple(FileEntry(*row, *two) for row, *two in zip(_STANDARD, _SHA256[name], _GZIP_SHA256[name], strict=True))
    for name in _SHA256
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
