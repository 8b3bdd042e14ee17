"""What is wrong with an estimator: the mistakes that its draws can tell apart, by name."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from ..causes import Cause
from ..report import Finding
from .estimator_laws import second
from .estimator_source import Estimator
from .estimator_steps import Law, Steps

SURE = 5.0  # standard errors
GROWS = 30.0  # times, where the step is 4^-6 times as long
NEAR = 1.4  # at most, the ratio of two means that are meant to be the same


class Names(NamedTuple):
    """The findings about an estimator, by its draws (n, d) and how many of these are different: ok, or wrong with a name."""

    e: Estimator
    estimates: Tensor
    different: int

    def mean(self, off: Tensor, may: Tensor, which: slice) -> Finding:
        """Of the mean of some entries, looked at along some directions."""
        worst = int((off / may).argmax())
        error, allowed = float(off[worst]), float(may[worst])
        if error <= allowed:
            return Finding("ok", error, allowed)
        cause, sentence = self._of_mean(self.estimates[:, which], self.e.g[which])
        return Finding("wrong", error, allowed, cause=cause, diagnosis=sentence)

    def _of_mean(self, x: Tensor, g: Tensor) -> tuple[Cause, str]:
        if not x.any():
            return Cause.ZERO, "it is 0 in every draw"
        still = int(((x == 0).all(0) & (g != 0)).sum())
        if still:
            return Cause.LEFT_OUT, f"{still} of {len(g)} entries are 0 in every draw: they are never moved"
        if not g.any():
            return Cause.BIASED, "its mean is not 0, as the reference is"
        ratio = x @ g / g.square().sum()
        c, error = float(ratio.mean()), float(ratio.std() / math.sqrt(len(ratio)))
        told = f"its mean is {c:.4g} times the reference, give or take {error:.1g}"
        if not _crooked(x, g, c):
            near = [known for known in self._factors(c) if abs(c - known[1]) <= max(SURE * error, 1e-3 * abs(known[1]))]
            if near:
                return near[0][0], f"{told}: {', or '.join(sentence for _, _, sentence in near)}"
        if self.different < len(x) / 4:
            how = "all of them are the same" if self.different == 1 else f"only {self.different} of {len(x)} differ"
            return Cause.REUSED_SEED, f"{how}: seeds are reused, and the mean of so few is another"
        if _crooked(x, g, c):
            return Cause.BIASED, f"{told}, and points elsewhere"
        return Cause.FACTOR, f"{told}; no hypothesis has that factor"

    def _factors(self, c: float) -> Iterator[tuple[Cause, float, str]]:
        """The factors that have a name: the mistake, the factor, a sentence."""
        k, d, n = self.e.samples or 1, len(self.e.g), self.e.rows
        yield Cause.ZERO, 0.0, "as much up as down: what is multiplied with the slopes is not their direction"
        yield Cause.SIGN, -1.0, "a sign"
        if self.e.directions == "orthogonal":
            yield Cause.DIMENSION, k / d, f"d / K = {d} / {k} is missing"
        if k > 1:
            yield Cause.SAMPLES, float(k), f"the sum over {k} samples in place of their mean"
            yield Cause.SAMPLES, 1 / k, f"the mean over {k} samples is taken twice"
        yield Cause.FACTOR_2, 2.0, "a factor 2 too many"
        yield Cause.FACTOR_2, 0.5, "a factor 2 is missing"
        if d > 2:
            yield Cause.DIMENSION, 1 / d, f"d = {d} is missing: directions have length 1 in place of sqrt(d)"
            yield Cause.DIMENSION, float(d), f"d = {d} too many"
        if n > 2:
            yield Cause.FACTOR_N, float(n), f"with N = {n}, a sum over the batch in place of a mean"
            yield Cause.FACTOR_N, 1 / n, f"with N = {n}, the mean over the batch is taken twice"
        if not 1e-2 < abs(c) < 1e2:
            yield Cause.STEP, c, "as if by a half-step too many, or too few"

    def independence(self, law: Law, rare: float) -> Finding:
        """Of the draws one after another, and of so many equal ones as there never are."""
        n = len(self.estimates)
        again = n - self.different
        if again >= rare or self.different < n / 4 and not law.holds:
            sentence = f"{again} of {n} draws are equal to another one: seeds are reused"
            return Finding("wrong", law.error, law.allowed, cause=Cause.REUSED_SEED, diagnosis=sentence)
        sentence = f"draws that are {law.hint:g} apart have a correlation of {law.error:.2g}"
        return _finding(law, Cause.CORRELATED, sentence)

    def samples(self, law: Law) -> Finding:
        """Of averages over samples."""
        k = max(self.e.samples or 1, 2)
        if not 1 / NEAR < law.hint < NEAR:
            what = "the sum over the samples" if law.hint > 1 else "a mean over the samples that is divided once more"
            return _finding(law, Cause.SAMPLES, f"the mean of {k} samples is {law.hint:.3g} times that of one: {what}")
        sentence = f"the variance of {k} samples is {law.times:.3g} times that of {k} estimates of one"
        if law.times > k / NEAR:
            return _finding(law, Cause.REUSED_SEED, f"{sentence}: the {k} are one and the same, as of one seed")
        return _finding(law, Cause.CORRELATED, f"{sentence}: its samples are not independent")

    def step(self, found: Steps) -> Finding:
        """Of other lengths of the same directions."""
        if not found.again:
            sentence = "the same draw gives other numbers when it is asked again: something else is drawn, a mask or a batch"
            return Finding("wrong", math.inf, found.law.allowed, cause=Cause.REDRAWN, diagnosis=sentence)
        sentence = f"{found.law.error:.1e} of it changes its sign with that of the step"
        if found.law.times > GROWS:
            return _finding(found.law, Cause.REDRAWN, f"{sentence}, and it grows as c shrinks: two functions, not one")
        if abs(found.law.hint - 1) < 0.5:
            return _finding(found.law, Cause.ONE_SIDED, f"{sentence}, as c does: a one-sided quotient, whose bias is no c^2")
        return _finding(found.law, Cause.STEP, f"{sentence}: it is no quotient of two sides")

    def second_moment(self, law: Law) -> Finding:
        """Of the size of the draws."""
        e = self.e
        if not law.holds and not math.isnan(law.hint):
            return _finding(law, Cause.NONE, f"each draw is {law.hint:.4g} times what {e.directions} directions make")
        square = float(self.estimates.square().sum(1).mean() / e.g.square().sum())
        sentence = f"E |g|^2 is {square:.4g} |gradient|^2, and by the law of {e.directions} directions {second(e):.4g}"
        return _finding(law, Cause.DIRECTIONS, sentence)


def _finding(law: Law, cause: Cause, sentence: str) -> Finding:
    if law.holds:
        return Finding("ok", law.error, law.allowed)
    return Finding("wrong", law.error, law.allowed, cause=cause, diagnosis=sentence)


def _crooked(x: Tensor, g: Tensor, c: float) -> bool:
    """Whether both halves of the draws agree on what the mean is beside a multiple of the reference."""
    half = len(x) // 2
    left, right = (part.mean(0) - c * g for part in (x[:half], x[half:]))
    noise = x.var(0).square().sum().sqrt() / half
    return bool(left @ right > SURE * noise)
