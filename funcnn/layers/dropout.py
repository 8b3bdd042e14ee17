"""Dropout: y = x * m, where m is 0 with probability p and 1 / (1 - p) else, so that E y = x and dx = dy * m.

Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov, "Dropout" (2014), JMLR 15:1929. The mask m is not drawn on the
way: a function that draws has no derivative that differences could see, for each of their values would have another mask.
*The mask is data.* A batch brings one seed for every sample, and the mask of sample n in the k-th dropout of a network is

    m[n, i] = [h(seed_n, k, i) >= p] / (1 - p)        h: a hash of three integers to [0, 1)

a pure function of the batch. So every provider, differences and `check` among them, sees the same mask as long as it is
given the same batch; a sample has the same mask alone as in any batch, which is what `per_sample` needs; nothing is drawn in
a compiled step; and a run that is resumed with the batches of the first has its masks.

    network = fn.mlp(...) with dropout(0.5) between its layers      in use: dropout is the identity
    training = fn.with_dropout(network)                             takes (x, seeds), and drops
    batches = ((fn.with_seeds(x, generator), t) for x, t in ...)    seeds (N,), drawn by the caller
"""

from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from ..errors import InputError, check_generator, check_number, check_tensor, describe, is_dense
from ..memory import check_memory
from ..types import Layer, Params, Residuals, Tree, name
from .branches import made_of
from .columns import Forward
from .combine import check_layer, no_params, remade
from .factors import ByParts
from .guarded import bare, guarded
from .pullbacks import Pull, Run

BITS = 31  # of the hash: a product of two such numbers is below 2^63, where int64 ends


class Dropped(NamedTuple):
    """The forward rule of dropout: x * m, or x where there are no seeds."""

    rate: float
    seeds: Tensor | None = None
    which: int = 0

    def __call__(self, params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        """(params, x) -> (y, m)."""
        if self.seeds is None:
            return x, x.new_ones(()).expand(x.shape)
        keep = hashed(self.seeds, self.which, x.shape[1:]) >= int(self.rate * 2**BITS)
        mask = keep.to(x.dtype) / (1 - self.rate)
        return x * mask, mask


def dropout(rate: float) -> Layer:
    """The identity, until `with_dropout` gives it seeds: then y = x * m, with dx = dy * m.

    An entry is dropped with probability `rate`, and 1 / (1 - rate) times itself else. The mask is drawn entry by entry.

    Raises:
        InputError: rate is not in [0, 1).
    """
    return _dropout(Dropped(check_number("rate", rate, below=1.0)))


def _dropout(rule: Dropped) -> Layer:
    layer = Layer(no_params, Forward(rule, True), ByParts(lambda mask, dy: (), lambda mask, dy: dy * mask))
    return guarded(layer, f"dropout({rule.rate:g})", like=lambda mask: mask)


def with_dropout(layer: Layer) -> Layer:
    """The network as it is trained: its inputs are a pair (x, seeds), by which every dropout in it has its masks.

    x has shape (N, ...) and seeds (N,), of int64. Parameters are those of the network, which itself is for use.

    Raises:
        InputError: layer is no Layer, or there is no dropout in it; (when called) the inputs are no such pair.
    """
    check_layer("with_dropout(layer)", layer)
    if _sown(layer, None) is layer:
        raise InputError("with_dropout(layer)", name(layer.forward), "a network with dropout(rate) in it")

    def ahead(run: Run, params: Params, pair: Any) -> tuple[Tensor, Residuals]:
        x, seeds = _pair(pair)
        y, kept = run(_sown(layer, seeds).forward, params, x)
        return y, (kept, seeds)

    def back(pull: Pull, residuals: Residuals, dy: Tensor, dx: bool) -> tuple[Tree, Any]:
        kept, seeds = residuals  # a rematerialised layer runs forward again, and must drop the same
        return pull(_sown(layer, seeds).backward, kept, dy, dx)

    return made_of((layer,), layer.init, ahead, back, with_dropout)


def _sown(layer: Layer, seeds: Tensor | None) -> Layer:
    """The same network with these seeds in every dropout, the k-th counted from 0."""
    count = -1

    def change(inner: Layer) -> Layer:
        nonlocal count
        rule: Any = bare(inner.forward)
        if not (isinstance(rule, Forward) and isinstance(rule.run, Dropped)):
            return inner
        count += 1
        return _dropout(rule.run._replace(seeds=seeds, which=count))

    return remade(layer, change)


def with_seeds(x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """The pair (x, seeds), one seed for each of the N samples. The same generator state gives the same bits.

    Raises:
        InputError: x has no leading axis, or generator is no torch.Generator.
    """
    check_generator(generator)
    if not is_dense(x) or not x.ndim:
        raise InputError("x", describe(x), "a tensor with a leading axis N")
    check_memory("x", "a seed for each of its samples", 8 * len(x), generator.device)
    seeds = torch.randint(2**62, (len(x),), generator=generator, device=generator.device)
    return x, seeds.to(x.device)


def _pair(pair: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise InputError("inputs of with_dropout", describe(pair), "a pair (x, seeds), see with_seeds")
    x, seeds = pair
    check_tensor("inputs of with_dropout[0]", x)
    if not is_dense(seeds) or seeds.dtype != torch.int64 or seeds.shape != x.shape[:1]:
        raise InputError("inputs of with_dropout[1]", describe(seeds), f"seeds of shape {tuple(x.shape[:1])} of int64")
    if seeds.device != x.device:
        raise InputError("inputs of with_dropout[1]", f"seeds on {seeds.device}", f"some on {x.device}, where x is")
    return x, seeds


def hashed(seeds: Tensor, which: int, shape: torch.Size) -> Tensor:
    """Integers in [0, 2^31) of shape (N, *shape), each a hash of a seed, of `which` and of its own position."""
    low, high = seeds & (2**BITS - 1), (seeds >> BITS) & (2**BITS - 1)
    keys = _mixed(_mixed(_mixed(low) ^ high) ^ which)
    position = torch.arange(shape.numel(), device=seeds.device).reshape(shape)
    return _mixed(_mixed(position) ^ keys.reshape(-1, *[1] * len(shape)))


def _mixed(z: Tensor) -> Tensor:
    """A bijection of the integers below 2^31 in which every bit depends on all: Murmur3's finalizer, cut to 31 bits."""
    for factor, shift in ((0x45D9F3B, 16), (0x45D9F3B, 15)):
        z = ((z ^ (z >> shift)) * factor) & (2**BITS - 1)
    return z ^ (z >> 16)
