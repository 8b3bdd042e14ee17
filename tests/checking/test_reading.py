"""What a diagnosis reads off the formula: planted mistakes by the words that must be said of them, and what must not be."""

import re
from inspect import unwrap

import pytest
import torch

import funcnn as fn
from funcnn.checking.diagnosis import HYPOTHESES
from funcnn.checking.evidence import Evidence, careful
from funcnn.checking.formula import Formula
from funcnn.checking.reading import READING
from funcnn.checking.reading.graph import reading
from funcnn.checking.tape import UnreadableError, record, replay

EPS = 1e-5


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, W, TIMES = normal(3, 7), normal(7, seed=1), normal(4, 3, seed=2)
A, B = normal(3, 4, seed=3), normal(5, 4, seed=4)
WORDS = torch.tensor([0, 2, 2, 1, 2, 0])


def layer_norm(x, w):
    centered = x - x.mean(-1, keepdim=True)
    return centered * (centered.square().mean(-1, keepdim=True) + EPS).rsqrt() * w


def layer_norm_rule(x, w, u, mean=1.0, project=1.0, power=1, eps=EPS, h=None):
    centered = x - x.mean(-1, keepdim=True)
    r = (centered.square().mean(-1, keepdim=True) + eps).rsqrt()
    xh, g = centered * r, u * w**power
    dx = r * (g - mean * g.mean(-1, keepdim=True) - project * xh * (g * xh).mean(-1, keepdim=True))
    return dx, (u * (xh if h is None else h)).sum(0)


def softmax_rule(x, u, project=1.0):
    s = x.softmax(-1)
    return s * (u - project * (s * u).sum(-1, keepdim=True))


def scan(a):
    h, steps = torch.zeros_like(a[0]), []
    for t in range(len(a)):
        h = torch.tanh(a[t] + 0.5 * h)
        steps.append(h)
    return torch.stack(steps)


def scan_rule(a, u, carry=0.0):
    h, dh, steps = scan(a), torch.zeros_like(a[0]), []
    for t in reversed(range(len(a))):
        da = (u[t] + carry * dh) * (1 - h[t] ** 2)
        dh = 0.5 * da
        steps.append(da)
    return torch.stack(steps[::-1])


def last_wins(x, u):
    dx = torch.zeros_like(x)
    for n, word in enumerate(WORDS):
        dx[word] = u[n]
    return dx


def rounded(rule, dtype):
    return lambda *operands: rule(*(x.to(dtype) for x in operands)).double()


def in_place(x):
    y = torch.empty_like(x)
    y[0], y[1:] = x[0].exp(), x[1:] * x[1:].exp()
    return y / y.sum(-1, keepdim=True)


def in_place_rule(x, u):
    y = torch.cat([x[:1].exp(), x[1:] * x[1:].exp()])
    return u / y.sum(-1, keepdim=True) * torch.cat([x[:1].exp(), (1 + x[1:]) * x[1:].exp()])


