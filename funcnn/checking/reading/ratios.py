"""g / r, entry by entry.

For y_i = f(x_i) every factor of the derivative that is missing, too many or another shows in g_i / r_i as that number: x,
1 / x, y / x, an exponential, the slope of something. It is sought among the values of the formula that have the shape of
the leaf.
"""

from collections.abc import Iterator

import torch

from ...causes import Cause
from ..evidence import Evidence, Said
from .graph import SEEN, Reading, read


def ratio(e: Evidence) -> Iterator[Said]:
    """Entry by entry g / r is a factor times one value, its inverse, or the ratio of two."""
    for r in read(e):
        names, values = r.alike(r.r.shape)
        values = values[(values != 0).flatten(1).all(1)] if len(values) else values
        names = [n for n in names if (r.value(n) != 0).all()]
        if not len(values) or values.numel() * len(values) > 10**6 or r.x.numel() < 5:
            continue
        ones = torch.ones_like(r.r)[None]
        above, below = torch.cat([ones, values]), torch.cat([ones, 1 / values])
        shape = (-1, *r.r.shape)
        many = (r.r * above[:, None] * below).reshape(shape).flatten(1)
        c = (many @ r.g.flatten()) / many.square().sum(1)
        left = (r.g.flatten() - c[:, None] * many).norm(dim=1)
        for k in (left <= SEEN * r.error.norm()).nonzero()[:, 0].tolist():
            i, j = divmod(k, len(above))
            if i != j and r.explains((c[k] * many[k]).reshape(r.r.shape), spare=1):
                times = "" if abs(c[k] - 1) < 1e-6 else f", and the number {c[k]:.5g}"
                yield Cause.FACTOR, _ratio_told(r, names[i - 1] if i else None, names[j - 1] if j else None) + times


def _ratio_told(r: Reading, above: int | None, below: int | None) -> str:
    if above is None or below is None:
        if above is None:
            assert below is not None
            return f"a factor is missing, or divided by once too often: {r.words.phrase(below)}, entry by entry"
        return f"a factor too many: {r.words.phrase(above)}, entry by entry"
    return f"a wrong factor: {r.words.phrase(above)} stands in place of {r.words.phrase(below)}, entry by entry"
