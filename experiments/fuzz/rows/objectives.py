"""Objectives, providers of gradients and gradients per sample, beside classic autograd."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

import funcnn as fn
from experiments.fuzz.agreement import ANY, Untold
from experiments.fuzz.case import Call
from experiments.fuzz.formulas import (
    affine,
    counts,
    leaves,
    plain,
    plain_batch,
    rows_of,
    series,
    torchs,
)
from experiments.fuzz.rows.networks import normal, weights
from experiments.fuzz.rows.tasks import by_hand, clipped_mean, differentiated, norms, of_words, smooth, stacked, task, words

NETWORK = fn.serial(fn.dense(4, 3), fn.tanh())
FORMULA = series(affine, torchs(torch.tanh))


def supervised(params: Any, batch: Any) -> Tensor:
    """The objective of a network and a loss in torch's operations."""
    x, t = batch
    y = FORMULA(params, x)
    if y.shape != t.shape or y.dtype != t.dtype:
        raise TypeError("targets do not fit")
    return 0.5 * ((y - t) ** 2).flatten(1).sum(1).mean()


def _both(step_fn: fn.StepFn, params: Any, batch: Any) -> Any:
    value, grads = step_fn(params, batch)
    return value, grads, step_fn.value(params, batch)


def _with_value(found: Any) -> Any:
    return *found, found[0]


def _seen(found: Any) -> Any:
    """The value and what differences of it can see: nothing of a gradient that is small beside it."""
    value, grads = found
    largest = max((float(leaf.abs().max()) for leaf in leaves(grads) if leaf.numel()), default=0.0)
    return _with_value((value, grads if abs(float(value)) < 10 * largest else ANY))


def _by_step(f: Any, scheme: str, step: Any, size: Any, params: Any, batch: Any) -> Any:
    found = differentiated(f, params, batch)
    return _seen(found) if step is None or 1e-9 < step < 1e-4 else ANY  # else it is no derivative, as was asked for


def provider(
    make: Callable[..., fn.StepFn], given: tuple[Any, ...] = (), power: float = 0.6, truth: Any = _with_value, **more: Any
) -> Call:
    """A provider of the gradient of a function that is among the arguments, (f, *given, params, batch)."""
    return Call(
        lambda g: (smooth, *given, *task(g)),
        lambda f, *rest: _both(make(fn.Objective(f), *rest[:-2]), *rest[-2:]),
        lambda f, *rest: truth(differentiated(f, *rest[-2:])),
        power,
        **more,
    )


def of_network(
    make: Callable[..., Any],
    run: Callable[..., Any],
    truth: Callable[..., Any],
    given: tuple[Any, ...] = (),
    power: float = 0.6,
    **more: Any,
) -> Call:
    """What takes the step function of a supervised network; the arguments are (*given, params, batch)."""

    def draw(g: Generator) -> Any:
        params, batch = task(g)
        return *given, (params, ()), batch

    objective = fn.supervised(NETWORK, fn.half_squared_error())
    return Call(draw, lambda *a: run(make(objective), *a), lambda *a: truth(supervised, *a[-2:], *a[:-2]), power, **more)


def _lengths(f: Any, params: Any, batch: Any) -> Any:
    beyond = any(bool((leaf.abs() > 1e154).any()) for leaf in leaves(plain(batch)))  # whose squares leave the range
    return ANY if beyond else norms(f, params, batch)


def _accuracy(layer: fn.Layer, params: Any, batch: Any) -> Tensor:
    x, t = plain(batch)
    y = affine(plain(params), x)
    if t.shape != y.shape[:-1] or t.dtype != torch.int64 or y.isnan().any() or not y.numel() or t.min() < 0 or t.max() > 2:
        raise TypeError("no labels")
    return (y.argmax(-1) == t).double().mean()


def penalty(make: Callable[..., fn.Objective], formula: Callable[..., Tensor]) -> Call:
    """A penalty of the parameters, (rate, params)."""

    def truth(rate: Any, params: Any) -> Any:
        if len({leaf.dtype for leaf in leaves(plain(params))}) > 1:
            raise Untold  # in whichever of the precisions
        return differentiated(
            lambda params, _: sum((formula(leaf, float(rate)) for leaf in leaves(params)), torch.zeros(())),
            params,
            torch.ones(1),
        )

    return Call(lambda g: (0.1, weights(g)), lambda rate, w: fn.explicit(make(rate))(w, torch.ones(1)), truth, power=0.25)


