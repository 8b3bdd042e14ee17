"""Mistakes that the gradients of single samples give away, where that of the batch says nothing.

Each takes the evidence and yields (cause, sentence) if it fits.
"""

from collections.abc import Iterator

from ..causes import Cause
from .evidence import Evidence, Said


def weighted_samples(e: Evidence) -> Iterator[Said]:
    """Each sample's gradient is right but for a factor of its own, such as 0 for those that are left out."""
    if e.samples is None or len(e.samples[0]) < 2:
        return
    g, r = (x.reshape(len(x), -1) for x in e.samples)
    squares = r.square().sum(1)
    weights = (g * r).sum(1) / squares.clamp(min=1e-300)
    if (g - weights[:, None] * r).norm() <= 1e-3 * (g - r).norm():
        wrong = ((weights - 1).abs() > 1e-3) & (squares > 0)
        listed, share = ", ".join(map(str, wrong.nonzero()[:8, 0].tolist())), weights[wrong]
        if len(share):
            yield (
                Cause.NONE,
                f"{e.each}s {listed} count {share.min():.3g} to {share.max():.3g} times, where each counts once",
            )


def one_sample(e: Evidence) -> Iterator[Said]:
    """The whole is one sample's gradient."""
    if e.samples is None or len(e.samples[0]) < 2:
        return
    for n, r in enumerate(e.samples[1]):
        if r.any() and e.fits(Evidence(e.g, r, e.allowed).factor * r):
            cause = Cause.BIAS_REDUCTION if e.g.ndim == 1 else Cause.NONE
            yield cause, f"it is that of {e.each} {n} alone: the others are left out, not summed"
