"""``fastnn predict``."""

import argparse

from fastnn.commands.options import add_common, usage
from fastnn.commands.printing import print_json
from fastnn.images import read_images
from fastnn.storage import load

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("file", metavar="FILE", help="a network saved by train --save")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="pictures, .npy arrays or IDX files")
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    """``fastnn predict``: a line an image with what the network says, and how sure it is."""
    with usage():
        network = load(options.file, options.backend, options.threads, options.precision)
    rows = []
    for path in options.images:
        images = read_images(path, network.sizes[0])
        answers, outputs = network.predict(images), network.predict_proba(images)
        for i, (answer, output) in enumerate(zip(answers, outputs, strict=True)):
            name = path if len(images) == 1 else f"{path}[{i}]"
            rows.append({"image": name, "prediction": answer.tolist(), "outputs": output.tolist()})
    if options.json:
        print_json("predict", {"predictions": rows})
    else:
        for row in rows:
            print(f"{row['image']}: {row['prediction']}  ({100 * max(row['outputs']):.1f} %)")
    return 0
