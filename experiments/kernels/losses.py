"""Losses. The gradient is that of the first input, or of both; v is the upstream gradient of a mean, a single number.

cross entropy    -<log s[t]>:  v (s - onehot) / n, with smoothing (1 - a) onehot + a / C, with an ignored label 0 and n less
huber            <min(d^2 / 2, |d| - 1 / 2)>:  v clip(d) / n
focal            -<(1 - p)^g log p>, p = s[t]:  dp = g (1 - p)^(g-1) log p - (1 - p)^g / p,  dx = dp p (onehot - s) v / n
KL               <sum p (log p - x)>:  dp = v (log p + 1 - x) / n,  dx = -v p / n
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.kernels.kernel import Bug, Inputs, Kernel, changed, cut, draws, followed, upstream

LABELS = torch.tensor([2, 0, 1, 4, 2, 3])


IGNORED = torch.tensor([2, -100, 1, 4, -100, 3])


SMOOTHING, GAMMA = 0.1, 2.0


def cross_entropy_rule(
    x: Tensor, t: Tensor, v: Tensor, n: float = 6, hot: float = 1.0, axis: int = 1, smoothing: float = 0
) -> Tensor:
    """n, hot (the height of onehot) and axis are as they stand in the right rule."""
    target = (1 - smoothing) * F.one_hot(t, x.shape[1]) + smoothing / x.shape[1]
    return v * (x.softmax(axis) - hot * target) / n


def ignoring_rule(x: Tensor, t: Tensor, v: Tensor, n: float = 0, keep: bool = True, at: int = 0) -> Tensor:
    """An ignored label is replaced by `at` and its row by 0; n is the number of the others where it is not given."""
    g = cross_entropy_rule(x, torch.where(t < 0, at, t), v, n or int((t >= 0).sum()))
    return g * (t >= 0)[:, None] if keep else g


def huber_rule(x: Tensor, t: Tensor, v: Tensor, n: float = 15, edge: float = 1.0) -> tuple[Tensor, Tensor]:
    """Both sides get the slope clip(x - t)."""
    g = v * (x - t).clamp(-edge, edge) / n
    return g, -g


def focal(x: Tensor, t: Tensor) -> Tensor:
    """The mean over the rows."""
    p = x.softmax(1).gather(1, t[:, None])[:, 0]
    return -((1 - p) ** GAMMA * p.log()).mean()


def focal_rule(
    x: Tensor, t: Tensor, v: Tensor, inner: float = 1, outer: float = 1, gamma: float = GAMMA, power: int = 1
) -> Tensor:
    """The rule above; inner and outer are the weights of its two terms, power that of p."""
    s = x.softmax(1)
    p = s.gather(1, t[:, None])
    dp = inner * gamma * (1 - p) ** (gamma - 1) * p.log() - outer * (1 - p) ** gamma / p
    return v * dp * p**power * (F.one_hot(t, 5) - s) / len(x)


def kl_rule(x: Tensor, p: Tensor, v: Tensor, one: float = 1, n: float = 4) -> tuple[Tensor, Tensor]:
    """The rule above; one is the derivative of p log p beside log p."""
    return -v * p / n, v * (p.log() + one - x) / n


def kl_inputs(seed: int) -> Inputs:
    """Log-probabilities and probabilities."""
    x, p = draws((4, 6), (4, 6))(seed)
    return x.log_softmax(1), p.softmax(1)


labelled = followed(draws((6, 5)), LABELS)


smoothed_rule = partial(cross_entropy_rule, smoothing=SMOOTHING)


KERNELS = [
    Kernel(
        "cross_entropy",
        F.cross_entropy,
        cross_entropy_rule,
        labelled,
        [
            Bug("summed, not averaged", "count factor", partial(cross_entropy_rule, n=1)),
            Bug("averaged over the classes too", "count factor", partial(cross_entropy_rule, n=30)),
            Bug("softmax over the batch", "axis", partial(cross_entropy_rule, axis=0)),
            Bug("v taken to be 1", "upstream factor", upstream(cross_entropy_rule, torch.ones_like)),
            Bug("onehot - s", "sign", lambda x, t, v: -cross_entropy_rule(x, t, v)),
            Bug("labels one off", "shift", lambda x, t, v: cross_entropy_rule(x, (t + 1) % 5, v)),
        ],
    ),
    Kernel(
        "label_smoothing",
        partial(F.cross_entropy, label_smoothing=SMOOTHING),
        smoothed_rule,
        labelled,
        [
            Bug("the smoothing forgotten", "term constant", partial(smoothed_rule, smoothing=0)),
            Bug("a / (C - 1) for a / C", "count factor constant", partial(smoothed_rule, smoothing=SMOOTHING * 5 / 4)),
            Bug(
                "onehot not lowered",
                "factor constant term",
                lambda x, t, v: smoothed_rule(x, t, v) - v * SMOOTHING * F.one_hot(t, 5) / 6,
            ),
            Bug("summed, not averaged", "count factor", partial(smoothed_rule, n=1)),
            Bug("the last class is not written", "border", changed(smoothed_rule, 0, lambda g, *_: cut(g, ..., -1))),
        ],
    ),
    Kernel(
        "ignore_index",
        partial(F.cross_entropy, ignore_index=-100),
        ignoring_rule,
        followed(draws((6, 5)), IGNORED),
        [
            Bug("divided by all rows", "count factor", partial(ignoring_rule, n=6)),
            Bug("ignored rows not set to 0", "mask row branch", partial(ignoring_rule, keep=False)),
            Bug(
                "rows of label 1 ignored too", "mask row branch", lambda x, t, v: ignoring_rule(x, t, v) * (t != 1)[:, None]
            ),
            Bug(
                "softmax left out", "term", lambda x, t, v: ignoring_rule(x, t, v) - v * x.softmax(1) * (t >= 0)[:, None] / 4
            ),
        ],
    ),
    Kernel(
        "huber",
        F.smooth_l1_loss,
        huber_rule,
        draws((3, 5), (3, 5), scale=2.0),
        [
            Bug("not clipped", "branch", partial(huber_rule, edge=1e9)),
            Bug("clipped at 2", "branch constant", partial(huber_rule, edge=2.0)),
            Bug("the sign only", "branch", lambda x, t, v: (v * (x - t).sign() / 15, -v * (x - t).sign() / 15)),
            Bug("both with the same sign", "sign", changed(huber_rule, 1, lambda g, *_: -g)),
            Bug("v ignored", "upstream factor", upstream(huber_rule, torch.ones_like)),
            Bug("averaged over the rows only", "count factor", partial(huber_rule, n=3)),
        ],
    ),
    Kernel(
        "focal",
        focal,
        focal_rule,
        labelled,
        [
            Bug("(1 - p)^g held constant", "term", partial(focal_rule, inner=0)),
            Bug("log p held constant", "term", partial(focal_rule, outer=0)),
            Bug("the sign of the first term", "sign term", partial(focal_rule, inner=-1)),
            Bug("the factor g forgotten", "factor", partial(focal_rule, inner=1 / GAMMA)),
            Bug("p of the softmax's slope forgotten", "once factor slope", partial(focal_rule, power=0)),
        ],
    ),
    Kernel(
        "kl_divergence",
        lambda x, p: (p * (p.log() - x)).sum() / len(x),
        kl_rule,
        kl_inputs,
        [
            Bug("the 1 forgotten", "term constant", partial(kl_rule, one=0)),
            Bug("averaged over all entries", "count factor", partial(kl_rule, n=24)),
            Bug("exp(x) for p", "replaced", changed(kl_rule, 0, lambda g, x, p, v: -v * x.exp() / 4)),
            Bug("dp is not given", "zero term", changed(kl_rule, 1, lambda g, *_: 0 * g)),
            Bug(
                "as if x were logits",
                "term projection elsewhere",
                changed(kl_rule, 0, lambda g, x, p, v: v * (x.softmax(1) - p) / 4),
            ),
        ],
    ),
]
