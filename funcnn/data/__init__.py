"""Data as tensors: what comes with scikit-learn, two spirals that are drawn, and MNIST-format files that the user has.

Nothing is downloaded. Raw images are uint8, as they were scanned. In a `Dataset` the inputs are standardised,
x <- (x - mean) / std for each feature, with the mean and the standard deviation of the training part alone: the test part
must not leak into what is trained. Features that never change (the corners of a digit) stay 0. A `Dataset` keeps both, so
that tomorrow's image is standardised as those were.
"""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ..errors import InputError, check_count, check_device, check_dtype, check_generator, check_number, describe, is_dense
from ..memory import check_memory
from ..operands import check_samples
from ..types import loadable
from .idx import read_idx


@loadable
class Dataset(NamedTuple):
    """Two batches (inputs, targets), `train` to learn from, `test` to be judged by, and what standardised their inputs.

    `mean` and `std` are those of the training part as it was measured, in float64; 0 and 1 where nothing was standardised.
    """

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    mean: Tensor = torch.zeros((), dtype=torch.float64, device="cpu")
    std: Tensor = torch.ones((), dtype=torch.float64, device="cpu")

    def standardised(self, inputs: Tensor) -> Tensor:
        """(inputs - mean) / std, in the dtype and on the device of the training part: for what was measured later.

        Raises:
            InputError: inputs is no tensor of real numbers whose last axes are those of one sample.
        """
        features = self.mean.shape
        if not is_dense(inputs) or inputs.is_complex() or inputs.shape[inputs.ndim - len(features) :] != features:
            axes = ", ".join(map(str, ("...", *features)))
            raise InputError("inputs", describe(inputs), f"real numbers of shape ({axes})")
        like = self.train[0]
        return _standardised(inputs, self.mean.to(inputs.device), self.std.to(inputs.device)).to(like)


