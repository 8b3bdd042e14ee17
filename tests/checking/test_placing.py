"""Planted mistakes in place and size, each with the cause that must be named and a word of its sentence."""

import math
import re
from functools import partial
from inspect import unwrap

import pytest
import torch
from helpers import normal

import funcnn as fn
from funcnn.checking import diagnosis
from funcnn.checking.evidence import Evidence
from funcnn.checking.formula import Formula
from funcnn.checking.reading import READING

X, W, V, A = normal(4, 6), normal(6, seed=1), normal(4, 6, seed=2), normal(3, 3, seed=3)
MASK, WORDS = (normal(4, 6, seed=4) > 0).double(), torch.tensor([3, 1, 3, 0, 1, 3])
STEPS, SPD = normal(2, 6, 3, seed=5), normal(3, 3) @ normal(3, 3).T + 3 * torch.eye(3, dtype=torch.float64)


READS = {*map(unwrap, READING)}  # these are tested by themselves
OWN = tuple(each for each in fn.HYPOTHESES if unwrap(each) not in READS)
diagnose = partial(diagnosis.diagnose, hypotheses=OWN)


def last(g):
    g = g.clone()
    g[:, -2:] = 0
    return g


def counted(u, w, adds=True):
    return torch.zeros_like(w).index_put((WORDS,), u, accumulate=adds)


def norm(x):
    return (x - x.mean(1, keepdim=True)) / x.std(1, correction=0, keepdim=True)


def norm_rule(x, u, mean=1, projection=1):
    y = norm(x)
    inside = u - mean * u.mean(1, keepdim=True) - projection * y * (u * y).mean(1, keepdim=True)
    return inside / x.std(1, correction=0, keepdim=True)


def softmax_rule(x, u, c=1):
    y = x.softmax(1)
    return y * (u - c * (u * y).sum(1, keepdim=True))


def cholesky_rule(x, u):
    root = torch.linalg.cholesky(x)
    phi = (root.mT @ u).tril()
    phi = phi - phi.diagonal().diag() / 2
    s = torch.linalg.solve(root.mT, phi) @ torch.linalg.inv(root)
    return (s + s.mT) / 2


def sliding(x):
    return x.unfold(1, 3, 1).amax(2)


def sliding_rule(x, u, adds=True):
    g, place = torch.zeros_like(x), x.unfold(1, 3, 1).argmax(2)
    for k in range(u.shape[1]):
        at = torch.arange(len(x)), place[:, k] + k
        g[at] = adds * g[at] + u[:, k]
    return g


def scan(a, x):
    y = [x[:, 0]]
    for t in range(1, x.shape[1]):
        y.append(a[:, t] * y[-1] + x[:, t])
    return torch.stack(y, 1)


def scan_rule(a, x, u, carries=True):
    y, h, da, dx = scan(a, x), 0, [], []
    for t in reversed(range(x.shape[1])):
        h = u[:, t] + (a[:, t + 1] * h if carries and t + 1 < x.shape[1] else 0)
        dx.append(h)
        da.append(h * y[:, t - 1] if t else 0 * h)
    return torch.stack(da[::-1], 1), torch.stack(dx[::-1], 1)