# name: (forward, inputs, the wrong rule, what must be said)
PLANTED = {
    "the statistics are constants": (
        *(layer_norm, (X, W), lambda x, w, u: layer_norm_rule(x, w, u, mean=0, project=0)),
        "paths through the mean over axis -1 .* and the variance over axis -1 .* are missing: both are treated as constants",
    ),
    "the mean is a constant": (
        *(layer_norm, (X, W), lambda x, w, u: layer_norm_rule(x, w, u, mean=0)),
        r"the path through the mean over axis -1 \(mean\(inputs\[0\], -1\)\) is missing",
    ),
    "the variance is a constant": (
        *(layer_norm, (X, W), lambda x, w, u: layer_norm_rule(x, w, u, project=0)),
        "the path through the variance over axis -1 .* is missing",
    ),
    "the other sign of the variance": (
        *(layer_norm, (X, W), lambda x, w, u: layer_norm_rule(x, w, u, project=-1)),
        "the path through the variance over axis -1 .* has the other sign",
    ),
    "the variance twice": (
        *(layer_norm, (X, W), lambda x, w, u: layer_norm_rule(x, w, u, project=2)),
        "the path through the variance over axis -1 .* counts twice",
    ),
    "n - 1 in the variance": (
        *(layer_norm, (X, W), lambda x, w, u: layer_norm_rule(x, w, u, project=7 / 6)),
        r"the path through the variance .* counts 1\.1667 times, n / \(n - 1\) for n = 7",
    ),
    "the weight twice": (
        *(layer_norm, (X, W), lambda x, w, u: layer_norm_rule(x, w, u, power=2)),
        r"a factor too many: inputs\[1\]",
    ),
    "the weight left out": (
        *(layer_norm, (X, W), lambda x, w, u: layer_norm_rule(x, w, u, power=0)),
        r"a factor is missing: the derivative of the output.* lacks inputs\[1\]",
    ),
    "x for the normalised x": (
        *(layer_norm, (X, W), lambda x, w, u: layer_norm_rule(x, w, u, h=x)),
        r"in the derivative of .*, inputs\[0\] stands in place of",
    ),
    "another epsilon": (
        *(layer_norm, (X, W), lambda x, w, u: layer_norm_rule(x, w, u, eps=1e-3)),
        "0.001 in place of the constant 1e-05",
    ),
    "the normaliser is a constant": (
        *(lambda x: x.softmax(-1), (X,), lambda x, u: softmax_rule(x, u, project=0)),
        "the path through the normaliser, the sum over axis -1 .* is missing",
    ),
    "a mean for a sum": (
        *(lambda x: x.softmax(-1), (X,), lambda x, u: softmax_rule(x, u, project=1 / 7)),
        "counts 0.14286 times, a mean over 7 in place of a sum",
    ),
    "u is overwritten by x": (
        *(lambda x: x.softmax(-1), (X,), lambda x, u: softmax_rule(x, x)),
        r"the cotangent is overwritten by inputs\[0\]",
    ),
    "u is reversed": (
        *(lambda x: x.softmax(-1), (X,), lambda x, u: softmax_rule(x, u.flip(1))),
        "the cotangent is not as it was handed in: in reverse order along axis 1",
    ),
    "tile for repeat": (
        *(lambda x: x.repeat_interleave(3, 1), (X,), lambda x, u: u.unflatten(1, (3, x.shape[1])).sum(1)),
        "tile and repeat_interleave",
    ),
    "the last row of u is left out": (
        *(lambda x: x.softmax(0), (X,), lambda x, u: softmax_rule(x.T, torch.cat([u[:-1], 0 * u[-1:]]).T).T),
        "the cotangent is not as it was handed in: without its last entries along axis 0",
    ),
    "bfloat16": (
        *(lambda x: x.softmax(-1), (X,), rounded(softmax_rule, torch.bfloat16)),
        "every entry is a number of bfloat16",
    ),
    "float16 before the end": (
        *(lambda x: x.softmax(-1), (X,), lambda x, u: softmax_rule(x, u.half().double())),
        "the cotangent is rounded to float16",
    ),
    "the chain rule cut short": (
        *(lambda x: (x.cos() * 2).exp(), (X,), lambda x, u: u * (x.cos() * 2).exp() * 2),
        r"the derivative of cos at inputs\[0\] is missing",
    ),
    "the derivative elsewhere": (
        *(lambda x: x.exp().tanh().sum(-1), (X,), lambda x, u: u[:, None] * (1 - x.tanh() ** 2) * x.exp()),
        r"in the derivative of tanh\(exp\(inputs\[0\]\)\), inputs\[0\] stands in place of exp\(inputs\[0\]\)",
    ),
    "a ratio": (
        *(lambda x: x.exp(), (X,), lambda x, u: u * x),
        r"inputs\[0\] stands in place of the output, exp\(inputs\[0\]\)",
    ),
    "nothing is carried": (scan, (TIMES,), scan_rule, "missing in each of 3 steps"),
    "the last of equal words wins": (
        *(lambda x: x[WORDS], (normal(4, 4),), last_wins),
        "are not added up: the last overwrites the others",
    ),
    "a matrix transposed": (
        *(
            lambda x, w: x.tanh() @ w,
            (A.T @ A, A.T @ B[:3]),
            lambda x, w, u: ((u @ w) * (1 - x.tanh() ** 2), x.tanh().T @ u),
        ),
        r"its transpose stands in place of inputs\[1\]",
    ),
    "a forward that writes in place": (
        *(in_place, (X.abs(),), in_place_rule),
        "the path through the normaliser, the sum over axis -1 .* is missing",
    ),
}


def evidence(f, leaves, wrong, position=0, r=None):
    """That of a rule, its right gradient by autograd."""
    taped = [leaf.clone().requires_grad_() for leaf in leaves]
    y = f(*taped)
    u = normal(*y.shape, seed=5)
    right = torch.autograd.grad(y, taped, u) if r is None else r

    def pull(x, u, swap=None):
        grads = wrong(*x, u[0])
        return list(grads) if isinstance(grads, tuple) else [grads]

    names = tuple(f"inputs[{i}]" for i in range(len(leaves)))
    formula = Formula(lambda *x: (f(*x),), leaves, names, (u,), pull, position)
    return Evidence(pull(leaves, (u,))[position], right[position], 1e-7, formula=formula)


