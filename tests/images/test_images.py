"""One's own images: pictures of all kinds come into MNIST's form, and `fastnn predict` answers files and folders."""

import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from idx_files import idx_bytes
from mnist_pictures import write_picture
from PIL import Image

import fastnn
from fastnn import datasets
from fastnn.cli import main
from fastnn.errors import DataError, FileFormatError
from fastnn.images import read_images
from fastnn.images.ink import find_ink
from fastnn.images.preparation import as_colours, as_is, prepare

NO_MNIST = pytest.mark.skipif("FASTNN_DATA_DIR" not in os.environ, reason="FASTNN_DATA_DIR does not say where MNIST is")


@pytest.fixture(scope="module")
def digits():
    """Labelled digits, 28 x 28 uint8, white on black."""
    data = datasets.load("digits")
    return data.x_test, data.y_test


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network that has learned the digits that scikit-learn ships."""
    data = datasets.load("digits")
    net = fastnn.Network([784, 32, 10], backend="numpy")
    net.fit(data.x_train, data.y_train, epochs=2, optimizer="adam", verbose=False)
    path = tmp_path_factory.mktemp("models") / "digits.safetensors"
    net.save(path)
    return str(path)


@pytest.fixture(scope="module")
def mnist():
    """A network trained on a quarter of MNIST, and MNIST's test images with their labels."""
    data = datasets.load("mnist")
    net = fastnn.Network([784, 64, 10], backend="numpy")
    net.fit(data.x_train[:15000], data.y_train[:15000], epochs=3, optimizer="adam", verbose=False)
    return net, data.x_test, data.y_test


def page(digit, size=(300, 400), at=(100, 150), zoom=4, paper=255, ink=0):
    """A digit, enlarged, on a larger page."""
    large = np.asarray(Image.fromarray(digit).resize((28 * zoom,) * 2, Image.Resampling.BICUBIC), float) / 255
    pixels = np.full(size, float(paper))
    part = pixels[at[0] : at[0] + 28 * zoom, at[1] : at[1] + 28 * zoom]
    part += large * (ink - paper)
    return pixels.astype(np.uint8)


def alike(image, expected, most=18.0):
    """Whether two images differ by little, as when moved by a pixel; other digits differ by 30."""
    return np.abs(image.astype(float) - expected).mean() < most


def predict(model, *arguments, capsys, code=0):
    """The JSON of the command."""
    assert main(["predict", model, *map(str, arguments), "--backend", "numpy", "--json"]) == code
    return json.loads(capsys.readouterr().out)


# ---- MNIST's form ----


@NO_MNIST
def test_mnist_s_own_pictures_stay_nearly_themselves(mnist):
    net, x, y = mnist
    x, y = x[:250], y[:250]
    prepared = np.stack([prepare(image) for image in x])
    assert np.abs(prepared.astype(float) - x).mean() < 1
    assert abs(net.evaluate(prepared, y)["accuracy"] - net.evaluate(x, y)["accuracy"]) <= 0.005


@NO_MNIST
def test_fifty_renderings_are_answered_as_well_as_the_originals(mnist, tmp_path, capsys):
    net, x, y = mnist
    rng = np.random.default_rng(20)
    chosen = rng.choice(len(x), 50, replace=False)
    for i in chosen:
        folder = tmp_path / "pictures" / str(y[i])
        folder.mkdir(parents=True, exist_ok=True)
        write_picture(x[i], folder / str(i), rng)
    net.save(tmp_path / "m.safetensors")
    result = predict(str(tmp_path / "m.safetensors"), tmp_path / "pictures", capsys=capsys)
    assert len(result["predictions"]) == 50
    assert result["accuracy"] >= net.evaluate(x[chosen], y[chosen])["accuracy"] - 0.02


def test_the_checker_of_likeness_rejects_another_digit_and_another_place(digits):
    x, y = digits
    assert not alike(prepare(x[0]), prepare(x[np.flatnonzero(y != y[0])[0]]))
    assert not alike(np.roll(prepare(x[0]), 5, axis=1), prepare(x[0]))


