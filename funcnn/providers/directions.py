"""Random directions with E u u^T = I, so that the mean of (u . g) u is g, whatever g is.

A direction is a function of a seed and of the shapes, dtypes and devices of the leaves, drawn leaf by leaf by a generator
of its own; so it can be drawn again in place of being kept.

    gaussian      u_i of N(0, 1)             E |(u . g) u|^2 = (d + 2) |g|^2
    rademacher    u_i = 1 or -1              E |(u . g) u|^2 = d |g|^2
    orthogonal    K of them, u_j . u_k = d where j = k, else 0: the columns of a random orthogonal matrix times sqrt(d).
                  Their mean of (u . g) u is d/K times a projection of g, and its square on the average d/K |g|^2

d is the number of parameters. See Mezzadri, "How to generate random matrices from the classical compact groups" (2007); the
signs of the columns, which he corrects, do not matter to (u . g) u.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from ..errors import InputError
from ..memory import check_memory

Entries = Callable[[Tensor, Generator], Tensor]


def gaussian(leaf: Tensor, generator: Generator) -> Tensor:
    """Independent entries of N(0, 1), as many as a leaf has."""
    return torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype, device=leaf.device)


def rademacher(leaf: Tensor, generator: Generator) -> Tensor:
    """Independent entries that are 1 or -1."""
    bits = torch.randint(2, leaf.shape, generator=generator, dtype=leaf.dtype, device=leaf.device)
    return bits.mul_(2).sub_(1)


def direction(entries: Entries, leaves: list[Tensor], seed: int) -> Iterator[Tensor]:
    """The direction of a seed, leaf by leaf: no more than one of them need be kept."""
    generators: dict[torch.device, Generator] = {}
    for leaf in leaves:
        if leaf.device not in generators:
            generators[leaf.device] = _generator(leaf.device, seed)
        yield entries(leaf, generators[leaf.device])


def _generator(device: torch.device, seed: int) -> Generator:
    try:
        return Generator(device).manual_seed(seed)
    except RuntimeError as error:
        raise InputError("params", f"tensors on {device}", "some on a device that has random numbers") from error


def directions(entries: Entries, leaves: list[Tensor], seeds: list[int]) -> list[Tensor]:
    """One for each of K seeds: a tensor (K, ...) for each leaf. Raises InputError where there is no memory for them."""
    for device in {leaf.device for leaf in leaves}:
        size = len(seeds) * sum(leaf.nbytes for leaf in leaves if leaf.device == device)
        check_memory("samples", f"{len(seeds)} directions", size, device)
    every = [torch.empty(len(seeds), *leaf.shape, dtype=leaf.dtype, device=leaf.device) for leaf in leaves]
    for k, seed in enumerate(seeds):
        for together, u in zip(every, direction(entries, leaves, seed), strict=True):
            together[k] = u
    return every


def orthogonalised(directions: list[Tensor]) -> list[Tensor]:
    """K orthogonal directions of length sqrt(d), made of Gaussian ones. Raises InputError where K > d."""
    flat = [u.reshape(len(u), u[0].numel()) for u in directions]
    sizes = [u.shape[1] for u in flat]
    count, d = len(flat[0]), sum(sizes)
    if count > d:
        raise InputError("samples", count, f"at most {d} orthogonal directions, as many as there are parameters")
    wide = torch.cat([u.to(torch.promote_types(u.dtype, torch.float32)) for u in flat], 1)
    columns = torch.linalg.qr(wide.T)[0].T * d**0.5
    return [column.reshape(u.shape).to(u.dtype) for column, u in zip(columns.split(sizes, 1), directions, strict=True)]
