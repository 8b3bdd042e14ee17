"""Data: files that are whole or corrupt, drawn and divided data, beside NumPy's reading of the bytes."""

import gzip
import json
import math
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets  # whose first import draws from Python's generator
import torch
from torch import Generator, Tensor

import funcnn as fn
from experiments.fuzz.agreement import ANY
from experiments.fuzz.case import Call
from experiments.fuzz.formulas import plain
from experiments.fuzz.rows.networks import normal
from experiments.fuzz.rows.records import everything

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MISSING = (FileNotFoundError,)


def _files(generator: Generator, zipped: bool) -> list[bytes]:
    """The contents of the four files, of 6 and of 3 images of 2 x 2 pixels."""
    found = []
    for count in (6, 3):
        pixels = torch.randint(256, (count, 2, 2), generator=generator, dtype=torch.uint8)
        labels = torch.randint(10, (count,), generator=generator, dtype=torch.uint8)
        found.append(struct.pack(">4B3I", 0, 0, 8, 3, count, 2, 2) + pixels.numpy().tobytes())
        found.append(struct.pack(">4BI", 0, 0, 8, 1, count) + labels.numpy().tobytes())
    return [gzip.compress(content) for content in found] if zipped else found


def _kept(contents: Any, folder: str, suffix: str) -> Path:
    for name, content in zip(NAMES, contents if isinstance(contents, (tuple, list)) else (), strict=False):
        if isinstance(content, bytes):
            (Path(folder) / (name + suffix)).write_bytes(content)
    return Path(folder)


