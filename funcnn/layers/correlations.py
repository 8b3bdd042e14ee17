"""The three sums of a convolution, and that of its weights before the sum over the batch.

The first two are torch's own, on images of any number of axes; the third is kept as its factors, x and dy, from which
follows what `layers.factors` names. Written out over the windows of x, the summands are products of small
matrices for each sample n and group of channels,

    dw_n[o, ck] = sum_p dy[n, o, p] met[n, ck, p]         met[n, ck, p] = x[n, c, s p + d k - z]

that is `Outer(met, dy)` with the positions p for tokens, so that norms of few positions come from Gram matrices.
"""

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from .. import kernels
from .factors import Outer, scaled
from .windows import Windows


def convolved(x: Tensor, w: Tensor, b: Tensor | None, windows: Windows, groups: int) -> Inexact[Tensor, "N O *P"]:
    """The sum y[n, o, p] = b[o] + sum_ck w[o, c, k] x[n, c, s p + d k - z]."""
    _, stride, padding, dilation = windows
    return torch.convolution(x, w, b, stride, padding, dilation, False, [0] * len(stride), groups)


def transposed(dy: Tensor, w: Tensor, x: Tensor, windows: Windows, groups: int) -> Float[Tensor, "N C *L"]:
    """The sum dx[n, c, q] = sum_okp dy[n, o, p] w[o, c, k] over q = s p + d k - z, of the shape of x."""
    _, stride, padding, dilation = windows
    # The ends of x that no position reached: what is left of the division in `positions`.
    left = [
        (length + 2 * z - extent) % s
        for length, extent, s, z in zip(x.shape[2:], windows.extent, stride, padding, strict=True)
    ]
    return torch.convolution(dy, w, None, stride, padding, dilation, True, left, groups)


class Correlations:
    """The N arrays dw_n[o, c, k] = sum_p dy[n, o, p] x[n, c, s p + d k - z], not multiplied out, of the shape of w.

    No NamedTuple, so that trees take it for a leaf.
    """

    __slots__ = ("x", "dy", "w", "windows", "groups")

    def __init__(
        self, x: Float[Tensor, "N C *L"], dy: Float[Tensor, "N O *P"], w: Tensor, windows: Windows, groups: int
    ) -> None:
        """Keeps the factors."""
        self.x, self.dy, self.w, self.windows, self.groups = x, dy, w, windows, groups

    @property
    def shape(self) -> tuple[int, ...]:
        """(O, C / G, *K)."""
        return tuple(self.w.shape)

    def total(self) -> Tensor:
        """Their sum."""
        return kernels.convolution_weights(self.dy, self.x, self.w, *self.windows[1:], self.groups)

    def each(self) -> Tensor:
        """All of them, multiplied out."""
        return self._outer().each().mT.reshape(len(self.x), *self.w.shape)

    def norms(self, dtype: torch.dtype) -> Float[Tensor, " N"]:
        """The Euclidean norm of each, computed in a dtype."""
        of_groups = self._outer().norms(dtype).reshape(-1, self.groups)
        return of_groups.squeeze(1) if self.groups == 1 else torch.linalg.vector_norm(of_groups, dim=1)

    def weighted(self, weights: Float[Tensor, " N"]) -> Tensor:
        """The sum of c_n times each."""
        return Correlations(self.x, scaled(self.dy, weights), self.w, self.windows, self.groups).total()

    def _outer(self) -> Outer:
        """The matrices (C K / G, O / G) of all samples and groups, N G of them, with the positions for tokens."""
        met, axes = self.windows.of(self.x), len(self.windows.kernel)  # (N, C, *P, *K)
        met = met.permute(0, 1, *range(-axes, 0), *range(2, 2 + axes)).flatten(-axes)  # (N, C, *K, P)
        met = met.unflatten(1, (self.groups, -1)).flatten(2, -2)  # (N, G, C K / G, P)
        dy = self.dy.unflatten(1, (self.groups, -1)).flatten(3)  # (N, G, O / G, P)
        return Outer(met.flatten(0, 1).mT, dy.flatten(0, 1).mT)