PLUS = (lambda x: x.cumsum(1), (STEPS,))
# name: (forward, the wrong rule, inputs, the cause, a word of its sentence)
MISTAKES = {
    "in reverse": (torch.sin, lambda x, u: (u * x.cos()).flip(1), (X,), "permuted", "in reverse order along axis 1"),
    "rolled": (torch.sin, lambda x, u: (u * x.cos()).roll(1, 0), (X,), "permuted", "rolled on by one along axis 0"),
    "halves": (torch.sin, lambda x, u: (u * x.cos()).roll(3, 1), (X,), "permuted", "halves along axis 1 exchanged"),
    "shifted": (
        torch.sin,
        lambda x, u: torch.cat([0 * u[:, :1], (u * x.cos())[:, :-1]], 1),
        (X,),
        "shifted",
        "shifted on by one along axis 1, 0 coming in",
    ),
    "to the first": (
        lambda x: x.mean(0),
        lambda x, u: torch.cat([u[None], 0 * x[1:]]),
        (X,),
        "gathered",
        "first along axis 0",
    ),
    "indices of another axis": (
        lambda x: x.amax(0),
        lambda x, u: torch.zeros_like(x).scatter(1, x.argmax(0)[None], u[None]),
        (normal(4, 5, seed=7),),
        "axis",
        "indices along axis 0 are used along axis 1",
    ),
    "the slope of others": (torch.exp, lambda x, u: u * x.exp().flip(0), (X,), "permuted", "derivatives of other entries"),
    "last wins": (sliding, lambda x, u: sliding_rule(x, u, False), (X,), "overwritten", "last write wins"),
    "equal indices": (
        lambda w: w[WORDS],
        lambda w, u: counted(u, w, False),
        (normal(5, 3),),
        "overwritten|slab",
        "output|wins",
    ),
    "from the start": (*PLUS[:1], lambda x, u: u.cumsum(1), PLUS[1], "direction", "other direction along axis 1"),
    "other axis": (*PLUS[:1], lambda x, u: u.flip(2).cumsum(2).flip(2), PLUS[1], "axis", "along axis 2 where it must be 1"),
    "in blocks": (
        *PLUS[:1],
        lambda x, u: u.unflatten(1, (2, 3)).flip(2).cumsum(2).flip(2).flatten(1, 2),
        PLUS[1],
        "cross terms",
        "the same block of 3",
    ),
    "nothing carried": (
        scan,
        lambda a, x, u: scan_rule(a, x, u, False),
        (STEPS, STEPS + 1),
        "cross terms",
        "nothing is carried",
    ),
    "inputs exchanged": (
        lambda x, y: x.sin() * y.exp(),
        lambda x, y, u: (u * x.sin() * y.exp(), u * x.cos() * y.exp()),
        (X, V),
        "exchanged",
        "exchanged",
    ),
    "three inputs exchanged": (
        lambda x, y, w: x.sin() * y.exp() + w,
        lambda x, y, w, u: (u, u * x.sin() * y.exp(), u * x.cos() * y.exp()),
        (X, V, X - V),
        "exchanged",
        "the two are exchanged",
    ),
    "a branch": (
        torch.tanh,
        lambda x, u: u * torch.where(x > 0.5, 1, 1 - x.tanh() ** 2),
        (X,),
        "branch",
        r"inputs\[0\] > 0\.\d",
    ),
    "a branch in another input": (
        lambda x, y: x * y.abs(),
        lambda x, y, u: (u * y, u * x * y.sign()),
        (X, V),
        "branch",
        r"inputs\[1\] < 0.*a sign",
    ),
    "at zeros": (
        lambda x: x.square() + x,
        lambda x, u: u * torch.where(x == 0, 0, 2 * x + 1),
        (X.round(),),
        "branch",
        r"inputs\[0\] is 0",
    ),
    "under a mask": (
        lambda x, m: x.sin() * (1 - m),
        lambda x, m, u: (u * x.cos(), None),
        (X, MASK),
        "mask",
        r"inputs\[1\] is 1",
    ),
    "the mask is left out": (
        lambda x, w, m: (x * m) @ w,
        lambda x, w, m, u: ((u @ w.T) * m, x.T @ u, None),
        (X, normal(6, 2), MASK),
        "mask",
        "the mask is left out",
    ),
    "off the diagonal": (
        lambda x: x.exp(),
        lambda x, u: (u * x.exp()).diagonal().diag(),
        (A,),
        "triangle",
        "off the diagonal",
    ),
    "the last two are not written": (
        torch.sin,
        lambda x, u: last(u * x.cos()),
        (X,),
        "slab",
        "only the last 2 along axis 1",
    ),
    "w once too often": (
        lambda x, w: (x * w).cumsum(1),
        lambda x, w, u: (u.flip(1).cumsum(1).flip(1) * w * w, (u.flip(1).cumsum(1).flip(1) * x).sum(0)),
        (X, W),
        "factor",
        r"inputs\[1\] is there once too often",
    ),
    "no mean": (norm, lambda x, u: norm_rule(x, u, mean=0), (X,), "term", "the mean over axis 1 is not subtracted"),
    "no projection": (norm, lambda x, u: norm_rule(x, u, projection=0), (X,), "term", "axis 1 it has a component"),
    "softmax without its sum": (lambda x: x.softmax(1), lambda x, u: softmax_rule(x, u, 0), (X,), "term", "the output"),
    "by the norm": (
        lambda x: x / x.norm(dim=1, keepdim=True),
        lambda x, u: (
            (u - x * (x * u).sum(1, keepdim=True) / x.square().sum(1, keepdim=True)) / x.square().sum(1, keepdim=True)
        ),
        (X,),
        "factor",
        "the norm of inputs",
    ),
    "1 / sqrt(6)": (
        lambda x: x.cumsum(1) / math.sqrt(6),
        lambda x, u: u.flip(1).cumsum(1).flip(1),
        (X,),
        "factor",
        r"sqrt\(6\)",
    ),
    "6 / 5": (
        lambda x: x.var(1),
        lambda x, u: u[:, None] * 2 * (x - x.mean(1, keepdim=True)) / 6,
        (X,),
        "factor",
        "6 / 5|correction",
    ),
    "ln 2": (torch.exp2, lambda x, u: u * x.exp2(), (X,), "factor", "ln 2"),
    "absolute values": (torch.sin, lambda x, u: (u * x.cos()).abs(), (X,), "values", "absolute values"),
    "the complement": (
        lambda x: x.clamp(-1, 1),
        lambda x, u: u * (x.abs() > 1),
        (X,),
        "complement",
        "1 - p are exchanged",
    ),
    "x from elsewhere": (
        lambda x, w: (x @ w).sin(),
        lambda x, w, u: ((u * (x @ w).cos()) @ w.flip(0).T, x.T @ (u * (x @ w).cos())),
        (X, normal(6, 3, seed=8)),
        "permuted",
        "reverse order",
    ),
}
# what has none of these causes
SILENT = {
    "noise": (torch.sin, lambda x, u: u * x.cos() + V, (X,)),
    "another slope": (torch.sin, lambda x, u: u * torch.sigmoid(3 * x), (X,)),
    "two entries": (torch.sin, lambda x, u: u * x.cos() + 0.3 * torch.eye(4, 6)[:, torch.tensor([0, 4, 4, 4, 4, 1])], (X,)),
    "a few random entries": (torch.sin, lambda x, u: torch.where(V.roll(1, 0) > 0.5, V, u * x.cos()), (X,)),
    "a factor without a name": (torch.sin, lambda x, u: 1.2345 * u * x.cos(), (X,)),
    "two numbers": (torch.sin, lambda x, u: u * x.cos() + torch.tensor([0.3, 0.7]), (X[0, :2].clone(),)),
    "one number": (torch.sin, lambda x, u: u * x.cos() + 0.3, (X[0, 0].clone(),)),
}