WORDS = fn.Objective(of_words)
DIFFERENCES = {"central": 0.55, "forward": 0.35, "backward": 0.35}


def drawn(make: Callable[..., fn.StepFn], given: Any) -> Call:
    """A provider that draws, of as many orthogonal directions as there are parameters: (f, given, params, batch)."""

    def run(f: Any, given: Any, *rest: Any) -> Any:
        return _both(make(fn.Objective(f), Generator().manual_seed(0), given, samples=15, orthogonal=True), *rest)

    def truth(f: Any, given: Any, params: Any, batch: Any) -> Any:
        found, parts = differentiated(f, params, batch), leaves(params)
        exact = given in ("jvp", None)
        if not exact:  # a step is small, and not lost in the rounding of a leaf
            exact = max(torch.finfo(leaf.dtype).eps for leaf in parts) ** 0.5 < given < 1e-4
        return _seen(found) if exact and sum(leaf.numel() for leaf in parts) == 15 else ANY

    return Call(lambda g: (smooth, given, *task(g)), run, truth, 0.5, spreads=True)


def noise(generator: Generator) -> Tensor:
    """What a normal variable of three entries is made of."""
    return torch.randn(3, generator=generator, dtype=torch.float64)


def shifted(w: Any, batch: Any, z: Any) -> Tensor:
    """The variable of mean w."""
    return w + z


def log_density(w: Any, batch: Any, x: Any) -> Tensor:
    """Its log density, but for a constant."""
    return -0.5 * ((x - w) ** 2).sum()


def distance(x: Any, batch: Any) -> Tensor:
    """What it costs."""
    return ((x - batch) ** 2).mean()


def by_costs(
    noise: Any, sample: Any, log_density: Any, cost: Any, samples: Any, generator: Generator, w: Any, batch: Any
) -> Any:
    """(value, gradient) of the expectation that these make."""
    expectation = fn.Expectation(noise, sample, log_density, cost)
    return fn.score_function(expectation, generator, samples=samples)(w, batch)


def of_costs(make: Any, sample: Any, density: Any, cost: Any, samples: Any, generator: Generator, w: Any, batch: Any) -> Any:
    """The same, with the score x - w written out."""
    w, batch = plain(w), plain_batch(batch)
    if not w.is_floating_point() or not len(set(counts(batch))) == 1:
        raise TypeError("no batch")
    seeds = torch.randint(2**32, (int(samples),), generator=generator).tolist()
    every = [w + noise(Generator().manual_seed(seed)) for seed in seeds]
    costs = [distance(x, batch) for x in every]
    terms = [c * (x - w).sum_to_size(w.shape) for c, x in zip(costs, every, strict=True)]
    return torch.stack(costs).mean(), torch.stack(terms).mean(0).to(w.dtype)


def sampled(g: Generator) -> tuple[Any, ...]:
    """(how many, what draws, parameters, batch)."""
    return 2, Generator().manual_seed(1), normal(g, 3), normal(g, 5, 3)