def _read(suffix: str) -> Any:
    def run(contents: Any, part: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return fn.data.read_images(_kept(contents, folder, suffix), part)

    return run


def _mnist(suffix: str) -> Any:
    def run(contents: Any, dtype: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return fn.data.mnist(_kept(contents, folder, suffix), dtype=dtype)

    return run


def _parsed(content: bytes, dimensions: int) -> Any:
    """The array in an IDX file, by NumPy."""
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    header = np.frombuffer(content[4 : 4 + 4 * dimensions], ">u4")
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(header) != dimensions:
        raise TypeError("no IDX file")
    return np.frombuffer(content[4 + 4 * dimensions :], np.uint8).reshape([int(size) for size in header])


def _part(contents: Any, part: str) -> tuple[Tensor, Tensor]:
    first = {"train": 0, "t10k": 2}[part]
    images, labels = _parsed(contents[first], 3), _parsed(contents[first + 1], 1)
    if len(images) != len(labels) or not len(images):
        raise TypeError("other counts")
    return torch.tensor(images).reshape(len(images), math.prod(images.shape[1:])), torch.tensor(labels).long()


def _standardised(train: Tensor, test: Tensor, dtype: Any) -> tuple[Tensor, ...]:
    mean, deviation = train.double().mean(0), train.double().std(0, correction=0)
    constant = (train == train[0]).all(0)
    mean, deviation = torch.where(constant, train[0].double(), mean), torch.where(constant, 1, deviation)
    kind = dtype or torch.get_default_dtype()
    parts = [((part.double() - mean) / deviation).to(kind) for part in (train, test)]
    return *parts, mean, deviation


def _mnist_truth(contents: Any, dtype: Any) -> Any:
    (x, t), (u, s) = _part(contents, "train"), _part(contents, "t10k")
    if x.shape[1] != u.shape[1]:
        raise TypeError("other sizes")
    x, u, *moments = _standardised(x, u, dtype)
    return (x, t), (u, s), *moments


def _split_truth(x: Any, t: Any, generator: Generator, fraction: Any, dtype: Any) -> Any:
    x, t = plain(x).double(), plain(t)
    if not x.isfinite().all() or x.shape[0] != t.shape[0]:
        raise TypeError("no data")
    order = torch.randperm(len(x), generator=generator)
    tests = round(fraction * len(x))
    test, train = order[:tests], order[tests:]
    if not x.numel() or x.abs().max() > 1e9 or x.abs().max() < 1e-9:
        return ANY  # of which the naive formula knows nothing
    a, b, *moments = _standardised(x[train], x[test], dtype)
    return (a, t[train]), (b, t[test]), *moments


def _spirals_truth(count: Any, turns: Any, noise: Any, generator: Generator) -> Any:
    t = torch.rand(count, generator=generator, dtype=torch.float64)
    arm = torch.arange(count) % 2
    angle, radius = 2 * math.pi * turns * t + math.pi * arm.double(), 0.2 + 0.8 * t
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    if abs(turns) > 1e3:
        return ANY  # the angle has no digits left
    points = points + float(noise) * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    return _split_truth(points, arm, generator, 0.2, torch.float64)


def _bundled(name: str, target: Any) -> Any:
    def truth(generator: Generator, fraction: Any, dtype: Any) -> Any:
        x, t = getattr(sklearn.datasets, name)(return_X_y=True)
        return _split_truth(torch.tensor(x), target(torch.tensor(t), dtype), generator, fraction, dtype)

    return truth


def _images() -> Any:
    raw = sklearn.datasets.load_digits()
    return torch.tensor(raw.images).to(torch.uint8), torch.tensor(raw.target).to(torch.int64)


def _photographs() -> Any:
    return torch.stack([torch.tensor(image) for image in sklearn.datasets.load_sample_images().images])


def kept(g: Generator) -> Any:
    """A tree of all that can be saved."""
    return {"w": normal(g, 3, 2), "rest": (torch.arange(3), 0.1, 7, "text", None), "more": [normal(g, 2), ()]}


CONTENT: list[bytes] = []
UNSAVED = frozenset({"of numpy", "of a subclass"})


def _content() -> bytes:
    """The bytes of one saved tree."""
    if not CONTENT:
        with tempfile.TemporaryDirectory() as folder:
            fn.save(Path(folder) / "tree", kept(Generator().manual_seed(0)))
            CONTENT.append((Path(folder) / "tree").read_bytes())
    return CONTENT[0]


def _saved(tree: Any) -> Any:
    """What is loaded of a file, and the names that an eye of its own finds in its header."""
    with tempfile.TemporaryDirectory() as folder:
        fn.save(Path(folder) / "tree", tree)
        content = (Path(folder) / "tree").read_bytes()
        found = fn.load(Path(folder) / "tree")
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return everything(found), len(header) - 2  # without the structure and the checksum


def _saved_truth(tree: Any) -> Any:
    leaves = everything(tree)
    copies = [leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    return copies, sum(isinstance(leaf, Tensor) for leaf in leaves)


def _loaded(content: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(content, bytes):
            (Path(folder) / "tree").write_bytes(content)
        return everything(fn.load(Path(folder) / "tree"))


def _loaded_truth(content: Any) -> Any:
    if content != _content():
        raise TypeError("another file than was saved")
    return everything(kept(Generator().manual_seed(0)))


ROWS = {
    "save": Call(lambda g: (kept(g),), _saved, _saved_truth, own=(OSError,), refused=UNSAVED),
    "load": Call(lambda g: (_content(),), _loaded, _loaded_truth, own=(OSError,)),
    "data.read_images": Call(lambda g: (_files(g, False), "train"), _read(""), _part, own=MISSING),
    "data.read_images, zipped": Call(lambda g: (_files(g, True), "t10k"), _read(".gz"), _part, own=MISSING),
    "data.mnist": Call(lambda g: (_files(g, False), torch.float64), _mnist(""), _mnist_truth, own=MISSING),
    "data.mnist, zipped": Call(lambda g: (_files(g, True), torch.float32), _mnist(".gz"), _mnist_truth, own=MISSING),
    "data.split": Call(
        lambda g: (normal(g, 10, 3), torch.arange(10), g, 0.3, torch.float64),
        lambda x, t, g, fraction, dtype: fn.data.split(x, t, generator=g, test_fraction=fraction, dtype=dtype),
        _split_truth,
        power=0.5,
    ),
    "data.Dataset": Call(
        lambda g: (normal(g, 4, 3), torch.arange(4), normal(g, 3)),
        lambda x, t, moment: fn.data.Dataset((x, t), (x, t), moment, moment),
        lambda x, t, moment: ((x, t), (x, t), moment, moment),
    ),
    "data.spirals": Call(
        lambda g: (20, 1.5, 0.02, g),
        lambda count, turns, noise, g: fn.data.spirals(count, generator=g, turns=turns, noise=noise, dtype=torch.float64),
        _spirals_truth,
        power=0.5,
    ),
    "data.digits": Call(
        lambda g: (g, 0.2, torch.float64),
        lambda g, fraction, dtype: fn.data.digits(generator=g, test_fraction=fraction, dtype=dtype),
        _bundled("load_digits", lambda t, dtype: t.long()),
        power=0.5,
        rare=8,
    ),
    "data.breast_cancer": Call(
        lambda g: (g, 0.2, torch.float64),
        lambda g, fraction, dtype: fn.data.breast_cancer(generator=g, test_fraction=fraction, dtype=dtype),
        _bundled("load_breast_cancer", lambda t, dtype: t[:, None].to(dtype or torch.get_default_dtype())),
        power=0.4,
        rare=8,
    ),
    "data.digit_images": Call(lambda g: (), fn.data.digit_images, _images, rare=20),
    "data.photographs": Call(lambda g: (), fn.data.photographs, _photographs, rare=20),
}
