"""Sets of indices, weights and numbers in words."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from ...causes import Cause
from ..evidence import Said

CLOSE = 1e-5


def indices(chosen: Tensor) -> str:
    """Where a boolean vector is true: "the last 2", "every second", "3, 5"."""
    found, n = chosen.nonzero()[:, 0].tolist(), len(chosen)
    k = len(found)
    if found == [*range(k)]:
        return "the first" + (f" {k}" if k > 1 else "") + (" (half of them)" if 2 * k == n and k > 1 else "")
    if found == [*range(n - k, n)]:
        return "the last" + (f" {k}" if k > 1 else "") + (" (half of them)" if 2 * k == n and k > 1 else "")
    if k > 1 and found in ([*range(0, n, 2)], [*range(1, n, 2)]):
        return f"every second from {found[0]} on"
    if k > 2 and found == [*range(found[0], found[0] + k)]:
        return f"{found[0]} to {found[-1]}"
    if 0 < n - k < k and k > 3:
        return f"all but {', '.join(map(str, (~chosen).nonzero()[:, 0].tolist()))}"
    return ", ".join(map(str, found[:8])) + (", ..." if k > 8 else "")


def times(c: float) -> str:
    """A factor in words."""
    known = {0.0: "0: not written, or left out", -1.0: "the negative of the reference: a sign", 2.0: "2 times the reference"}
    return next((words for x, words in known.items() if abs(c - x) <= CLOSE), f"{c:.6g} times the reference")


def weights(w: Tensor, where: str, fields: Sequence[tuple[str, Tensor]]) -> Iterator[Said]:
    """What a weight for each index is: a slab, or the numbers of an input."""
    off = (w - 1).abs() > CLOSE
    if not off.any():
        return
    c = w[off][0].item()
    if (w[off] - c).abs().max() <= CLOSE and not off.all():
        one = int(off.sum()) == 1
        only = "" if indices(off).startswith("all") else "only "
        yield Cause.SLAB, f"{only}{indices(off)} {where} {'is' if one else 'are'} wrong: there it is {times(c)}"
    elif (1 / w[off] - (1 / w[off]).round()).abs().max() <= CLOSE and (w[off] > 0).all():
        counts = ", ".join(f"{x:.0f}" for x in (1 / w[off]).unique().tolist())
        yield Cause.FACTOR_N, f"{indices(off)} {where} are divided by {counts}: averaged over what must be summed"
    elif off.all() and len(w) > 2 and (w - w[0]).abs().max() > CLOSE:
        for what, x in fields:
            if x.numel() != len(w) or not x.is_floating_point() or not x.all():
                continue
            for words, v in (
                (f"by {what} is there once too often", x.flatten()),
                (f"by {what} is missing", 1 / x.flatten()),
            ):
                c = ((w @ v) / (v @ v)).item()
                if (w - c * v).norm() <= CLOSE * w.norm():
                    more = "" if abs(c - 1) <= CLOSE else f", and there is a factor {c:.6g}"
                    yield Cause.FACTOR, f"{where} a product {words}{more}"
