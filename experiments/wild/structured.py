"""Mistakes in functions whose entries meet: norms, attention, recurrence, a loss.

What is lost here is a factor, a path (one of two ways by which an input reaches the output), or the upstream gradient, which
is overwritten in memory.
"""

import torch
from torch import Tensor

from experiments.bugs.mistakes import normal
from experiments.wild.case import Case, Point
from experiments.wild.elementwise import FACTOR, NO_UPSTREAM, silu_slope

EPSILON = 1e-5
Q, K, V = normal(5, 3).exp(), normal(5, 3, seed=1).exp(), normal(5, 3, seed=2)
GATES = tuple(normal(4, 3, seed=seed).sigmoid() for seed in range(4))
WRITES = r"writ(es|ten)|overwr|in place(?! of)|mutat|alias|buffer"
PATH = r"\bpath|constant|detach|\bheld\b|(term|summand|part)\b.*(missing|lost)"


def inverse_rms(x: Tensor) -> Tensor:
    """1 / sqrt(mean(x^2) + epsilon), row by row."""
    return (x.square().mean(1, keepdim=True) + EPSILON).rsqrt()


def rms_pullback(x: Tensor, dy: Tensor) -> Tensor:
    """With y = x r: dx = r (dy - y mean(y dy))."""
    r = inverse_rms(x)
    return r * (dy - x * r * (x * r * dy).mean(1, keepdim=True))


def overwritten(x: Tensor, dy: Tensor) -> Tensor:
    """Puts x into the buffer of dy, from which dy is then read."""
    return rms_pullback(x, dy.contiguous().copy_(x))


def in_place(x: Tensor, dy: Tensor) -> Tensor:
    """Puts dx into the buffer of dy, if it lies row by row. The result is right and the caller's dy is gone."""
    return dy.contiguous().copy_(rms_pullback(x, dy)).clone()


