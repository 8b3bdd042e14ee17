"""Trainings, schedules and compiled steps, beside loops written out."""

import math
import tempfile
from collections.abc import Callable
from itertools import count
from numbers import Integral
from typing import Any

import torch
from torch import Generator, Tensor

import funcnn as fn
from experiments.fuzz.agreement import Untold
from experiments.fuzz.case import Call
from experiments.fuzz.formulas import counts, leaves, mapped, of_leaves, plain, plain_batch, rows_of
from experiments.fuzz.rows.optimizers import STEPS, by_torch, descent, trained
from experiments.fuzz.rows.records import everything
from experiments.fuzz.rows.tasks import differentiated, smooth, task

MANY = 1000


def _batches(data: Any, size: int, generator: Generator) -> list[Any]:
    if any(isinstance(leaf, Tensor) and leaf.is_quantized for leaf in everything(data)):
        raise Untold  # rows of it are rows
    data = plain_batch(data)
    own = set(counts(data))
    if len(own) != 1 or 0 in own or isinstance(size, bool):
        raise TypeError("no data")
    order = torch.randperm(own.pop(), generator=generator)
    return [rows_of(data, chosen.tolist()) for chosen in order.split(int(size))]


def _fit(f: Any, lr: float, params: Any, data: Any, epochs: Any, size: int, generator: Generator, evaluate: Any) -> Any:
    if isinstance(epochs, int) and epochs > MANY:
        raise fn.InputError("epochs", epochs, "fewer, or the case takes as long as was asked for")
    fitted = fn.fit(
        fn.func_grad(fn.Objective(f)),
        fn.sgd(lr),
        params,
        data,
        epochs=epochs,
        batch_size=size,
        generator=generator,
        evaluate=evaluate,
    )
    return fitted.params, fitted.history.losses, fitted.history.evaluations


def _fit_truth(
    f: Any, lr: float, params: Any, data: Any, epochs: Any, size: int, generator: Generator, evaluate: Any
) -> Any:
    w, losses, seen = plain(params), [torch.zeros(0)], []
    if callable(lr):
        raise Untold
    for _ in range(int(epochs)) if isinstance(epochs, Integral) else epochs:
        for batch in _batches(data, size, generator):
            value, grads = differentiated(f, w, batch)
            new = of_leaves(w, [leaf - lr * grad for leaf, grad in zip(leaves(w), leaves(grads), strict=True)])
            if not all(bool(leaf.isfinite().all()) for leaf in (value, *leaves(new))):
                return w, torch.cat(losses), {"evaluation": seen} if seen else {}
            w = new
            losses.append(value[None])
        if evaluate is not None:
            seen.append(float(evaluate(w)))
    return w, torch.cat(losses), {"evaluation": seen} if seen else {}


