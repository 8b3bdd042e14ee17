"""Classic PyTorch: torch.autograd.Functions whose backward rule is derived wrongly.

A rule is given the inputs of the forward rule and dy, and returns the gradients of the inputs. The usual places to go
wrong: a product whose factors are exchanged, the inverse of a permutation, a statistic taken for a constant, the point
where a formula divides 0 by 0, and all that nobody sees while dy is 1 or a unit vector.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.bugs.mistakes import Mistake, Rule, bugs, normal, without
from experiments.bugs.subject import Subject
from funcnn import Cause, tree

X, Y, S = normal(6, 4), normal(6, 4, seed=1), normal(4, seed=2)
WORDS = torch.tensor([3, 1, 4, 1, 0])  # word 1 twice
ROOT, ROOT_IN_FLOAT32 = math.sqrt(2 / math.pi), torch.tensor(2 / math.pi, dtype=torch.float32).sqrt().item()
TIED = torch.tensor([[1.0, 3, 3], [2, 0, 1]], dtype=torch.float64)


def gelu_slope(x: Tensor, root: float = ROOT, cubic: float = 0.044715) -> Tensor:
    """The derivative of x/2 (1 + t) with t = tanh(root (x + cubic x^3))."""
    t = torch.tanh(root * (x + cubic * x**3))
    return (1 + t) / 2 + x / 2 * (1 - t * t) * root * (1 + 3 * cubic * x * x)


def layer_norm_pullback(x: Tensor, dy: Tensor, epsilon: float = 1e-5) -> Tensor:
    """With y = (x - mean) / std, row by row: dx = (dy - mean(dy) - y mean(dy y)) / std."""
    centered = x - x.mean(1, keepdim=True)
    inverse = (centered.square().mean(1, keepdim=True) + epsilon).rsqrt()
    y = centered * inverse
    return inverse * (dy - dy.mean(1, keepdim=True) - y * (dy * y).mean(1, keepdim=True))


def counted(w: Tensor, words: Tensor, dy: Tensor) -> Tensor:
    """The rows of dy added up by word."""
    return torch.zeros_like(w).index_add(0, words, dy)


FUNCTIONS: dict[str, tuple[Callable[..., Tensor], Rule, tuple[Tensor, ...]]] = {
    "relu": (torch.relu, lambda x, dy: dy * (x > 0), (X,)),
    "relu at zeros": (torch.relu, lambda x, dy: dy * (x > 0), (X.round(),)),
    "abs at zeros": (torch.abs, lambda x, dy: dy * x.sign(), (X.round(),)),
    "tanh": (torch.tanh, lambda x, dy: dy * (1 - x.tanh() ** 2), (X,)),
    "square": (torch.square, lambda x, dy: 2 * x * dy, (X,)),
    "product": (torch.mul, lambda x, y, dy: (dy * y, dy * x), (X, Y)),
    "difference": (torch.sub, lambda x, y, dy: (dy, -dy), (X, Y)),
    "matrix product": (torch.mm, lambda x, y, dy: (dy @ y.T, x.T @ dy), (X[:4], Y[:4])),
    "scale": (torch.mul, lambda x, s, dy: (dy * s, (dy * x).sum(0)), (X, S)),
    "mean": (lambda x: x.mean(0), lambda x, dy: (dy / len(x)).expand_as(x), (X,)),
    "sum of squares": (lambda x: x.square().sum(), lambda x, dy: 2 * x * dy, (X,)),
    "mean of 1,000 squares": (lambda x: x.square().mean(), lambda x, dy: dy * x / 500, (normal(1000),)),
    "permute": (lambda x: x.permute(1, 2, 0).clone(), lambda x, dy: dy.permute(2, 0, 1), (normal(3, 3, 3),)),
    "roll": (lambda x: x.roll(1, 0), lambda x, dy: dy.roll(-1, 0), (X,)),
    "cumulative sum": (lambda x: x.cumsum(0), lambda x, dy: dy.flip(0).cumsum(0).flip(0), (X,)),
    "embedding": (lambda w: w[WORDS], lambda w, dy: counted(w, WORDS, dy), (normal(5, 3),)),
    "maximum of ties": (lambda x: x.amax(1), lambda x, dy: dy[:, None] * F.one_hot(x.argmax(1), 3), (TIED,)),
    "clamp": (lambda x: x.clamp(-1, 1), lambda x, dy: dy * (x.abs() < 1), (X,)),
    "gelu": (lambda x: F.gelu(x, approximate="tanh"), lambda x, dy: dy * gelu_slope(x), (X,)),
    "sin(x) / x at zeros": (
        lambda x: torch.sinc(x / math.pi),
        lambda x, dy: dy * torch.where(x == 0, 0, x.cos() / x - x.sin() / x**2),
        (X.round(),),
    ),
    "log sum exp": (lambda x: x.logsumexp(1), lambda x, dy: dy[:, None] * x.softmax(1), (X + 800,)),
    "log softmax": (lambda x: x.log_softmax(1), lambda x, dy: dy - x.softmax(1) * dy.sum(1, keepdim=True), (X,)),
    "layer norm": (lambda x: F.layer_norm(x, (4,)), layer_norm_pullback, (X,)),
    "layer norm far from 0": (lambda x: F.layer_norm(x, (4,)), layer_norm_pullback, (X + 300,)),
}

MISTAKES: list[Mistake] = [
    ("relu", "writes into dy", Cause.MUTATION, lambda x, dy: dy.masked_fill_(x <= 0, 0)),
    ("relu", "rectifies dy as well", Cause.LINEARITY, lambda x, dy: dy.relu() * (x > 0)),
    ("relu", "no derivative", Cause.ACTIVATION_DERIVATIVE, lambda x, dy: dy),
    ("relu at zeros", "x >= 0 for x > 0", "kink", lambda x, dy: dy * (x >= 0)),
    ("relu at zeros", "2 where x = 0", Cause.NONE, lambda x, dy: dy * ((x >= 0) * 1.0 + (x == 0))),
    ("abs at zeros", "x / |x|", Cause.NOT_FINITE, lambda x, dy: dy * x / x.abs()),
    ("square", "the 2 forgotten", Cause.FACTOR_2, lambda x, dy: x * dy),
    ("square", "the first entry of dy for dy", Cause.UPSTREAM, lambda x, dy: 2 * x * dy[0, 0]),
    ("square", "dy forgotten", Cause.LINEARITY, lambda x, dy: 2 * x),
    ("product", "factors exchanged", Cause.NONE, lambda x, y, dy: (dy * x, dy * y)),
    ("product", "second factor taken for a constant", Cause.ZERO, lambda x, y, dy: (dy * y, 0 * y)),
    ("difference", "the minus forgotten", Cause.SIGN, lambda x, y, dy: (dy, dy)),
    ("matrix product", "no transpose on the right", Cause.TRANSPOSED, lambda x, y, dy: (dy @ y, x.T @ dy)),
    ("matrix product", "no transpose on the left", Cause.TRANSPOSED, lambda x, y, dy: (dy @ y.T, x @ dy)),
    ("matrix product", "(X^T dY)^T", Cause.TRANSPOSED, lambda x, y, dy: (dy @ y.T, dy.T @ x)),
    ("scale", "of the first sample", Cause.BIAS_REDUCTION, lambda x, s, dy: (dy * s, (dy * x)[0])),
    ("mean", "the 1/N forgotten", Cause.FACTOR_N, lambda x, dy: dy.expand_as(x)),
    ("mean", "to the first sample alone", Cause.NONE, lambda x, dy: F.pad(dy[None], (0, 0, 0, 5))),
    ("sum of squares", "dy taken to be 1", Cause.LINEARITY, lambda x, dy: 2 * x),
    ("mean of 1,000 squares", "one entry missing", Cause.SINGLE_ENTRY, lambda x, dy: without(dy * x / 500, 314)),
    ("permute", "applied again, not undone", Cause.PERMUTED, lambda x, dy: dy.permute(1, 2, 0)),
    ("roll", "applied again, not undone", Cause.PERMUTED, lambda x, dy: dy.roll(1, 0)),
    ("cumulative sum", "from the same end", Cause.NONE, lambda x, dy: dy.cumsum(0)),
    (
        "embedding",
        "last of two equal words wins",
        Cause.SINGLE_ROW,
        lambda w, dy: torch.zeros_like(w).index_put((WORDS,), dy),
    ),
    ("maximum of ties", "all of dy to each", Cause.SINGLE_ROW, lambda x, dy: dy[:, None] * (x == x.amax(1, keepdim=True))),
    ("clamp", "passed straight through", Cause.ACTIVATION_DERIVATIVE, lambda x, dy: dy),
    ("gelu", "0.044715 rounded to 0.0447", Cause.NONE, lambda x, dy: dy * gelu_slope(x, cubic=0.0447)),
    ("gelu", "sqrt(2 / pi) rounded to 0.79788", Cause.NONE, lambda x, dy: dy * gelu_slope(x, root=0.79788)),
    ("gelu", "sqrt(2 / pi) in float32", Cause.NONE, lambda x, dy: dy * gelu_slope(x, root=ROOT_IN_FLOAT32)),
    ("sin(x) / x at zeros", "0 / 0", Cause.NOT_FINITE, lambda x, dy: dy * (x.cos() / x - x.sin() / x**2)),
    ("log sum exp", "overflow", Cause.NOT_FINITE, lambda x, dy: dy[:, None] * x.exp() / x.exp().sum(1, keepdim=True)),
    ("log softmax", "sum of dy taken to be 1", Cause.LINEARITY, lambda x, dy: dy - x.softmax(1)),
    ("log softmax", "softmax left out", Cause.NONE, lambda x, dy: dy - dy.sum(1, keepdim=True) / 4),
    ("layer norm", "mean and std taken for constants", Cause.NONE, lambda x, dy: dy / x.std(1, correction=0, keepdim=True)),
    ("layer norm", "no epsilon under the root", Cause.NONE, lambda x, dy: layer_norm_pullback(x, dy, 0)),
    ("layer norm", "epsilon 1e-6 for 1e-5", Cause.NONE, lambda x, dy: layer_norm_pullback(x, dy, 1e-6)),
    (
        "layer norm far from 0",
        "statistics in float32",
        Cause.NONE,
        lambda x, dy: layer_norm_pullback(x.float(), dy).double(),
    ),
]


def plant(where: str, rule: Rule | None) -> Subject:
    """A Function with the right forward rule, its backward rule replaced."""
    forward, right, inputs = FUNCTIONS[where]
    return Subject(function(forward, rule or right), tree.clone(inputs))


def function(forward: Callable[..., Tensor], rule: Rule) -> type[torch.autograd.Function]:
    """The Function y = forward(*inputs) with the gradients rule(*inputs, dy)."""

    class Planted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Tensor:
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> Any:
            return rule(*ctx.saved_tensors, dy)

    return Planted


BUGS = bugs("function", plant, MISTAKES)