def gated_pullback(x: Tensor, g: Tensor, w: Tensor, dy: Tensor, recomputed: bool = True) -> tuple[Tensor, ...]:
    """Of (rms_norm(x) * silu(g)) w^T."""
    n, s = x * inverse_rms(x), g.sigmoid()
    dz = dy @ w
    return rms_pullback(x, dz * g * s), dz * n * silu_slope(g, s), dy.T @ (n * g * s if recomputed else n)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal and linear: the weight of s for t is <q_t, k_s> over its sum over s <= t."""
    return (q @ k.T).tril() @ v / (q * k.cumsum(0)).sum(1, keepdim=True)


def attention_pullback(q: Tensor, k: Tensor, v: Tensor, dy: Tensor, both: bool = True) -> tuple[Tensor, ...]:
    """By way of the numerator, and of the normaliser z."""
    z = (q * k.cumsum(0)).sum(1, keepdim=True)
    dz = -(dy * attention(q, k, v)).sum(1, keepdim=True) / z
    weights = (dy / z @ v.T).tril()
    dk = weights.T @ q + both * (dz * q).flip(0).cumsum(0).flip(0)
    return weights @ k + dz * k.cumsum(0), dk, (q @ k.T).tril().T @ (dy / z)


def recurrence(f: Tensor, i: Tensor, g: Tensor, o: Tensor, start: Tensor) -> Tensor:
    """The cell of an LSTM, its gates given: c_t = f c_(t-1) + i g and h_t = o tanh(c_t)."""
    return o * torch.stack(cells(f, i, g, start)[1:]).tanh()


def cells(f: Tensor, i: Tensor, g: Tensor, start: Tensor) -> list[Tensor]:
    """The start, then c_t after every step."""
    states = [start]
    for t in range(len(f)):
        states.append(f[t] * states[-1] + i[t] * g[t])
    return states


def recurrence_pullback(*inputs_and_dh: Tensor, adds: bool = True) -> tuple[Tensor, ...]:
    """From the last step to the first; dc gathers what h_t and c_(t+1) hand down."""
    f, i, g, o, start, dh = inputs_and_dh
    c, dc, steps = cells(f, i, g, start), torch.zeros_like(start), []
    for t in reversed(range(len(f))):
        h = c[t + 1].tanh()
        dc = adds * dc + dh[t] * o[t] * (1 - h * h)
        steps.append((dc * c[t], dc * g[t], dc * i[t], dh[t] * h))
        dc = dc * f[t]
    return *(torch.stack(grads[::-1]) for grads in zip(*steps, strict=True)), dc


def contrastive(a: Tensor, b: Tensor) -> Tensor:
    """Of unlike pairs: the mean of max(1 - |a - b|^2, 0) / 2."""
    return (1 - (a - b).square().sum(1)).clamp(min=0).mean() / 2


def contrastive_pullback(a: Tensor, b: Tensor, dy: Tensor, differs: bool = True) -> tuple[Tensor, Tensor]:
    """Those within the margin are pushed apart along d = a - b."""
    d = a - b
    da = -dy * (d.square().sum(1, keepdim=True) < 1) * (d if differs else torch.ones_like(d)) / len(a)
    return da, -da


NORM = (lambda x: x * inverse_rms(x), rms_pullback)
CASES = [
    Case(
        "fla-org/flash-linear-attention#1071",
        "(rms_norm(x) * silu(g)) w^T",
        "the input of the matrix product is recomputed without its gate",
        "the module had no test, and its output was right",
        rf"\bgate|silu|recomput|{FACTOR}|depends? on inputs\[1\]",
        lambda x, g, w: (x * inverse_rms(x) * g * g.sigmoid()) @ w.T,
        gated_pullback,
        lambda *inputs_and_dy: gated_pullback(*inputs_and_dy, recomputed=False),
        Point((normal(5, 3), normal(5, 3, seed=1), normal(2, 3, seed=2))),
    ),
    Case(
        "fla-org/flash-linear-attention#875",
        "normalised linear attention",
        "to the keys the normaliser is a constant",
        "only outputs were compared",
        rf"{PATH}|normali[sz]|denominator|quotient",
        attention,
        attention_pullback,
        lambda *inputs_and_dy: attention_pullback(*inputs_and_dy, both=False),
        Point((Q, K, V)),
    ),
    Case(
        "ggml-org/ggml#1491",
        "rms_norm(x)",
        "x is written over the upstream gradient before that is read",
        "the two shared memory only now and then",
        rf"{WRITES}|{NO_UPSTREAM}",
        *NORM,
        overwritten,
        Point((normal(4, 3),)),
    ),
    Case(
        "linkedin/Liger-Kernel#1305",
        "rms_norm(x), in place",
        "the result is written over the caller's upstream gradient",
        "the test compared a buffer with itself",
        WRITES,
        *NORM,
        in_place,
        Point((normal(4, 3),)),
    ),
    Case(
        "explosion/thinc",
        "the cell of an LSTM",
        "what the next step hands down to c is overwritten, not added to",
        "sequences of one step have no next one",
        rf"{PATH}|accumul|recurr|\btime\b|(next|later|previous|earlier) step|overwr|added|carried",
        recurrence,
        recurrence_pullback,
        lambda *inputs_and_dy: recurrence_pullback(*inputs_and_dy, adds=False),
        Point((*GATES, normal(3, seed=4))),
        Point((*(gate[:1] for gate in GATES), normal(3, seed=4))),
    ),
    Case(
        "BVLC/caffe#7100",
        "contrastive loss of a - b",
        "the factor a - b is left out",
        "the code for the GPU had no test",
        rf"{FACTOR}|inputs\[0\] - inputs\[1\]|difference of (the|its) inputs|derivative of the (square|inner|norm|distance)",
        contrastive,
        contrastive_pullback,
        lambda a, b, dy: contrastive_pullback(a, b, dy, differs=False),
        Point((normal(6, 3) / 3, normal(6, 3, seed=1) / 3)),
    ),
]
