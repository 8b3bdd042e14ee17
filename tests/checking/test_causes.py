"""Every cause there is, with a case that shows it: numbers alone, a planted bug, the bug of a kernel, or a rule in use."""

import estimators
import pytest
import torch
from helpers import normal, seeded

import funcnn as fn
from experiments.bugs.checkers import ours
from experiments.bugs.corpus import CORPUS
from experiments.kernels.corpus import KERNELS
from funcnn.checking.diagnosis import HYPOTHESES, diagnose
from funcnn.checking.evidence import Evidence

R, X, V = normal(6, 5), normal(4, 6, seed=1), normal(4, 6, seed=2)

# cause: (g, r)
NUMBERS = {
    "not finite": (R / 0 * 0, R),
    "zero": (0 * R, R),
    "sign": (-R, R),
    "factor 2": (2 * R, R),
    "factor N": (7 * R, R),
    "bias reduction": (R[0] / 7, R[0]),
    "single entry": (R + (torch.arange(30) == 8).reshape(6, 5), R),
    "single row": (R + (torch.arange(6) == 2)[:, None], R),
    "single column": (R + (torch.arange(5) == 2), R),
    "transposed": (R[:5].T, R[:5]),
    "permuted": (R.flip(0), R),
    "shifted": (torch.cat([0 * R[:1], R[:-1]]), R),
    "broadcast": (R[:1].expand_as(R), R),
    "gathered": (torch.cat([R.sum(0, keepdim=True), 0 * R[1:]]), R),
    "values": (R.abs(), R),
    "slab": (R * (torch.arange(6) < 4)[:, None], R),
    "triangle": (R[:5].diag().diag(), R[:5]),
    "term": (R + R.exp().mean(0), R),
    "shape": (R[0], R),
}
# cause: the bug of the planted corpus
PLANTED = {
    "mutation": "relu: writes into dy",
    "nondeterministic": "dropout: another mask in the backward",
    "value": "network: value summed",
    "stale": "tanh: residual of another call",
    "strides": "tanh: reads dy as if it were contiguous",
    "linearity": "sum of squares: dy taken to be 1",
    "upstream": "sigmoid: the mean of dy for dy",
    "activation derivative": "sigmoid: no derivative",
    "branch": "sigmoid: clips what it is given",
    "cross terms": "softmax: Jacobian reduced to its diagonal",
    "factor": "mean squared error: summed",
    "direction": "cumulative sum: from the same end",
    "left out": "log softmax: softmax left out",
    "constant": "layer norm: epsilon 1e-6 for 1e-5",
    "point": "-log(p + 1e-9): the epsilon not in the gradient",
}
# cause: (the kernel, its bug)
KERNEL = {
    "axis": ("cumsum", "along the last axis"),
    "complement": ("clamp", "the complement"),
    "exchanged": ("geglu", "the gate is the second half"),
    "mask": ("dropout", "mask forgotten in backward"),
    "operand": ("expm", "A for A^T"),
    "overwritten": ("max_pool2d", "the last of the windows wins"),
    "path": ("silu", "s held constant"),
    "path factor": ("softmax", "the mean in place of the sum"),
    "path sign": ("focal", "the sign of the first term"),
    "precision": ("softmax", "in bfloat16"),
    "repeats": ("tile", "the first copy only"),
    "saved tensor": ("kl_divergence", "exp(x) for p"),
}


def pair(forward, backward, *inputs):
    """The check of the rule forward(*inputs), backward(*inputs, u)."""
    return fn.check_vjp(lambda *x: (forward(*x), x), inputs, backward=lambda x, u: backward(*x, u))


def of_square(backward):
    """The check of the Function x^2 with backward(ctx, u)."""

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    return fn.check_vjp(type("Square", (torch.autograd.Function,), {"forward": forward, "backward": backward}), (X,))


