"""A network for evaluation: batch norms that normalise by statistics of all the data, and no more by those of the batch."""

from collections.abc import Iterable
from itertools import count
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError, check_tensor, describe
from ..operands import check_params, check_samples
from ..types import Layer, Params
from .batch_norm import OverBatch, by_fixed
from .columns import Forward
from .combine import remade
from .guarded import bare, operands_of
from .pullbacks import ran


class Moments(NamedTuple):
    """How many numbers a channel has, their mean, and the sum of the squares of their deviations from it."""

    number: int
    mean: Float[Tensor, " C"]
    squares: Float[Tensor, " C"]

    @classmethod
    def of(cls, x: Float[Tensor, "N C *T"]) -> "Moments":
        """Those of the channels of x, in float32 at least."""
        rows = x.detach().movedim(1, 0).flatten(1).to(torch.promote_types(x.dtype, torch.float32))
        mean = rows.mean(1)
        return cls(rows.shape[1], mean, (rows - mean[:, None]).square().sum(1))

    def with_more(self, other: "Moments") -> "Moments":
        """Those of both sets together: the squares grow by d^2 n m / (n + m), with d the distance of the means.

        Chan, Golub & LeVeque, "Algorithms for computing the sample variance" (1983).
        """
        n, m = self.number, other.number
        distance = other.mean - self.mean
        squares = self.squares + other.squares + distance.square() * (n * m / (n + m))
        return Moments(n + m, self.mean + distance * (m / (n + m)), squares)


def calibrate(layer: Layer, params: Params, batches: Iterable[Tensor]) -> Layer:
    """The same network with every batch norm normalising by the mean and the variance of its inputs over all of `batches`.

    It has the same parameter tree, treats every sample by itself, and so has gradients per sample. The statistics belong to
    these parameters: calibrate again after training.

    Those of a batch norm are taken with the ones before it calibrated already, for that is the network in which it will
    stand: how the data are divided into batches then changes nothing but rounding. So there is one pass over the data for
    each batch norm. The variance is the mean of the squares, as in training.

    Args:
        layer: The network; batch norms are found in combinators of any depth.
        params: Its parameters.
        batches: Inputs alone, without targets: tensors (N, ...) of any N, one sample too.

    Raises:
        InputError: layer is no Layer; no batches, or one that is no tensor of inputs; whatever the network refuses.
    """
    if not isinstance(layer, Layer):
        raise InputError("calibrate(layer)", describe(layer), "a Layer, such as batch_norm(4)")
    check_params(params)
    if not isinstance(batches, Iterable):
        raise InputError("batches", describe(batches), "tensors of inputs")
    inputs = [batches] if isinstance(batches, Tensor) else list(batches)
    if not inputs:
        raise InputError("batches", "none", "at least one tensor of inputs")
    for index, x in enumerate(inputs):
        check_tensor(f"batches[{index}]", x)
        check_samples(x, f"batches[{index}]")
    known: list[Moments] = []
    while True:
        seen: list[Moments] = []
        network, norms = _normalised_by(layer, known, seen)
        if norms == len(known):
            return network
        for x in inputs:
            ran(network.forward, params, x)
        known.append(_together(seen))


def _normalised_by(layer: Layer, known: list[Moments], seen: list[Moments]) -> tuple[Layer, int]:
    """The network with its first batch norms by known moments, and how many batch norms it has.

    The next one adds to `seen` the moments of what it is handed; the rest leave x as it is, for nobody looks beyond.
    """
    numbers = count()

    def changed(inner: Layer) -> Layer:
        forward: Any = bare(inner.forward)
        rule = getattr(forward, "run", None)
        if not isinstance(rule, OverBatch):
            return inner
        number = next(numbers)
        if number < len(known):
            moments = known[number]
            return by_fixed(rule.features, rule.eps, moments.mean, moments.squares / moments.number)

        looks, operands = number == len(known), operands_of(inner.forward)

        def passing(params: Params, x: Tensor) -> tuple[Tensor, tuple[()]]:
            if looks:
                if operands is not None:
                    operands._replace(fits=None).check(params, x)  # which would refuse a single sample
                if x.ndim < 2 or x.shape[1] != rule.features:
                    raise InputError(f"inputs of {inner!r}", describe(x), f"shape (N, {rule.features}, ...)")
                seen.append(Moments.of(x))
            return x, ()

        return inner._replace(forward=Forward(passing))

    return remade(layer, changed), next(numbers)


def _together(each: list[Moments]) -> Moments:
    total, *rest = each
    for one in rest:
        total = total.with_more(one)
    return total
