"""The index arithmetic of everything that slides over an image: a kernel of any number of axes, and where it stands.

Along each axis of length L the kernel has K places, d apart, and stands at p = 0, ..., P - 1, s apart, on an image that has
z zeros more at either end; place k of the kernel at p meets

    x[s p + d k - z]          P = floor((L + 2 z - d (K - 1) - 1) / s) + 1

One rule holds for one axis, two, or any number: the letters stand for tuples then, and the arithmetic is that of each axis.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from numbers import Integral
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn.functional import pad

from ..errors import InputError, check_count, describe


class Windows(NamedTuple):
    """Where a kernel stands: an entry for each axis of it."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """From the first place of the kernel to the last, d (K - 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def positions(self, x: Tensor) -> tuple[int, ...]:
        """The P of each axis on x (N, C, *L)."""
        axes = zip(x.shape[2:], self.extent, self.stride, self.padding, strict=True)
        return tuple((length + 2 * z - extent) // s + 1 for length, extent, s, z in axes)

    def of(self, x: Tensor) -> Tensor:
        """What the kernel meets at every position, (N, C, *L) -> (N, C, *P, *K): where nothing is padded a view of x."""
        if any(self.padding):
            x = pad(x, [z for z in reversed(self.padding) for _ in range(2)])
        for axis, (extent, s, d) in enumerate(zip(self.extent, self.stride, self.dilation, strict=True), start=2):
            x = x.unfold(axis, extent, s)[..., ::d]
        return x

    def places(self, x: Tensor) -> Iterator[Tensor]:
        """The same place by place of the kernel, row by row, each (N, C, *P), of an image that is not padded: views of x."""
        positions = self.positions(x)
        for place in product(*map(range, self.kernel)):
            along = zip(place, self.dilation, self.stride, positions, strict=True)
            slices = tuple(slice(k * d, k * d + s * (p - 1) + 1, s) for k, d, s, p in along)
            yield x[(slice(None), slice(None), *slices)]

    def check(self, place: str, x: Tensor, channels: int | None) -> None:
        """Raises InputError unless x is (N, C, *L), and the kernel fits in it."""
        axes = len(self.kernel)
        if x.ndim != 2 + axes or channels not in (None, x.shape[1]):
            needs = ", ".join(["N", str(channels or "C"), *("L" if axes == 1 else "HW")])
            raise InputError(place, describe(x), f"shape ({needs})")
        padded = [length + 2 * z for length, z in zip(x.shape[2:], self.padding, strict=True)]
        if any(extent > length for extent, length in zip(self.extent, padded, strict=True)):
            found = f"{describe(x)}, {_by(padded)} with its padding" if any(self.padding) else describe(x)
            raise InputError(place, found, f"at least {_by(self.extent)}, the extent of the kernel")


def per_axis(place: str, size: Any, axes: int, least: int = 1) -> tuple[int, ...]:
    """An integer for each axis, of one for all or one for each. Raises InputError unless that is what it is."""
    each = size if isinstance(size, Sequence) and not isinstance(size, str) else [size] * axes
    if len(each) != axes:
        raise InputError(place, size, f"{'one integer' if axes == 1 else f'one integer, or one for each of {axes} axes'}")
    if any(isinstance(one, Integral) and int(one) >= 2**31 for one in each):
        raise InputError(place, describe(size), "integers below 2^31")
    if least:
        return tuple(check_count(place, one) for one in each)
    for one in each:
        if not isinstance(one, Integral) or isinstance(one, bool) or one:
            try:
                check_count(place, one)
            except InputError:
                raise InputError(place, describe(one), "an integer of at least 0") from None
    return tuple(map(int, each))


def _by(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
