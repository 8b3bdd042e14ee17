"""Checks of gradients: whether they say of right and of wrong rules what is so."""

from typing import Any

import torch
from torch import Tensor

import funcnn as fn
from experiments.fuzz.agreement import ANY
from experiments.fuzz.case import Call
from experiments.fuzz.formulas import affine, leaves, plain
from experiments.fuzz.rows.networks import normal, weights
from experiments.fuzz.rows.records import everything
from experiments.fuzz.rows.tasks import by_hand, differentiated, smooth, task

LARGE = 1e3  # beyond this a rule may be right, and differences of its value nothing


def _doubled(params: Any, batch: Any) -> Any:
    value, grads = by_hand(params, batch)
    return value, {key: 2 * grad for key, grad in grads.items()}


def _tame(*trees: Any) -> bool:
    """Whether differences can see the gradient."""
    found = [leaf.abs() for tree in trees for leaf in leaves(plain(tree)) if leaf.is_floating_point()]
    return all(bool((leaf < LARGE).all()) for leaf in found)


def _verdict(right: bool) -> Any:
    def truth(rule: Any, params: Any, batch: Any, *_: Any) -> Any:
        _, grads = differentiated(smooth, params, batch)
        if not all(isinstance(leaf, Tensor) for leaf in batch):
            return ANY  # a number for the targets, which arithmetic takes
        shapes = [leaf.shape for leaf in leaves(plain(params))] == [(3,), (4, 3)] and leaves(plain(batch))[1].ndim == 2
        seen = shapes and _tame(params, batch) and all(bool((leaf.abs() > 1e-6).any()) for leaf in leaves(grads))
        return right if seen else ANY

    return truth


def _assertion(call: Any) -> bool:
    try:
        call()
    except AssertionError:
        return False
    return True


def _pullback(residuals: Any, dy: Tensor) -> Any:
    x, w = residuals
    return dy * w, (dy * x).sum(0)


def _product(x: Tensor, w: Tensor) -> Any:
    return x * w, (x, w)


def _vjp_truth(rule: Any, inputs: Any, *_: Any) -> Any:
    if not all(isinstance(leaf, Tensor) for leaf in everything(inputs)):
        return ANY  # a constant, which is handed on
    fits = (
        isinstance(rule, fn.Layer)
        or len({leaf.shape[-1:] for leaf in leaves(plain(inputs))}) == 1
        and [(leaf.ndim, leaf.dtype) for leaf in leaves(plain(inputs))]
        == [
            (2, torch.float64),
            (1, torch.float64),
        ]
    )
    return True if fits and _tame(inputs) else ANY


def _audited(test: Any, seed: int) -> Any:
    return isinstance(fn.audit(test, lambda residuals, dy: dy * 2, seed=seed), fn.Report)


def _tests(rule: Any) -> bool:
    return bool(rule((), torch.ones(2, 3)).sum() == 12)


def _lawful(layer: fn.Layer, params: Any, x: Tensor, seed: int) -> bool:
    return fn.laws(layer, params, x, seed=seed).ok


def _lawful_truth(layer: fn.Layer, params: Any, x: Tensor, seed: int) -> Any:
    affine(plain(params), plain(x))
    return True if _tame(params, x) else ANY


def _estimated(reference: Any, params: Any, batch: Any, seed: int) -> Any:
    step_fn = fn.spsa(fn.Objective(smooth), torch.Generator().manual_seed(0))
    return fn.check_estimator(step_fn, reference, params, batch, draws=256, seed=seed)


def _own_witness(case: Any) -> Any:
    return case


def _own_hypothesis(evidence: Any) -> Any:
    return iter(())


ROWS = {
    "check": Call(
        lambda g: (by_hand, *task(g), 1e-7, 0),
        lambda rule, params, batch, tolerance, seed: fn.check(rule, params, batch, tolerance=tolerance, seed=seed).ok,
        _verdict(True),
        rare=2,
    ),
    "check, of a mistake": Call(lambda g: (_doubled, *task(g)), lambda *a: fn.check(*a).ok, _verdict(False), rare=4),
    "check, beside a reference": Call(
        lambda g: (by_hand, *task(g), fn.func_grad(fn.Objective(smooth))),
        lambda rule, params, batch, other: fn.check(rule, params, batch, reference=other).ok,
        _verdict(True),
        rare=2,
    ),
    "check_estimator": Call(
        lambda g: (fn.func_grad(fn.Objective(smooth)), *task(g), 0),
        lambda reference, params, batch, seed: _estimated(reference, params, batch, seed).ok,
        _verdict(True),
        rare=6,
    ),
    "assert_gradients": Call(
        lambda g: (by_hand, *task(g)),
        lambda *a: _assertion(lambda: fn.assert_gradients(*a)),
        _verdict(True),
        rare=2,
    ),
    "check_vjp": Call(
        lambda g: (_product, (normal(g, 5, 3), normal(g, 3)), _pullback, 1e-7, 0),
        lambda f, inputs, rule, tolerance, seed: fn.check_vjp(f, inputs, backward=rule, tolerance=tolerance, seed=seed).ok,
        _vjp_truth,
        rare=3,
    ),
    "check_vjp, of a layer": Call(
        lambda g: (fn.dense(4, 3), (weights(g), normal(g, 5, 4))),
        lambda layer, inputs: fn.check_vjp(layer, inputs).ok,
        _vjp_truth,
        rare=4,
    ),
    "assert_vjp": Call(
        lambda g: (_product, (normal(g, 5, 3), normal(g, 3)), _pullback),
        lambda f, inputs, rule: _assertion(lambda: fn.assert_vjp(f, inputs, backward=rule)),
        _vjp_truth,
        rare=3,
    ),
    "audit": Call(lambda g: (_tests, 0), _audited, lambda test, seed: True, trusts=True, rare=4),
    "laws": Call(lambda g: (fn.dense(4, 3), weights(g), normal(g, 5, 4), 0), _lawful, _lawful_truth, rare=2),
    "WITNESSES": Call(
        lambda g: (by_hand, *task(g), _own_witness),
        lambda rule, params, batch, own: fn.check(rule, params, batch, witnesses=(own, *fn.WITNESSES)).ok,
        _verdict(True),
        rare=4,
    ),
    "HYPOTHESES": Call(
        lambda g: (_doubled, *task(g), _own_hypothesis),
        lambda rule, params, batch, own: fn.check(rule, params, batch, hypotheses=(own, *fn.HYPOTHESES)).ok,
        _verdict(False),
        rare=4,
    ),
}