def test_the_ink_fills_the_box_and_its_centre_of_mass_is_the_centre(digits):
    for side, box in ((28, 20), (14, 10), (56, 40)):
        image = prepare(page(digits[0][3]), side)
        rows, columns = (np.flatnonzero((image > 60).any(axis=axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(box, abs=1)
        centre = [(image.sum(axis=1 - axis) @ np.arange(side)) / image.sum() for axis in (0, 1)]
        assert centre == pytest.approx([side // 2] * 2, abs=0.55)


@pytest.mark.parametrize("ink", ["auto", "light", "dark"])
def test_dark_on_light_and_light_on_dark_are_told_apart_or_told(digits, ink):
    for digit in digits[0][:5]:
        expected = prepare(digit)
        if ink != "dark":
            assert alike(prepare(page(digit, paper=30, ink=220), ink=ink), expected)
        if ink != "light":
            assert alike(prepare(page(digit, paper=220, ink=30), ink=ink), expected)


def test_a_digit_may_fill_the_picture(digits):
    for digit in digits[0][:20]:
        canvas = page(digit, (280, 280), (0, 0), 10, paper=0, ink=255)
        assert alike(prepare(canvas), prepare(digit))
        assert alike(prepare(255 - canvas), prepare(digit))


def test_shadows_a_table_and_noise_become_nothing(digits):
    rng = np.random.default_rng(0)
    for digit in digits[0][:4]:
        scene = page(digit, size=(450, 600), at=(150, 240), zoom=5, paper=220, ink=50).astype(float)
        scene[:, :70] = 40  # a table beyond the paper
        scene[np.add.outer(np.arange(450), np.arange(600)) > 600] *= 0.6  # a shadow across the digit
        scene *= np.linspace(1, 0.7, 600)
        scene += rng.normal(0, 4, scene.shape)
        image = prepare(np.clip(scene, 0, 255).astype(np.uint8))
        assert alike(image, prepare(digit))
        assert not image[:3].any()


MODES = ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I", "F", "YCbCr"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pillow(digits, mode):
    pixels = page(digits[0][1])
    if mode == "I;16":
        picture = Image.fromarray(pixels.astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(pixels).convert("RGB" if mode == "CMYK" else "L").convert(mode)
    assert picture.mode == mode
    assert alike(prepare(picture), prepare(digits[0][1]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, bool])
def test_arrays_of_every_dtype(digits, dtype):
    share = page(digits[0][1]) / 255
    array = share > 0.5 if dtype is bool else (share * {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype])
    for channels in (array, array[..., None], np.dstack([array] * 3)):
        assert alike(prepare(channels.astype(dtype)), prepare(digits[0][1]))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4, 5), np.uint8), "channels"),
        (np.zeros(16, np.uint8), "height, width"),
        (np.zeros((0, 4), np.uint8), "height, width"),
        (np.full((9, 9), 2.0), "from 0 to 1"),
        (np.full((9, 9), np.nan), "from 0 to 1"),
        (np.zeros((9, 9), np.int64), "int64"),
    ],
)
def test_what_is_no_picture_is_refused(array, words):
    with pytest.raises(DataError, match=words):
        prepare(array)


@pytest.mark.parametrize("shade", [0, 255])
def test_ink_on_transparent_paper(digits, shade):
    pixels = np.full((28, 28, 4), shade, np.uint8)
    pixels[..., 3] = digits[0][2]
    assert alike(prepare(Image.fromarray(pixels).resize((140, 140))), prepare(digits[0][2]))


def test_transparent_corners_of_an_opaque_card_are_no_ink(digits):
    card = np.dstack([page(digits[0][2])] * 3 + [np.full((300, 400), 255, np.uint8)])
    card[:40, :40, 3] = 0
    assert alike(prepare(Image.fromarray(card)), prepare(digits[0][2]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(digits, tmp_path, orientation):
    from mnist_pictures import UNDONE_BY

    picture = Image.fromarray(page(digits[0][2]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = picture.transpose(UNDONE_BY[orientation]) if orientation > 1 else picture
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert alike(read_images(tmp_path / "turned.jpg", 784).reshape(28, 28), prepare(digits[0][2]))


def blank_pages():
    rng = np.random.default_rng(0)
    yield np.full((200, 300), 255, np.uint8)
    yield np.zeros((28, 28), np.uint8)
    yield np.clip(rng.normal(200, 5, (200, 300, 3)), 0, 255).astype(np.uint8)
    yield np.add.outer(np.linspace(120, 200, 200), np.linspace(0, 55, 300)).astype(np.uint8)
    yield np.zeros((40, 40, 4), np.uint8)


@pytest.mark.parametrize("blank", list(blank_pages()))
def test_a_blank_page_is_an_error_and_not_a_guess(blank):
    with pytest.raises(DataError, match="ink"):
        prepare(blank)


PAPERS = {
    "ruled": lambda part: part[20::60],
    "squared": lambda part: (part[20::40], part[:, 20::40]),
    "box": lambda part: (part[30:33, 30:-30], part[-33:-30, 30:-30], part[30:-30, 30:33], part[30:-30, -33:-30]),
    "box near the border": lambda part: (part[8:11], part[-11:-8], part[:, 8:11], part[:, -11:-8]),
}


@pytest.mark.parametrize("shade", [200, 150, 0], ids=["light", "grey", "black"])
@pytest.mark.parametrize("paper", PAPERS)
def test_ruled_and_squared_paper_and_boxes_are_no_ink(digits, paper, shade):
    """Where the lines are as dark as the ink they may not run through it: nobody could tell them apart."""
    for digit in digits[0][:2]:
        plain = page(digit, (320, 320), at=(76, 76), zoom=6)
        lines = np.full_like(plain, 255)
        parts = PAPERS[paper](lines)
        for part in parts if isinstance(parts, tuple) else (parts,):
            part[...] = shade
        lines = np.minimum(lines, np.roll(lines, 1, (0, 1)))  # two pixels wide
        assert alike(prepare(np.minimum(plain, lines)), prepare(plain), 6)
        assert alike(prepare(255 - np.minimum(plain, lines)), prepare(plain), 6)


def test_lines_without_a_digit_are_no_ink():
    ruled = np.full((320, 320), 250, np.uint8)
    ruled[20::60] = ruled[21::60] = 150
    with pytest.raises(DataError, match="nothing on it looks like ink"):
        prepare(ruled)


def test_a_thin_and_long_1_is_no_line():
    assert prepare(np.pad(np.zeros((240, 4), np.uint8), ((40, 40), (150, 150)), constant_values=255)).any()


def test_several_digits_side_by_side_are_counted_and_strokes_of_one_are_not(digits):
    a, b = digits[0][0], digits[0][1]
    pair = np.concatenate([page(a, (200, 160), (40, 20)), page(b, (200, 160), (40, 20))], axis=1)
    assert find_ink(as_colours(pair)).digits == 2
    five = np.zeros((100, 100), np.uint8)  # the bar of a 5 apart from its body
    five[10:16, 46:80], five[20:50, 30:36], five[44:50, 30:70], five[44:90, 66:72], five[84:90, 30:70] = [255] * 5
    assert find_ink(as_colours(five)).digits == 1
    assert all(find_ink(as_colours(digit)).digits == 1 for digit in digits[0][:50])


def test_as_is_only_scales(digits):
    digit = digits[0][0]
    assert np.array_equal(as_is(digit), digit)
    assert alike(as_is(np.kron(digit, np.ones((4, 4), np.uint8))), digit, most=3)


# ---- files ----


def test_arrays_and_idx_files_are_taken_as_they_are(digits, tmp_path):
    x = digits[0][:3]
    np.save(tmp_path / "three.npy", x)
    np.save(tmp_path / "one.npy", (x[0] / 255).astype(np.float32))
    (tmp_path / "three-ubyte").write_bytes(idx_bytes(x))
    assert np.array_equal(read_images(tmp_path / "three.npy", 784), x.reshape(3, 784))
    assert np.array_equal(read_images(tmp_path / "three-ubyte", 784), x.reshape(3, 784))
    assert read_images(tmp_path / "one.npy", 784).dtype == np.float32


def test_an_array_of_another_shape_is_not_cut_into_images(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((784, 100), np.uint8))
    with pytest.raises(DataError, match="100"):
        read_images(tmp_path / "a.npy", 784)


def png(size=(40, 40)):
    file = io.BytesIO()
    Image.effect_noise(size, 50).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"no picture", "no picture that Pillow knows"),
        (png()[:700], "damaged or truncated"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC.*pillow-heif"),
        (b"\x93NUMPY broken", "npy"),
        (b"\0\0\x08\x03\0\0", "header"),
        (b"\0\0\x01\0\x01\0", "no picture|damaged"),  # an icon, not IDX
    ],
)
def test_a_broken_file_is_an_error_that_names_it(tmp_path, content, words):
    path = tmp_path / "image"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=words) as caught:
        read_images(path, 784)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    (tmp_path / "bomb.png").write_bytes(png())
    for limit in (1500, 500):  # where Pillow only warns, and where it refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(FileFormatError, match=f"more than {limit:,} pixels"):
            read_images(tmp_path / "bomb.png", 784)


def test_what_a_network_cannot_take_is_refused(digits, tmp_path):
    Image.fromarray(digits[0][0]).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"783 features takes no square pictures.*npy"):
        read_images(tmp_path / "a.png", 783)
    with pytest.raises(ValueError, match="did you mean 'dark'"):
        read_images(tmp_path / "a.png", 784, ink="drak")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_picture_from_a_pipe(digits, tmp_path):
    Image.fromarray(page(digits[0][0])).save(tmp_path / "a.png")
    code = "import fastnn.images; print(fastnn.images.read_images('/dev/stdin', 784).sum())"
    with open(tmp_path / "a.png", "rb") as file:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, input=file.read(), capture_output=True, timeout=60)
    assert int(done.stdout) == read_images(tmp_path / "a.png", 784).sum()