ROWS = {
    "Loss": Call(
        lambda g: (lambda y, t: (((y - t) ** 2).mean(), y - t), lambda e: 2 / e.numel() * e, *task(g)),
        lambda ahead, back, *rest: _both(fn.explicit(fn.supervised(fn.dense(4, 3), fn.Loss(ahead, back))), *rest),
        lambda ahead, back, *rest: ANY if isinstance(back, type) else _with_value(differentiated(_squares, *rest)),
    ),
    "Objective": Call(
        lambda g: (smooth, by_hand, *task(g)),
        lambda f, rule, *rest: _both(fn.explicit(fn.Objective(f, rule)), *rest),
        lambda f, rule, *rest: _with_value(differentiated(f, *rest)),
    ),
    "StepFn": Call(
        lambda g: (smooth, by_hand, *task(g)),
        lambda f, rule, *rest: fn.per_sample(fn.StepFn(f, rule))(*rest),
        lambda f, rule, *rest: (_values(smooth, *rest), stacked(smooth, *rest)),
    ),
    "At": Call(
        lambda g: (smooth, *task(g)),
        lambda f, params, batch: fn.At(fn.func_grad(fn.Objective(f)), batch)(params),
        differentiated,
    ),
    "explicit": of_network(fn.explicit, _both, lambda *a: _with_value(differentiated(*a))),
    "supervised": of_network(fn.func_grad, _both, lambda *a: _with_value(differentiated(*a))),
    "func_grad": provider(fn.func_grad),
    "autograd": provider(fn.autograd),
    "complex_step": Call(
        lambda g: (smooth, 1e-30, 4, *task(g)),
        lambda f, step, size, *a: _both(fn.complex_step(fn.Objective(f), step, size), *a),
        lambda f, step, size, *a: (
            _with_value(differentiated(f, *a)) if step is None or step < 1e-8 else ANY
        ),  # else it is no limit
        spreads=True,
    ),
    "complex_step, as it is": provider(fn.complex_step, spreads=True),
    "finite_difference, as it is": provider(fn.finite_difference, power=0.5, truth=_seen, spreads=True),
    **{
        f"finite_difference, {scheme}": Call(
            lambda g, scheme=scheme, step=1e-5 if power > 0.5 else 1e-7: (smooth, scheme, step, 4, *task(g)),
            lambda f, scheme, step, size, *a: _both(fn.finite_difference(fn.Objective(f), scheme, step, size), *a),
            _by_step,
            power,
            spreads=True,
        )
        for scheme, power in DIFFERENCES.items()
    },
    "finite_difference, of a network": of_network(
        fn.finite_difference, _both, lambda *a: _seen(differentiated(*a)), power=0.5, spreads=True
    ),
    "autograd, of words": Call(
        words, lambda *a: _both(fn.autograd(WORDS), *a), lambda *a: _with_value(differentiated(of_words, *a))
    ),
    "per_sample, of words": Call(
        words, lambda *a: fn.per_sample(fn.func_grad(WORDS))(*a)[1], lambda *a: stacked(of_words, *a)
    ),
    "spsa": drawn(lambda f, g, step, **more: fn.spsa(f, g, step=step, **more), 1e-5),
    "forward_gradient": drawn(lambda f, g, by, **more: fn.forward_gradient(f, g, by=by, **more), "jvp"),
    "evolution": drawn(lambda f, g, sigma, **more: fn.evolution(f, g, sigma=sigma, **more), 1e-5),
    "score_function": Call(
        sampled,
        lambda *a: by_costs(noise, shifted, log_density, distance, *a),
        lambda *a: of_costs(noise, shifted, log_density, distance, *a),
        spreads=True,
    ),
    "Expectation": Call(lambda g: (noise, shifted, log_density, distance, *sampled(g)), by_costs, of_costs, spreads=True),
    "PROVIDERS": of_network(
        lambda objective: [make(objective) for make in fn.PROVIDERS.values()],
        lambda made, *rest: [one(*rest)[0] for one in made],
        lambda *a: [differentiated(*a)[0]] * len(fn.PROVIDERS),
    ),
    "per_sample": of_network(fn.explicit, lambda step_fn, *a: fn.per_sample(step_fn)(*a)[1], lambda f, *a: stacked(f, *a)),
    "per_sample_norms": of_network(fn.explicit, lambda step_fn, *a: fn.per_sample_norms(step_fn)(*a), _lengths),
    "per_sample_norms, of one's own": Call(
        lambda g: (smooth, *task(g)),
        lambda f, *a: fn.per_sample_norms(fn.func_grad(fn.Objective(f)))(*a),
        norms,
    ),
    "per_sample_clip": of_network(
        fn.explicit,
        lambda step_fn, most, *a: fn.per_sample_clip(step_fn, most)(*a),
        clipped_mean,
        (0.1,),
        spreads=True,  # a norm that overflows makes NaN, as it says
    ),
    "l1": penalty(fn.l1, lambda w, rate: rate * w.abs().sum()),
    "l2": penalty(fn.l2, lambda w, rate: rate / 2 * (w * w).sum()),
    "regularised": Call(
        lambda g: (smooth, lambda params: (params["w"] ** 2).sum(), *task(g)),
        lambda f, added, *a: _both(fn.func_grad(fn.regularised(fn.Objective(f), added)), *a),
        lambda f, added, *a: _with_value(differentiated(lambda params, batch: f(params, batch) + added(params), *a)),
    ),
    "accuracy": Call(
        lambda g: (fn.dense(4, 3), weights(g), (normal(g, 5, 4), torch.randint(3, (5,), generator=g))),
        lambda layer, params, batch: fn.accuracy(layer, params, batch),
        _accuracy,
    ),
}


def _squares(params: Any, batch: Any) -> Tensor:
    x, t = batch
    return ((affine(params, x) - t) ** 2).mean()  # a loss of one's own takes whatever targets its operations take


def _values(f: Any, params: Any, batch: Any) -> Tensor:
    batch = plain_batch(batch)
    return torch.stack([f(plain(params), rows_of(batch, [n])) for n in range(counts(batch)[0])])
