"""Optimizers, beside torch.optim and steps written out."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

import funcnn as fn
from experiments.fuzz.agreement import Untold
from experiments.fuzz.case import Call
from experiments.fuzz.formulas import leaves, of_leaves, plain
from experiments.fuzz.rows.tasks import differentiated, smooth, task

STEPS = 3
SGD: Any = torch.optim.SGD


def trained(optimizer: Any, params: Any, batch: Any, f: Any = smooth) -> list[Any]:
    """What training yields: the values and the parameters."""
    steps = fn.train(fn.func_grad(fn.Objective(f)), optimizer, params, [batch] * STEPS)
    return [(step.value, step.params) for step in steps]


def by_torch(make: Callable[[list[Tensor]], torch.optim.Optimizer], params: Any, batch: Any, f: Any = smooth) -> list[Any]:
    """The same by torch.optim."""
    params = plain(params)
    optimizer, found = make(leaves(params)), []
    for _ in range(STEPS):
        value, grads = differentiated(f, params, batch)
        for leaf, grad in zip(leaves(params), leaves(grads), strict=True):
            leaf.grad = grad
        optimizer.step()
        found.append((value, plain(params)))
    return found


def optimizer(make: Callable[..., Any], given: tuple[Any, ...], other: Callable[..., Any], **more: Any) -> Call:
    """An optimizer that torch has; the arguments are (*given, params, batch). Momentum gathers what rounding there is."""

    def truth(*a: Any) -> Any:
        return by_torch(lambda leaves: other(leaves, *numbers(a[:-2])), *a[-2:])

    return Call(lambda g: (*given, *task(g)), lambda *a: trained(make(*a[:-2]), *a[-2:]), truth, **more)


def numbers(given: Any) -> Any:
    """As floats, which torch takes of any size; a schedule is whatever its function makes of a step."""
    if callable(given):
        raise Untold
    return tuple(map(numbers, given)) if isinstance(given, (tuple, list)) else float(given)


def _nesterov(lr: float, beta: float, params: Any, batch: Any) -> list[Any]:
    w, lr, beta = plain(params), numbers(lr), numbers(beta)
    v, found = [torch.zeros_like(leaf) for leaf in leaves(w)], []
    for _ in range(STEPS):
        ahead = of_leaves(w, [leaf + beta * one for leaf, one in zip(leaves(w), v, strict=True)])
        value, grads = differentiated(smooth, ahead, batch)
        v = [beta * one - lr * grad for one, grad in zip(v, leaves(grads), strict=True)]
        w = of_leaves(w, [leaf + one for leaf, one in zip(leaves(w), v, strict=True)])
        found.append((value, w))
    return found


def _mezo(generator: Generator, lr: float, c: float, params: Any, batch: Any) -> list[Any]:
    if c is None:
        raise Untold
    w, lr, c, found = plain(params), numbers(lr), numbers(c), []
    for _ in range(STEPS):
        draw = Generator().manual_seed(int(torch.randint(2**32, (), generator=generator)))
        u = [torch.randn(leaf.shape, generator=draw, dtype=leaf.dtype) for leaf in leaves(w)]
        points = [of_leaves(w, [leaf + side * one for leaf, one in zip(leaves(w), u, strict=True)]) for side in (c, -c)]
        up, down = (differentiated(smooth, point, batch)[0] for point in points)
        rate = lr * (up - down) / (2 * c)
        w = of_leaves(w, [leaf - rate * one for leaf, one in zip(leaves(w), u, strict=True)])
        found.append(((up + down) / 2, w))
    return found


def _searched(make: Callable[..., Any], given: tuple[Any, ...]) -> Call:
    """A search, of which is looked at that its values are those of its points, and fall."""

    def run(*a: Any) -> Any:
        steps = trained(make(*a[:-2]), *a[-2:])
        values = [value for value, _ in steps]
        rises = any(bool(later > earlier) for earlier, later in zip(values, values[1:], strict=False))
        # The values as they are, and as they are at the points that were reached.
        return values, [smooth(reached, a[-1]) for _, reached in steps[:-1]], rises

    def truth(*a: Any) -> Any:
        values, again, _ = run(*a)
        return [differentiated(smooth, *a[-2:])[0], *again], values[1:], False

    return Call(lambda g: (*given, *task(g)), run, truth)


def _by_hand(lr: float) -> fn.Transformation:
    return fn.Transformation(
        lambda params: (), lambda grads, state, params=None: (fn.tree.map(lambda g: -lr * g, grads), ())
    )


def _own_step(at: fn.At, params: Any, state: Any) -> fn.Step:
    value, grads = at(params)
    return fn.Step(fn.tree.map(lambda w, g: w - 0.1 * g, params, grads), state, value)


def descent(params: Any, batch: Any) -> Any:
    """Plain descent by torch.optim."""
    return by_torch(lambda leaves: torch.optim.SGD(leaves, 0.1), params, batch)


def _adam(params: list[Tensor], lr: float, betas: Any, eps: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, lr, (float(betas[0]), float(betas[1])), eps)


def _averages(optimizer: Any, params: Any, batch: Any) -> list[Any]:
    steps = fn.train(fn.func_grad(fn.Objective(smooth)), optimizer, params, [batch] * STEPS)
    return [step.state.average for step in steps]


def _averages_truth(lr: Any, beta: Any, params: Any, batch: Any) -> list[Any]:
    found: list[list[Tensor]] = []
    for k, (_, w) in enumerate(by_torch(lambda leaves: SGD(leaves, numbers(lr)), params, batch)):
        share = 1 / (k + 1) if beta is None or k == 0 else 1 - numbers(beta)
        found.append([a + share * (b - a) for a, b in zip(found[-1] if k else leaves(w), leaves(w), strict=True)])
    return [of_leaves(plain(params), list(average)) for average in found]


def _masked(lr: float, mask: Any, params: Any, batch: Any) -> list[Any]:
    chosen = mask if isinstance(mask, dict) else {"w": mask, "b": mask}
    if set(chosen) != {"w", "b"} or not all(isinstance(one, (bool, np.bool_)) for one in chosen.values()):
        raise TypeError("no mask")
    trained = [chosen["b"], chosen["w"]]

    def of_some(leaves: list[Tensor]) -> torch.optim.Optimizer:
        return SGD([*(leaf for leaf, on in zip(leaves, trained, strict=True) if on), torch.zeros(1)], numbers(lr))

    return by_torch(of_some, params, batch)


def _adamw(params: list[Tensor], lr: float, betas: Any, eps: float, decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr, (float(betas[0]), float(betas[1])), eps, weight_decay=decay)


def clipped(make: Callable[..., Any]) -> Call:
    """Descent with a bounded gradient, (most, lr, params, batch)."""
    return Call(
        lambda g: (0.1, 0.1, *task(g)), lambda most, lr, *a: trained(make(most, lr), *a), _clipped, power=0.5, spreads=True
    )


def _clipped(most: float, lr: float, params: Any, batch: Any) -> list[Any]:
    def bounded(leaves: list[Tensor]) -> torch.optim.Optimizer:
        optimizer, bound = torch.optim.SGD(leaves, numbers(lr)), numbers(most)

        def clip(*_: Any) -> None:
            grads: list[Any] = [leaf.grad for leaf in leaves]
            length = math.sqrt(sum(float(g.double().square().sum()) for g in grads))
            for g in grads:
                g.mul_(min(1.0, bound / (length + 1e-6)))

        optimizer.register_step_pre_hook(clip)
        return optimizer

    return by_torch(bounded, params, batch)


ROWS = {
    "sgd": optimizer(fn.sgd, (0.1,), SGD),
    "momentum": optimizer(fn.momentum, (0.1, 0.9), lambda leaves, lr, beta: SGD(leaves, lr, momentum=beta)),
    "rmsprop": optimizer(fn.rmsprop, (0.1, 0.9, 1e-8), torch.optim.RMSprop, power=0.5),
    "adam": optimizer(fn.adam, (0.1, (0.9, 0.99), 1e-8), _adam, power=0.5),
    "adamw": optimizer(fn.adamw, (0.1, (0.9, 0.99), 1e-8, 0.01), _adamw, power=0.5),
    "clip_by_norm": clipped(lambda most, lr: fn.chain(fn.clip_by_norm(most), fn.sgd(lr))),
    "chain": Call(
        lambda g: (fn.clip_by_norm(0.1), fn.sgd(0.1), *task(g)),
        lambda first, last, *a: trained(fn.chain(first, last), *a),
        lambda first, last, *a: _clipped(0.1, 0.1, *a),
        power=0.5,
        spreads=True,
        trusts=True,
    ),
    "averaged": Call(
        lambda g: (0.1, 0.5, *task(g)),
        lambda lr, beta, *a: _averages(fn.averaged(fn.sgd(lr), beta), *a),
        _averages_truth,
    ),
    "masked": Call(
        lambda g: (0.1, {"w": True, "b": False}, *task(g)),
        lambda lr, mask, *a: trained(fn.masked(fn.sgd(lr), mask), *a),
        lambda lr, mask, *a: _masked(lr, mask, *a),
    ),
    "nesterov": Call(lambda g: (0.1, 0.9, *task(g)), lambda lr, beta, *a: trained(fn.nesterov(lr, beta), *a), _nesterov),
    "mezo": Call(
        lambda g: (Generator().manual_seed(2), 0.1, 1e-3, *task(g)), lambda *a: trained(fn.mezo(*a[:-2]), *a[-2:]), _mezo
    ),
    "line_search": _searched(fn.line_search, (1.0, 0.5, 1e-4, 20)),
    "exact_line_search": _searched(fn.exact_line_search, (1.0, 1e-6, 100)),
    "bfgs": _searched(fn.bfgs, (1.0, 1e-4, 0.9, 20)),
    "descend": Call(
        lambda g: (_by_hand(0.1), *task(g)),
        lambda t, *a: trained(fn.descend(t), *a),
        lambda t, *a: descent(*a),
        trusts=True,
    ),
    "Transformation": Call(
        lambda g: (*_by_hand(0.1), *task(g)),
        lambda init, update, *a: trained(fn.Transformation(init, update), *a),
        lambda init, update, *a: descent(*a),
        trusts=True,
    ),
    "Optimizer": Call(
        lambda g: (lambda params: (), _own_step, *task(g)),
        lambda init, step, *a: trained(fn.Optimizer(init, step), *a),
        lambda init, step, *a: descent(*a),
        trusts=True,
    ),
    "Step": Call(
        lambda g: (lambda at, params, state: fn.Step(params, state, at.value(params)), *task(g)),
        lambda step, *a: trained(fn.Optimizer(lambda params: (), step), *a),
        lambda step, params, batch: [(differentiated(smooth, params, batch)[0], plain(params))] * STEPS,
    ),
}
