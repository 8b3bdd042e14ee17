"""What the ranks of test_data_parallel do: see together."""

import contextlib

import torch
from helpers import labels, normal, seeded

import funcnn as fn

STEPS = 100


def network(sizes, count):
    layer = fn.mlp(sizes, fn.tanh)
    batch = normal(count, sizes[0], seed=1), labels(count, sizes[-1], seed=2)
    return fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(seeded(), dtype=torch.float64), batch


def tokens(count):
    layer = fn.serial(fn.dense(300, 256), fn.layer_norm(256), fn.tanh(), fn.dense(256, 3))
    batch = normal(count, 2, 300, seed=1), labels(2 * count, 3, seed=2).reshape(count, 2)
    return fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(seeded(), dtype=torch.float64), batch


def regularised(count):
    objective, params, batch = network((5, 4, 3), count)
    return fn.regularised(objective, fn.l2(1e-2)), params, batch


def of_batches_alone(count):
    """A plain function and a batch of one tensor."""
    return fn.Objective(lambda w, x: ((x @ w).sin() ** 2).mean()), normal(5), normal(count, 5, seed=1)


SMALL, WIDE = (6, 5, 3), (300, 256, 3)

# name: (the scene of N samples, what is made of its objective, N, the optimizer)
CASES = {
    **{name: (lambda n: network(SMALL, n), make, 11, fn.momentum(0.05)) for name, make in fn.PROVIDERS.items()},
    "fewer samples than ranks": (lambda n: network(SMALL, n), fn.explicit, 1, fn.momentum(0.05)),
    "clipped": (lambda n: network(SMALL, n), lambda o: fn.per_sample_clip(fn.explicit(o), 0.1), 11, fn.sgd(0.1)),
    "regularised": (regularised, fn.explicit, 11, fn.adam(0.01)),
    "a plain function": (of_batches_alone, fn.func_grad, 11, fn.momentum(0.05)),
    "a step function of one's own": (of_batches_alone, lambda o: lambda w, x: fn.func_grad(o)(w, x), 11, fn.sgd(0.1)),
    "a search": (lambda n: network(SMALL, n), fn.explicit, 11, fn.line_search()),
    "masked": (lambda n: network(SMALL, n), fn.explicit, 11, fn.masked(fn.adam(0.01), (False, (), True))),
    "factors": (lambda n: network(WIDE, n), fn.explicit, 9, fn.momentum(0.05)),
    "factors, fewer samples than ranks": (lambda n: network(WIDE, n), fn.explicit, 1, fn.momentum(0.05)),
    "factors of tokens": (tokens, fn.explicit, 3, fn.momentum(0.05)),
    "too many samples for factors": (lambda n: network(WIDE, n), fn.explicit, 140, fn.momentum(0.05)),
}


def trained(name, wrap=lambda step_fn: step_fn):
    """(parameters, losses) after a hundred steps."""
    scene, make, count, optimizer = CASES[name]
    objective, params, batch = scene(count)
    steps = [*fn.train(wrap(make(objective)), optimizer, params, [batch] * STEPS)]
    return steps[-1].params, torch.stack([step.value for step in steps])


def shared(step_fn):
    """Of the samples of a batch that all ranks have."""
    return fn.distributed.data_parallel(step_fn, share=fn.distributed.rows)


def every_case(rank, size, folder):
    """What each case ends with."""
    return {name: trained(name, shared) for name in CASES}


def at_the_start(name, wrap=lambda step_fn: step_fn):
    """(value, the same with its gradient) at the first parameters."""
    scene, make, count, _ = CASES[name]
    objective, params, batch = scene(count)
    step_fn = wrap(make(objective))
    value = step_fn.value(params, batch) if isinstance(step_fn, fn.StepFn) else step_fn(params, batch)[0]
    return value, step_fn(params, batch)


UNEVEN = {2: (9, 2), 3: (1, 0, 10)}  # samples of each rank
DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def other_cases(rank, size, folder):
    """Gradients at the start; shares that ranks come with; dtypes; what is refused; what fails on one rank alone."""
    starts = {name: at_the_start(name, shared) for name in CASES}
    counts = UNEVEN[size]
    first = sum(counts[:rank])
    uneven, dtypes = {}, {}
    for name in ("explicit", "a plain function"):
        scene, make, count, _ = CASES[name]
        objective, params, batch = scene(count)
        own = fn.tree.map(lambda leaf: leaf[first : first + counts[rank]], batch)
        uneven[name] = fn.distributed.data_parallel(make(objective))(params, own)
    for dtype in DTYPES:
        objective, params, (x, t) = network(SMALL, 11)
        params, batch = fn.tree.map(lambda leaf, dtype=dtype: leaf.to(dtype), params), (x.to(dtype), t)
        dtypes[str(dtype)] = shared(fn.explicit(objective))(params, batch)
    empty = ""
    with contextlib.suppress(fn.InputError):
        own = fn.tree.map(lambda leaf: leaf[:0], batch)
        fn.distributed.data_parallel(fn.explicit(objective))(params, own)
        empty = "not refused"
    return starts, uneven, dtypes, empty