def breast_cancer(
    *,
    generator: Generator,
    test_fraction: float = 0.2,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Dataset:
    """569 tumours, 30 measurements each; targets (N, 1) of the inputs' dtype, 1 where benign (212 are 0, 357 are 1).

    Needs scikit-learn. Source: Wolberg, Mangasarian, Street & Street, UCI Machine Learning Repository (1995).
    """
    from sklearn.datasets import load_breast_cancer

    check_dtype(dtype)
    inputs, targets = load_breast_cancer(return_X_y=True)
    labels = torch.from_numpy(targets)[:, None].to(dtype or torch.get_default_dtype())
    return split(
        torch.from_numpy(inputs), labels, generator=generator, test_fraction=test_fraction, dtype=dtype, device=device
    )


def digits(
    *,
    generator: Generator,
    test_fraction: float = 0.2,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Dataset:
    """1797 handwritten digits of 8 x 8 pixels, inputs (N, 64); targets the labels 0 to 9, shape (N,), int64.

    Needs scikit-learn. Source: Alpaydin & Kaynak, UCI Machine Learning Repository (1998).
    """
    from sklearn.datasets import load_digits

    inputs, targets = load_digits(return_X_y=True)
    labels = torch.from_numpy(targets).long()
    return split(
        torch.from_numpy(inputs), labels, generator=generator, test_fraction=test_fraction, dtype=dtype, device=device
    )


def spirals(
    count: int = 400,
    *,
    generator: Generator,
    turns: float = 1.5,
    noise: float = 0.02,
    test_fraction: float = 0.2,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Dataset:
    """Two interleaved spirals in the plane, inputs (N, 2); targets the arm, 0 or 1, shape (N,), int64.

    Arm k passes through r (cos a, sin a) with r = 0.2 + 0.8 t and a = 2 pi turns t + pi k, at `count` values of t drawn
    from [0, 1], every other one on arm 1; `noise` is the deviation of what is added to both coordinates. Source of the
    problem: Lang & Witbrock, "Learning to tell two spirals apart" (1988).

    Raises:
        InputError: count is no positive integer; turns or noise is below 0; as `split`.
    """
    check_count("count", count)
    turns, noise = check_number("turns", turns), check_number("noise", noise)
    check_generator(generator)
    check_memory("count", "that many points", 8 * 8 * int(count), generator.device)
    t = torch.rand(count, generator=generator, dtype=torch.float64, device=generator.device)
    arms = torch.arange(count, device=t.device) % 2
    radius, angle = 0.2 + 0.8 * t, math.pi * (2 * turns * t + arms)
    points = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    points = points + noise * torch.randn(points.shape, generator=generator, dtype=t.dtype, device=t.device)
    return split(points, arms, generator=generator, test_fraction=test_fraction, dtype=dtype, device=device)


def digit_images() -> tuple[Tensor, Tensor]:
    """The images of `digits` as they were scanned: (1797, 8, 8) of 0 (white) to 16 (black), uint8; labels (1797,), int64."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    return torch.from_numpy(raw.images).byte(), torch.from_numpy(raw.target).long()


def photographs() -> Tensor:
    """Two colour photographs, a temple and a flower: (2, 427, 640, 3) of 0 to 255, uint8, the channels red, green, blue.

    Need scikit-learn, and pillow, which matplotlib brings.
    """
    from sklearn.datasets import load_sample_images

    return torch.stack([torch.tensor(image, device="cpu") for image in load_sample_images().images])


def mnist(directory: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Dataset:
    """MNIST, Fashion-MNIST or any data set in the same four files, raw or `.gz`, from a directory that the user names.

    Inputs (N, rows * columns), standardised by the training part; targets the labels, shape (N,), int64.

    Raises:
        FileNotFoundError: one of the files is missing.
        InputError: as `read_images`.
    """
    train, test = read_images(directory, "train"), read_images(directory, "t10k")
    if train[0].shape[1:] != test[0].shape[1:]:
        needs = f"the {train[0].shape[1]} of the training images"
        raise InputError(f"{directory}, t10k images", f"{test[0].shape[1]} pixels each", needs)
    return _dataset(train, test, dtype, device)


def read_images(directory: str | Path, part: str) -> tuple[Tensor, Tensor]:
    """One part of an MNIST-format data set, "train" or "t10k": images (N, rows * columns) of 0 to 255, labels (N,) int64.

    Raises:
        FileNotFoundError: a file is missing.
        InputError: a file is no IDX file of the expected kind, is truncated, or holds another count than its partner.
    """
    if not isinstance(part, str) or part not in ("train", "t10k"):
        raise InputError("part", describe(part), "'train' or 't10k'")
    images_path = Path(directory).expanduser() / f"{part}-images-idx3-ubyte"
    labels_path = Path(directory).expanduser() / f"{part}-labels-idx1-ubyte"
    images, labels = read_idx(images_path, dimensions=3), read_idx(labels_path, dimensions=1)
    if not len(images):
        raise InputError(str(images_path), "no images", "at least one")
    if len(images) != len(labels):
        raise InputError(
            str(labels_path), f"{len(labels)} labels", f"{len(images)}, one for each image of {images_path.name}"
        )
    return images.flatten(1), labels.long()


def split(
    inputs: Tensor,
    targets: Tensor,
    *,
    generator: Generator,
    test_fraction: float = 0.2,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Dataset:
    """Draws a test part at random and standardises both by the training part. The same seed gives the same split.

    Raises:
        InputError: inputs and targets disagree on N, inputs that are complex or not finite, or the fraction leaves one of
            the parts empty.
    """
    check_generator(generator)
    check_samples(inputs, "inputs")
    if not is_dense(inputs):
        raise InputError("inputs", describe(inputs), "a tensor")
    if inputs.is_complex() or inputs.is_meta:
        raise InputError("inputs", f"{describe(inputs)} on {inputs.device}", "real numbers")
    check_memory("inputs", "copies in float64", 2 * 8 * inputs.numel(), inputs.device)
    if not bool(torch.isfinite(inputs.double()).all()):
        raise InputError("inputs", "NaN or infinite entries", "finite ones")
    count = len(inputs)
    if not is_dense(targets) or not targets.ndim or len(targets) != count:
        got = f"{len(targets)} samples" if is_dense(targets) and targets.ndim else describe(targets)
        raise InputError("targets", got, f"the {count} of the inputs")
    if targets.device != inputs.device:
        raise InputError("targets", f"a tensor on {targets.device}", f"one on {inputs.device}, where the inputs are")
    proper = isinstance(test_fraction, (int, float)) and 0 < test_fraction < 1
    tests = round(test_fraction * count) if proper else 0
    if not 0 < tests < count:
        raise InputError("test_fraction", test_fraction, f"a number that leaves both parts some of {count} samples")
    order = torch.randperm(count, generator=generator, device=generator.device).to(inputs.device)
    test, train = order[:tests], order[tests:]
    return _dataset((inputs[train], targets[train]), (inputs[test], targets[test]), dtype, device)


def _dataset(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], dtype: torch.dtype | None, device: torch.device | str | None
) -> Dataset:
    check_dtype(dtype)
    check_device(device)
    device = torch.get_default_device() if device is None else device
    check_memory("inputs", "copies in float64", 2 * 8 * train[0].numel(), train[0].device)
    scale = _scale(train[0].double().abs().amax(0))
    x = train[0].double() * scale
    constant = (x == x[0]).all(0)
    mean = torch.where(constant, x[0], x.mean(0)) / scale
    std = torch.where(constant, 1, x.std(0, correction=0) / scale)

    def ready(part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        inputs = _standardised(part[0], mean, std)
        return inputs.to(device=device, dtype=dtype or torch.get_default_dtype()), part[1].to(device)

    return Dataset(ready(train), ready(test), mean.to(device), std.to(device))


def _standardised(inputs: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    scale = _scale(torch.maximum(mean.abs(), std))
    return (inputs.double() * scale - mean * scale) / (std * scale)


def _scale(size: Tensor) -> Tensor:
    """Powers of two that bring numbers of these sizes near 1: near the ends of the range squares and differences leave it.

    They change no digit.
    """
    _, exponent = torch.frexp(size)
    return 2.0 ** -exponent.clamp(-1000, 1000).double()