class Product(torch.autograd.Function):
    """x w, whose backward gives 0 for x where w is frozen."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx, u):
        x, w = ctx.saved_tensors
        return u * w * ctx.needs_input_grad[1], u * x


class Undefined(torch.autograd.Function):
    """2 x and sin x, whose backward takes both cotangents to be there."""

    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return 2 * x, x.sin()

    @staticmethod
    def backward(ctx, u, v):
        return 2 * u + v * ctx.saved_tensors[0].cos()


def second_call(ctx, u):
    ctx.calls = getattr(ctx, "calls", 0) + 1
    return 2 * ctx.calls * ctx.saved_tensors[0] * u


def raising(x, u):
    raise ArithmeticError


def prod(x, y):
    return torch.scatter_reduce(x, 0, torch.tensor([0]), y, "prod")


def scan(x, w):
    """Too long to be read."""
    for _ in range(200):
        x = (x * w).sin()
    return x


def cholesky_rule(x, u):
    g = torch.func.vjp(torch.linalg.cholesky, x)[1](u)[0]
    return (g + g.T) / 2


class Mapped(torch.autograd.Function):
    """sin, with a vmap rule of its own that gives twice that."""

    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, u):
        return u * ctx.saved_tensors[0].cos()

    @staticmethod
    def vmap(info, in_dims, x):
        return 2 * x.sin(), in_dims[0]


class Unmapped(Mapped):
    """The same with the right one."""

    @staticmethod
    def vmap(info, in_dims, x):
        return x.sin(), in_dims[0]


LYING = fn.Layer(lambda generator: (), fn.Forward(lambda params, x: (x - x.mean(0), ()), rowwise=True), None)
TIED = torch.where(torch.arange(24).reshape(4, 6) < 9, X[0], X)  # rows 0 and 1, and of the latter the first half
# cause: the check that tells it
USES = {
    "claim": lambda: fn.laws(LYING, (), X),
    "raises": lambda: pair(torch.sin, raising, X),
    "second call": lambda: of_square(second_call),
    "dtype": lambda: pair(torch.round, lambda x, u: torch.zeros_like(x).float(), 4 * X),
    "frozen": lambda: fn.check_vjp(Product, (X, V)),
    "unused output": lambda: fn.check_vjp(Undefined, (X,)),
    "forward mode": lambda: fn.check_vjp(prod, (R[0, :2], R[1, :1])),
    "vmap": lambda: fn.check_vjp(Mapped, (X,)),
    "second derivative": lambda: of_square(lambda ctx, u: 2 * ctx.saved_tensors[0].detach() * u),
    "symmetric": lambda: pair(torch.linalg.cholesky, cholesky_rule, X @ X.T),
    "ties": lambda: pair(torch.sin, lambda x, u: u * x.cos() * (1 + ((x[:, None] == x).sum(1) > 1)), TIED),
    "replaced": lambda: pair(scan, lambda x, w, u: torch.func.vjp(scan, x, x)[1](u), X, V),
}


# cause: the estimator that it is planted in
DRAWN = {
    "biased": "one seed for every leaf",
    "dimension": "d/k missing",
    "samples": "a sum for a mean",
    "step": "c not squared",
    "one-sided": "one-sided",
    "redrawn": "a mask redrawn",
    "reused seed": "a reused seed, of a few, plain",
    "correlated": "correlated draws, plain",
    "directions": "of equal length",
}


def reports(cause):
    """What is said of the case that shows it."""
    if cause in PLANTED:
        return ours(CORPUS[PLANTED[cause]].wrong())
    if cause in KERNEL:
        name, what = KERNEL[cause]
        kernel = KERNELS[name]
        (bug,) = (bug for bug in kernel.bugs if bug.what == what)
        return fn.check_vjp(kernel.function(bug.rule), kernel.inputs(0))
    if cause in DRAWN:
        make, draws, _ = (estimators.PLANTED | estimators.ASIDE)[DRAWN[cause]]
        return fn.check_estimator(make(seeded()), estimators.REFERENCE, estimators.PARAMS, draws=draws)
    return USES[cause]()


@pytest.mark.parametrize("cause", NUMBERS)
def test_numbers_show_their_cause(cause):
    g, r = NUMBERS[cause]
    found, sentence = diagnose(Evidence(g.clone(), r, 1e-7, counts=(7,), alone=True), HYPOTHESES)
    assert found == cause and sentence


@pytest.mark.parametrize("cause", [*PLANTED, *KERNEL, *USES, *DRAWN])
def test_a_rule_shows_its_cause(cause):
    report = reports(cause)
    assert cause in {finding.cause for finding in (report.leaves | report.trials).values()}, report


def test_every_cause_is_shown():
    shown = [*NUMBERS, *PLANTED, *KERNEL, *USES, *DRAWN]
    assert sorted(shown) == sorted(set(fn.Cause) - {fn.Cause.NONE})


def test_a_wrong_vmap_rule_is_told_and_no_mistake_of_the_backward():
    wrong, right = fn.check_vjp(Mapped, (X,)), fn.check_vjp(Unmapped, (X,))
    assert wrong and right and wrong.trials["vmap"].cause == "vmap" and not right.trials["vmap"].cause
    assert "torch.func.vmap is wrong: its values are 1.0e+00 from those of a loop" in str(wrong) and "vmap" not in str(right)