def told(e):
    return (cause for hypothesis in map(careful, READING) for cause in hypothesis(e))


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_told(name):
    forward, inputs, wrong, said = PLANTED[name]
    before, random = [x.clone() for x in inputs], torch.get_rng_state().clone()
    every = [evidence(forward, inputs, wrong, position) for position in range(len(inputs))]
    first = [next(told(e))[1] for e in every if not e.fits(e.r) and not torch.allclose(e.g, e.r, rtol=1e-10, atol=0)]
    assert re.search(said, " ".join(first)), first
    assert all(torch.equal(x, y) and x.grad is None and not x.requires_grad for x, y in zip(before, inputs, strict=True))
    assert torch.equal(random, torch.get_rng_state()) and torch.is_grad_enabled()


def test_it_reads_through_an_autograd_function():
    class Softmax(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            s = x.softmax(-1)
            ctx.save_for_backward(x)
            return s

        @staticmethod
        def backward(ctx, u):
            (x,) = ctx.saved_tensors
            return x * (u - (x * u).sum(-1, keepdim=True))  # x for s

    (finding,) = fn.check_vjp(Softmax, (X,)).leaves.values()
    assert finding.cause == "saved tensor" and "first tensor it saved is the output" in finding.diagnosis


SILENT = {
    "noise": lambda x, u: (softmax_rule(x, u) + 1e-3 * normal(3, 7, seed=9),),
    "a smooth factor of no tensor": lambda x, u: (softmax_rule(x, u) * (1 + 0.1 * torch.linspace(0, 1, 7).double()),),
    "almost the normaliser": lambda x, u: (softmax_rule(x, u, project=0) + 1e-4 * normal(3, 7, seed=9),),
    "almost overwritten": lambda x, u: (softmax_rule(x, x + 1e-3 * u.cos()),),
    "one entry": lambda x, u: (softmax_rule(x, u).index_fill(0, torch.tensor([0]), 0.3),),
}


@pytest.mark.parametrize("name", SILENT)
def test_other_mistakes_are_not_told(name):
    assert not list(told(evidence(lambda x: x.softmax(-1), (X,), SILENT[name])))


def test_a_leaf_of_one_or_two_entries_says_nothing():
    c = torch.tensor([0.7, -0.4], dtype=torch.float64)
    wrong = [lambda c, u: u * c, lambda c, u: u[:1] * c[:1]]
    assert not list(told(evidence(lambda c: c.exp(), (c,), wrong[0])))
    assert not list(told(evidence(lambda c: c.exp(), (c[:1],), wrong[1])))


def test_a_record_is_the_function():
    for forward, inputs, *_ in PLANTED.values():
        tape = record(lambda *x: (forward(*x),), inputs)  # noqa: B023  it is called before the loop goes on
        other = [x + 0.1 for x in inputs]
        assert torch.allclose(replay(tape, other)[0], forward(*other), rtol=1e-12)


def test_what_is_too_large_or_does_not_depend_on_its_leaves_is_not_read():
    with pytest.raises(UnreadableError):
        record(lambda x: (torch.ones(3),), (X,))

    def long(x):
        for _ in range(400):
            x = x.sin()
        return x

    e = evidence(long, (X,), lambda x, u: u)
    assert reading(e) is None and not list(told(e))


def test_an_operation_that_refuses_other_operands_silences_the_hypothesis_alone():
    a = normal(3, 3) + 4 * torch.eye(3)
    e = evidence(lambda a: a.inverse(), (a,), lambda a, u: normal(3, 3, seed=8))
    assert not list(told(e))
    e = evidence(lambda a: torch.linalg.cholesky(a @ a.mT), (a,), lambda a, u: normal(3, 3, seed=8))
    assert reading(e) is not None and not list(told(e))


def test_what_says_something_else_than_the_reference_is_not_read():
    e = evidence(lambda x: x.exp(), (X,), lambda x, u: u, r=(X,))
    assert reading(e) is None


def test_they_are_asked_before_nothing_is_found():
    asked = [*map(unwrap, HYPOTHESES)]
    places = [asked.index(unwrap(hypothesis)) for hypothesis in READING]
    assert places == sorted(places) and len(READING) == len(set(places))