# ---- the command ----


@pytest.fixture
def folder(digits, tmp_path):
    """Pictures of digits in sub-folders that say what they show, and what else lies about."""
    x, y = digits
    for i in range(20):
        (tmp_path / "own" / str(y[i])).mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[i]).save(tmp_path / "own" / str(y[i]) / f"{i}.png")
    for name in (".DS_Store", "notes.txt", "Thumbs.db"):
        (tmp_path / "own" / name).write_text("{}")
    return tmp_path / "own"


def test_a_labelled_folder_gives_accuracy_and_matrix(model, folder, digits, capsys):
    result = predict(model, folder, capsys=capsys)
    assert [row["target"] for row in result["predictions"]] == sorted(digits[1][:20].tolist())
    hits = [row["target"] == row["prediction"] for row in result["predictions"]]
    assert result["accuracy"] == np.mean(hits) > 0.8
    matrix = np.array(result["matrix"])
    assert np.array_equal(matrix.sum(axis=1), np.bincount(digits[1][:20], minlength=10))
    assert np.trace(matrix) == sum(hits)
    assert (result["passed_over"], result["failed"]) == (3, [])
    assert main(["predict", model, str(folder), "--backend", "numpy"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "fastnn: 3 files passed over: no images\n"
    assert re.search(rf"^accuracy  {100 * np.mean(hits):.2f} % \({sum(hits)} of 20\)$", captured.out, re.MULTILINE)


def test_lines_for_people(model, digits, tmp_path, capsys):
    np.save(tmp_path / "two.npy", digits[0][:2])
    assert main(["predict", model, str(tmp_path / "two.npy"), "--backend", "numpy"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].split() == ["file", "prediction", "confidence", "second", "choice"]
    assert re.fullmatch(r".*two\.npy\[0\] +\d +\d+\.\d %  \d \(\d+\.\d %\)", captured.out.splitlines()[1])
    assert captured.err == ""


def test_files_are_sorted_as_people_do(model, digits, tmp_path, capsys):
    for name in ("10.png", "9.png", "a2.PNG", "a10.png"):
        Image.fromarray(digits[0][0]).save(tmp_path / name)
    names = [os.path.basename(row["image"]) for row in predict(model, tmp_path, capsys=capsys)["predictions"]]
    assert names == ["9.png", "10.png", "a2.PNG", "a10.png"]


def test_a_broken_picture_in_a_folder_is_reported_and_the_others_are_answered(model, folder, capsys):
    (folder / "3" / "broken.png").write_bytes(png()[:700])
    Image.new("L", (50, 50), 255).save(folder / "blank.png")
    assert main(["predict", model, str(folder), "--backend", "numpy", "--json"]) == 1
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert len(result["predictions"]) == 20
    assert [os.path.basename(failed["image"]) for failed in result["failed"]] == ["broken.png", "blank.png"]
    assert "damaged or truncated" in captured.err
    assert "blank.png: nothing on it looks like ink" in captured.err


@pytest.mark.parametrize("name", ["broken.png", "missing.png", "empty"])
def test_a_broken_picture_named_explicitly_is_exit_code_1(model, tmp_path, capsys, name):
    (tmp_path / "broken.png").write_bytes(png()[:700])
    (tmp_path / "empty").mkdir()
    assert main(["predict", model, str(tmp_path / name), "--backend", "numpy"]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert name in captured.err


def test_several_digits_are_a_warning(model, digits, tmp_path, capsys):
    pair = np.concatenate([page(digits[0][0], (200, 160), (40, 20))] * 2, axis=1)
    Image.fromarray(pair).save(tmp_path / "pair.png")
    assert main(["predict", model, str(tmp_path / "pair.png"), "--backend", "numpy"]) == 0
    captured = capsys.readouterr()
    assert "pair.png: the ink falls into 2 parts side by side" in captured.err
    assert "pair.png" in captured.out


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--ink", "blue"], "auto, dark, light"), (["--ink", "dark", "--as-is"], "--as-is seeks no ink")],
)
def test_wrong_usage(model, folder, capsys, options, words):
    assert main(["predict", model, str(folder), *options, "--backend", "numpy"]) == 2
    assert words in capsys.readouterr().err


def test_explain_writes_what_the_network_saw_and_an_overview(model, folder, digits, capsys):
    target = folder.parent / "seen"
    for path in list(folder.rglob("*.png"))[2:]:
        path.unlink()
    for label in "01":  # the same name twice
        (folder / label).mkdir(exist_ok=True)
        Image.fromarray(digits[0][0]).save(folder / label / "same.png")
    for _ in range(2):  # a second time into the same folder
        result = predict(model, folder, "--explain", target, capsys=capsys)
    assert len(list(target.iterdir())) == len(result["predictions"]) + 1
    with Image.open(target / "same.png") as seen, Image.open(target / "same-2.png") as other:
        assert (seen.size, seen.mode, other.size) == ((28, 28), "L", (28, 28))
        assert np.array_equal(np.asarray(seen), prepare(digits[0][0]))
    with Image.open(target / "fastnn-overview.png") as overview:
        assert min(overview.size) > 500


def test_explain_overwrites_nobody_s_pictures(model, folder, capsys):
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    assert main(["predict", model, str(folder), "--explain", str(folder), "--backend", "numpy"]) == 1
    assert "new or empty folder" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in folder.rglob("*.png")}


@pytest.mark.parametrize(
    ("outputs", "output", "y", "words"),
    [
        (3, "identity", np.eye(3)[[0, 1, 2, 0]] * 1.5 - 0.2, r"a\.npy\[0\]( +-?[\d.e-]+){3}"),
        (3, "sigmoid", np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 0]]), r"a\.npy\[0\]  (none|\d( \d)*)"),
        (3, "sigmoid", np.array([0, 1, 2, 0]), r"a\.npy\[0\] +\d +\d\.\d{3}  \d \(\d\.\d{3}\)"),
        (1, "sigmoid", np.array([0, 1, 1, 0]), r"a\.npy\[0\] +\d +\d+\.\d %  \d \(\d+\.\d %\)"),
        (1, "identity", np.array([0.5, 1, 2, 3]), r"a\.npy\[0\]  -?[\d.e-]+"),
    ],
)
def test_networks_that_are_no_classifiers_by_softmax(tmp_path, digits, capsys, outputs, output, y, words):
    net = fastnn.Network([784, 4, outputs], output=output, backend="numpy")
    net.fit(digits[0][:4], y, epochs=1, verbose=False)
    net.save(tmp_path / "m.safetensors")
    np.save(tmp_path / "a.npy", digits[0][:4])
    assert main(["predict", str(tmp_path / "m.safetensors"), str(tmp_path / "a.npy"), "--backend", "numpy"]) == 0
    captured = capsys.readouterr()
    assert re.search(words + "$", captured.out.splitlines()[1]), captured.out
    rows = predict(str(tmp_path / "m.safetensors"), tmp_path / "a.npy", capsys=capsys)["predictions"]
    assert (rows[0]["confidence"] is None) == (outputs == 3 or output == "identity")


def test_many_images_are_answered_in_batches_and_in_order(model, digits, tmp_path, capsys):
    x = digits[0][:600]
    np.save(tmp_path / "bytes.npy", x)
    np.save(tmp_path / "floats.npy", x[:5] / 255)
    rows = predict(model, tmp_path / "bytes.npy", tmp_path / "floats.npy", capsys=capsys)["predictions"]
    expected = fastnn.load(model, backend="numpy").predict(x)
    assert [row["prediction"] for row in rows] == [*expected, *expected[:5]]
    assert rows[-1]["image"] == str(tmp_path / "floats.npy[4]")