def evidences(forward, rule, inputs):
    """What a check would know of each input whose gradient is wrong."""
    y = forward(*inputs)
    u = normal(*y.shape, seed=11)
    grads = rule(*inputs, u)
    grads = [*grads] if isinstance(grads, tuple) else [grads]
    grads += [None] * (len(inputs) - len(grads))
    given = [i for i, g in enumerate(grads) if g is not None]
    rest = tuple((f"inputs[{i}]", x) for i, x in enumerate(inputs) if i not in given)

    def f(*leaves, **others):
        own = iter(leaves)
        return (forward(*(next(own) if i in given else others.get(f"inputs[{i}]", x) for i, x in enumerate(inputs))),)

    def pull(leaves, u, swap):
        own = iter(leaves)
        pulled = rule(*(next(own) if i in given else x for i, x in enumerate(inputs)), u[0])
        return [g for g in (pulled if isinstance(pulled, tuple) else (pulled,)) if g is not None]

    leaves, names = tuple(inputs[i] for i in given), tuple(f"inputs[{i}]" for i in given)
    taped = [x.clone().requires_grad_() for x in leaves]
    right = torch.autograd.grad(f(*taped)[0], taped, u)
    for position, (i, r) in enumerate(zip(given, right, strict=True)):
        if not torch.allclose(grads[i], r):
            formula = Formula(f, leaves, names, (u,), pull, position, rest)
            yield Evidence(grads[i], r, 1e-7, tuple({*y.shape[:1], *inputs[0].shape[:1]}), formula=formula)


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_has_its_name(name):
    *mistake, cause, words = MISTAKES[name]
    kept = [x.clone() for x in mistake[-1]]
    found = [*map(diagnose, evidences(*mistake))]
    assert found and all(torch.equal(x, y) for x, y in zip(kept, mistake[-1], strict=True))
    for name, sentence in found:
        assert re.fullmatch(cause, name) and re.search(words, sentence), (name, sentence)


@pytest.mark.parametrize("name", SILENT)
def test_where_nothing_is_known_nothing_is_named(name):
    assert [diagnose(e)[0] for e in evidences(*SILENT[name])] == [""]


@pytest.mark.parametrize("name", MISTAKES)
def test_a_right_rule_of_noise_is_not_given_a_name(name):
    forward, _, inputs, *_ = MISTAKES[name]
    generator = torch.Generator().manual_seed(3)

    def rule(*xs_and_u):
        return tuple(torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in xs_and_u[:-1])

    assert {diagnose(e)[0] for e in evidences(forward, rule, inputs)} == {""}


class Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, x):
        ctx.save_for_backward(a, x)
        return scan(a, x)

    @staticmethod
    def backward(ctx, u):
        return scan_rule(*ctx.saved_tensors, u, carries=False)


def test_what_is_inside_of_a_function_is_known_whatever_rule_it_has():
    report = fn.check_vjp(Scan, (STEPS, STEPS + 1), hypotheses=OWN)
    assert [finding.cause for finding in report.leaves.values()] == ["cross terms"] * 2


def test_a_rule_for_symmetric_matrices_is_known_as_such():
    report = fn.check_vjp(
        lambda x: (torch.linalg.cholesky(x), (x,)),
        (SPD,),
        backward=lambda kept, u: cholesky_rule(*kept, u),
        hypotheses=OWN,
    )
    (found,) = report.leaves.values()
    assert found.cause == "symmetric" and "reads one triangle" in found.diagnosis


def test_an_input_without_a_gradient_is_named():
    report = fn.check_vjp(
        lambda x, m: ((x * m).sin(), (x, m)),
        (X, MASK.bool()),
        backward=lambda kept, u: (u * kept[0].cos(), None),
        hypotheses=OWN,
    )
    (found,) = report.leaves.values()
    assert found.cause == "mask" and "inputs[1] is 0" in found.diagnosis


def test_where_no_hypothesis_fits_the_nearest_is_told():
    g = (X.cos() + 1e-2 * V).flip(1)
    assert "Nearest: it is the reference in reverse order along axis 1" in diagnose(Evidence(g, X.cos(), 1e-7))[1]
