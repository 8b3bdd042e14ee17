"""How many digits of a value are left, from the same function with fewer of them.

Each operation of a floating-point function is off by a rounding of its own, and what becomes of these no value can tell: in
log(1 - s), s = 1 - 1e-15, all but one digit is gone, yet steps of a millionth find the very same number again, as if it were
exact. So the function is evaluated with p bits in place of 53, where each operation sees operands of p bits,

    |f_p(x) - f(x)|  is about  2^(53 - p)  times the rounding error of f(x)

for some p. Whole numbers of moderate size, zeros, and all that is merely moved or compared stay as they are, so that no
index, mask or tie is another. (Monte Carlo arithmetic adds a random rounding in place of it: Parker, "Monte Carlo
arithmetic", UCLA CSD-970002, 1997.) Beside that the operands themselves are rounded anew, and where a gradient goes is how
far rounding moves it: `spreads`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .. import tree
from ..types import Batch, Params, Tree
from .trials import attempt, copied

ANEW = 4  # times that the operands are rounded anew
LEFT_OUT = (2, 4, 8)  # bits, 53 - p: one number in 256 is none the shorter for it


class Shortened(TorchDispatchMode):
    """Within it every operation sees float64 operands whose last bits are rounded away."""

    def __init__(self, bits: int) -> None:
        """How many bits are left out."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.bits = bits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation, but on shorter numbers; not where it returns a view of its operands, or writes into one."""
        if not any(each.alias_info for each in func._schema.arguments):
            args, kwargs = tree.map(lambda x: shortened(x, self.bits), (tuple(args), dict(kwargs or {})))
        return func(*args, **(kwargs or {}))


def shorter(call: Callable[..., Any], *arguments: Any) -> Iterator[tuple[int, Any]]:
    """How many bits are left out, and what the call then returns; not where it refuses."""
    for bits in LEFT_OUT:
        with Shortened(bits):
            found = attempt(call, *arguments)
        if found is not None:
            yield bits, found


def shortened(x: Any, bits: int) -> Any:
    """The nearest numbers without so many of their last bits; what is not float64 as it is."""
    if not isinstance(x, Tensor) or x.dtype != torch.float64:
        return x
    return ((x.resolve_neg().view(torch.int64) + 2 ** (bits - 1)) & -(2**bits)).view(torch.float64)


def rounding(values: Callable[[Tensor], Tensor], at: Tensor, found: Tensor) -> Tensor:
    """How far the values found at some places are off by rounding, each for itself; 0 where no rounding is to be seen."""
    off = torch.zeros_like(found)
    for bits, other in shorter(values, at):
        off = torch.maximum(off, (other - found).abs().nan_to_num(torch.inf, torch.inf) / 2**bits)
    return off


def rounded(x: Tree, eps: float, seed: int = 0) -> Tree:
    """The same tree with every floating number moved towards 0, where all may go, by a random relative error of size eps."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(x: Any) -> Any:
        if not (isinstance(x, Tensor) and x.is_floating_point()):
            return x
        return x * (1 - eps * torch.rand(x.shape, generator=generator, dtype=torch.float64, device="cpu").to(x))

    return tree.map(leaf, x)


def spreads(gradient: Callable[..., Any], params: Params, batch: Batch, few: bool = True) -> list[float]:
    """How far rounding moves each leaf of a gradient, that of every operand or of every operation; 0 where it refuses.

    Without `few`, for many numbers, the operands are rounded once.
    """
    eps = max(torch.finfo(leaf.dtype).eps for leaf in tree.leaves(params))
    here = tree.leaves(gradient(*copied((params, batch)))[1])
    anew = [[rounded(x, 4 * eps, seed) for x in (params, batch)] for seed in range(ANEW if few else 1)]
    there = [attempt(gradient, *moved) for moved in anew]
    if any(each is None for each in there):
        return [0.0] * len(here)
    there += [each for _, each in shorter(gradient, *copied((params, batch)))] if few else []
    moved = [tree.leaves(each[1]) for each in there]
    return [max(float((x - other[i]).double().norm()) for other in moved) for i, x in enumerate(here)]
