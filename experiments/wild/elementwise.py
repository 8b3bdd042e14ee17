"""Mistakes in functions that work entry by entry: a factor, a sign, or the upstream gradient dy itself is lost."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.bugs.mistakes import normal
from experiments.wild.case import Case, Point

A, B = normal(5, 3), normal(5, 3, seed=1)
X = 2 * normal(5, 3, seed=2)
WITH_ZERO = X.masked_fill(torch.arange(15).reshape(5, 3) == 7, 0)
ONES, LN2 = torch.ones(3, 2, dtype=torch.float64), math.log(2)
NO_UPSTREAM = r"linear|upstream|cotangent is (taken|ignored|left|not|lost)|(ignores|without) (the |its )?(cotangent|dy)\b"
FACTOR = r"factor\b(?! [2N]\b).*\b(missing|lost|lacks|forgotten)|(missing|lost|lacks|forgotten)\b.*\bfactor\b(?! [2N]\b)"


def silu_slope(x: Tensor, s: Tensor) -> Tensor:
    """The derivative of x s with s = sigmoid(x)."""
    return s * (1 + x * (1 - s))


def gelu_slope(x: Tensor) -> Tensor:
    """Phi(x) + x phi(x), of the normal distribution."""
    return torch.special.ndtr(x) + x * (-x * x / 2).exp() / math.sqrt(2 * math.pi)


def softplus_slope(x: Tensor) -> Tensor:
    """1 where torch's softplus is linear, from 20 on."""
    return torch.where(x > 20, 1, x.sigmoid())


CASES = [
    Case(
        "fla-org/flash-linear-attention#360",
        "exp(-exp(w))",
        "the derivative of the inner function, -exp(w), is left out",
        "w had no gradient test",
        rf"chain|inner|reparam|{FACTOR}|derivative (at|of) (the )?(input|w)\b.* missing|derivative of -?exp",
        lambda w: (-w.exp()).exp(),
        lambda w, dy: dy * (-w.exp()).exp() * -w.exp(),
        lambda w, dy: dy * (-w.exp()).exp(),
        Point((A,)),
    ),
    Case(
        "ml-explore/mlx#2453",
        "atan2(a, b)",
        "the factors b and -a have become 1 and -1",
        "at a = b = 1, the point of the test, they are",
        rf"{FACTOR}|factor inputs|other input|inputs\[[01]\] is missing",
        torch.atan2,
        lambda a, b, dy: (dy * b / (a * a + b * b), -dy * a / (a * a + b * b)),
        lambda a, b, dy: (dy / (a * a + b * b), -dy / (a * a + b * b)),
        Point((A, B)),
        Point((ONES, ONES)),
    ),
    Case(
        "huggingface/candle#211",
        "a / b",
        "the gradient of b lacks its minus",
        "there was no test",
        r"\bsign\b|minus|negat|opposite",
        torch.div,
        lambda a, b, dy: (dy / b, -dy * a / b**2),
        lambda a, b, dy: (dy / b, dy * a / b**2),
        Point((A, B)),
    ),
    Case(
        "huggingface/candle#534",
        "max(a, b)",
        "the gradient of b has a minus too many",
        "the second argument was a constant wherever it was used",
        r"\bsign\b|minus|negat|opposite",
        torch.maximum,
        lambda a, b, dy: (dy * (a > b), dy * (b > a)),
        lambda a, b, dy: (dy * (a > b), -dy * (b > a)),
        Point((A, B)),
        Point((A, torch.zeros_like(A)), constants=1),
    ),
    Case(
        "huggingface/candle#2083",
        "silu(x)",
        "the sigmoid is got back as y / x, which is 0 / 0 at 0",
        "no point tried was 0",
        r"finite|\bnan\b|0 / 0|divi(des|sion)|singular",
        F.silu,
        lambda x, dy: dy * silu_slope(x, x.sigmoid()),
        lambda x, dy: dy * silu_slope(x, F.silu(x) / x),
        Point((WITH_ZERO,)),
        Point((X,)),
    ),
    Case(
        "state-spaces/mamba#574",
        "softplus(x)^2, linear above 20",
        "above 20 the upstream gradient stands where softplus(x) should",
        "inputs stayed below 20",
        rf"{NO_UPSTREAM}|branch|threshold|region|above|squared",
        lambda x: F.softplus(x, threshold=20).square(),
        lambda x, dy: dy * 2 * F.softplus(x, threshold=20) * softplus_slope(x),
        lambda x, dy: dy * 2 * torch.where(x > 20, dy, F.softplus(x, threshold=20)) * softplus_slope(x),
        Point((X + 20,)),
        Point((X,)),
    ),
    Case(
        "sony/nnabla#690",
        "gelu(x)",
        "the upstream gradient is left out",
        "the test's reference leaves it out as well",
        NO_UPSTREAM,
        F.gelu,
        lambda x, dy: dy * gelu_slope(x),
        lambda x, dy: gelu_slope(x),
        Point((X,)),
    ),
    Case(
        "chainer/chainer",
        "Huber(x), entry by entry",
        "the upstream gradient is left out",
        "the tests gave none, which stands for ones",
        NO_UPSTREAM,
        lambda x: F.huber_loss(x, torch.zeros_like(x), reduction="none"),
        lambda x, dy: dy * x.clamp(-1, 1),
        lambda x, dy: x.clamp(-1, 1),
        Point((X,)),
    ),
    Case(
        "tenstorrent/tt-metal#6533",
        "a 2^b",
        "e^b ln 2 for 2^b, and the upstream gradient is left out",
        "tests compared correlations, which see no scale",
        rf"{NO_UPSTREAM}|\bln\b|\bbase\b|logarithm|power of",
        lambda a, b: a * 2**b,
        lambda a, b, dy: (dy * 2**b, dy * a * 2**b * LN2),
        lambda a, b, dy: (b.exp() * LN2, a * b.exp() * LN2**2),
        Point((A, B)),
    ),
]