def _fit_twice(f: Any, lr: float, params: Any, data: Any, size: int, generator: Generator, every: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        how = {"batch_size": size, "generator": generator, "checkpoint": f"{folder}/run", "checkpoint_every": every}
        for epochs in (1, 2):  # the second goes on from the file of the first
            fitted = fn.fit(fn.func_grad(fn.Objective(f)), fn.sgd(lr), params, data, epochs=epochs, **how)
    return fitted.params, fitted.history.losses, fitted.history.evaluations


def _fit_twice_truth(f: Any, lr: float, params: Any, data: Any, size: int, generator: Generator, every: Any) -> Any:
    return _fit_truth(f, lr, params, data, 2, size, generator, None)


def total(params: Any) -> float:
    """An evaluation, which takes as long as there are numbers."""
    if any(leaf.numel() > 2**24 for leaf in fn.tree.leaves(params)):
        raise OverflowError("more than an evaluation looks at")
    return float(sum(leaf.sum() for leaf in fn.tree.leaves(params)))


def _by_schedule(lr: Any, params: Any, batch: Any) -> Any:
    def of_steps(leaves: list[Tensor]) -> torch.optim.Optimizer:
        optimizer, steps = torch.optim.SGD(leaves, 0.0), count()

        def scheduled(*_: Any) -> None:
            k = next(steps)
            optimizer.param_groups[0]["lr"] = float(lr(k) if callable(lr) else lr)

        optimizer.register_step_pre_hook(scheduled)
        return optimizer

    return by_torch(of_steps, params, batch)


def _scanned(params: Any, batches: Any) -> Any:
    scan = SCAN(params, None, batches)
    return scan.params, scan.values


def _scanned_truth(params: Any, batches: Any) -> Any:
    w, values = plain(params), []
    for k in range(len(batches[0])):
        value, grads = differentiated(smooth, w, mapped(lambda leaf, k=k: leaf[k], plain(batches)))
        w = of_leaves(w, [leaf - 0.1 * grad for leaf, grad in zip(leaves(w), leaves(grads), strict=True)])
        values.append(value)
    return w, torch.stack(values)


def scheduled(make: Callable[..., Any], given: tuple[Any, ...], formula: Callable[..., float]) -> Call:
    """A schedule of numbers, looked at for some steps."""

    def truth(*arguments: Any) -> list[float]:
        if any(map(callable, arguments)):
            raise Untold
        return [float(formula(k, *arguments)) for k in range(6)]

    return Call(lambda g: given, lambda *a: [float(make(*a)(k)) for k in range(6)], truth)


def _waved(k: int, lr: float, steps: int, least: float) -> float:
    return least + (lr - least) * (1 + math.cos(math.pi * min(k, steps) / steps)) / 2


def _pieces(k: int, lr: float, values: Any) -> float:
    return max(((start, value) for start, value in values.items() if start <= k), default=(0, lr))[1]


def by_gradient(params: Any, batch: Any) -> Any:
    """A rule of the user's own."""
    return fn.func_grad(fn.Objective(smooth))(params, batch)


SCAN = fn.compiled_scan(fn.func_grad(fn.Objective(smooth)), fn.sgd(0.1))
COMPILED = fn.compiled(fn.sgd(0.1))
COMPILED_OF = fn.func_grad(fn.Objective(smooth))

ROWS = {
    "train": Call(
        lambda g: (by_gradient, fn.sgd(0.1), *task(g)),
        lambda rule, optimizer, params, batch: [
            (step.value, step.params) for step in fn.train(rule, optimizer, params, [batch] * STEPS)
        ],
        lambda rule, optimizer, *a: descent(*a),
        trusts=True,
    ),
    "train, of a state": Call(
        lambda g: (*task(g), {"w": torch.zeros(4, 3, dtype=torch.float64), "b": torch.zeros(3, dtype=torch.float64)}),
        lambda params, batch, state: [
            (step.value, step.params)
            for step in fn.train(
                fn.func_grad(fn.Objective(smooth)), fn.momentum(0.1, 0.0), params, [batch] * STEPS, state=state
            )
        ],
        lambda params, batch, state: descent(params, batch),
        spreads=True,
    ),
    "fit": Call(lambda g: (smooth, 0.1, *task(g), 2, 2, g, total), _fit, _fit_truth),
    "Fit": Call(lambda g: (smooth, 0.1, *task(g), 1, 5, g, None), _fit, _fit_truth),
    "fit, from a checkpoint": Call(
        lambda g: (smooth, 0.1, *task(g), 2, g, 1), _fit_twice, _fit_twice_truth, refused=frozenset({"of a subclass"})
    ),
    "patience": Call(
        lambda g: (2,),
        lambda epochs: fn.patience(epochs)(fn.History(torch.zeros(0), [1, 2, 3, 4], {"evaluation": [3.0, 2.0, 4.0, 5.0]})),
        lambda epochs: bool(2 >= epochs),
    ),
    "minibatches": Call(
        lambda g: (task(g)[1], 2, g), lambda data, size, g: list(fn.minibatches(data, size, generator=g)), _batches
    ),
    "cosine": scheduled(fn.cosine, (0.1, 4, 0.01), _waved),
    "piecewise": scheduled(fn.piecewise, (0.1, {2: 0.05, 4: 0.01}), _pieces),
    "warmup": scheduled(fn.warmup, (0.1, 3), lambda k, lr, steps: min(1, (k + 1) / (steps + 1)) * lr),
    "sgd, scheduled": Call(lambda g: (lambda k: 0.1, *task(g)), lambda lr, *a: trained(fn.sgd(lr), *a), _by_schedule),
    "compiled": Call(
        task,
        lambda *a: [(s.value, s.params) for s in fn.train(COMPILED_OF, COMPILED, a[0], [a[1]] * STEPS)],
        descent,
        rare=15,
    ),
    "compiled_scan": Call(
        lambda g: (task(g)[0], fn.tree.map(lambda leaf: torch.stack([leaf, leaf]), task(g)[1])),
        _scanned,
        _scanned_truth,
        rare=15,
    ),
    "Scan": Call(
        lambda g: (task(g)[0], fn.tree.map(lambda leaf: torch.stack([leaf, leaf]), task(g)[1])),
        _scanned,
        _scanned_truth,
        rare=15,
    ),
}
