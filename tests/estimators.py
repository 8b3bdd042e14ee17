"""Estimators written for the tests alone, right ones and some with a mistake: none of the library's directions or slopes."""

import torch
from helpers import normal, seeded

import funcnn as fn
from funcnn.providers.doors import Gradient
from funcnn.providers.drawn import Drawn

PARAMS = {"a": normal(3, 2), "b": normal(3, 2, seed=1), "c": normal(4, seed=2)}
D, STEP = 16, 1e-3
WEIGHTS = torch.arange(1, D + 1, dtype=torch.float64) / D


def of_rows(w):
    """A function of rows (..., D) with derivatives of every order, none of them small."""
    return (WEIGHTS * (w + 0.3 * w**2).sin()).sum(-1) + 0.1 * (w * w.roll(1, -1)).sum(-1)


def f(params, batch):
    return of_rows(torch.cat([leaf.flatten() for leaf in fn.tree.leaves(params)]))


REFERENCE = fn.func_grad(fn.Objective(f))


def gaussian(generator, shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def rademacher(generator, shape):
    return 2.0 * torch.randint(2, shape, generator=generator).double() - 1


def by_seed(entries):
    """(leaves, seeds) -> K directions for each leaf, by the first seed."""

    def draw(leaves, seeds):
        generator = seeded(seeds[0])
        return [entries(generator, (len(seeds), *leaf.shape)) for leaf in leaves]

    return draw


def orthogonal(at, draws):
    """The rows of a random orthogonal matrix, times sqrt(d)."""
    flat = torch.cat([u.flatten(1) for u in draws], 1)
    rows = torch.linalg.qr(flat.T)[0].T * flat.shape[1] ** 0.5
    return [part.reshape(u.shape) for part, u in zip(rows.split([u[0].numel() for u in draws], 1), draws, strict=True)]


def two_sided(f, w, u, c):
    """Slopes (K,) of a function of rows at w (D,) along u (K, D)."""
    return (f(w + c * u) - f(w - c * u)) / (2 * c)


def record(
    generator, samples=1, directions="rademacher", draw=None, slope=two_sided, scale=1.0, vectors=None, f=f, of_rows=of_rows
):
    """An estimator as a record; what it is told of is how it differs from a right one."""
    entries = rademacher if directions == "rademacher" else gaussian

    def numbers(at, u):
        w = torch.cat([leaf.flatten() for leaf in at.own])
        slopes = slope(of_rows, w, torch.cat([part.flatten(1) for part in u], 1), STEP)
        return f(at.whole(at.own), at.batch), slopes * (scale(len(slopes)) if callable(scale) else scale)

    outcomes = orthogonal if directions == "orthogonal" else lambda at, draws: draws
    draw, vectors = draw or by_seed(entries), vectors or (lambda at, u: u)
    return fn.StepFn(f, Gradient(Drawn(draw, outcomes, numbers, vectors, generator, samples, directions), "planted", f))


VALUE, TREE = REFERENCE(PARAMS, ())
GRADIENT, UNRAVEL = fn.tree.ravel(TREE)


def plain(generator, samples=1, scale=1.0):
    """What can only be called: samples of (u . gradient) u with Gaussian u, averaged."""

    def step_fn(params, batch):
        u = torch.randn(samples, D, generator=generator, dtype=torch.float64)
        return VALUE, UNRAVEL(scale / samples * ((u @ GRADIENT) @ u))

    return step_fn


# What is right: name: (the estimator of a generator, draws)
RIGHT = {
    "rademacher": (record, 256),
    "rademacher, 8 samples": (lambda g: record(g, 8), 256),
    "gaussian": (lambda g: record(g, directions="gaussian"), 256),
    "gaussian, 8 samples": (lambda g: record(g, 8, "gaussian"), 256),
    "orthogonal, 8 samples": (lambda g: record(g, 8, "orthogonal"), 256),
    "orthogonal, all": (lambda g: record(g, D, "orthogonal"), 256),
    "no law claimed": (lambda g: record(g, directions=""), 3200),
    "a plain callable": (plain, 4000),
    "the gradient itself": (lambda g: REFERENCE, 4000),
}


def changed(change, entries=gaussian):
    """Directions whose leaves are changed."""
    return lambda leaves, seeds: change(by_seed(entries)(leaves, seeds))


def half_alike(leaves, seeds):
    """Directions that agree with the first one wherever a coin says so."""
    each = by_seed(rademacher)(leaves, seeds)
    coins = by_seed(rademacher)(leaves, [seeds[0] + 1, *seeds[1:]])
    return [torch.where(coin > 0, u[:1], u) for u, coin in zip(each, coins, strict=True)]


def overlapping(generator):
    """Every call averages a new direction with the one of the call before."""
    rule, kept = plain(generator), []

    def step_fn(params, batch):
        value, new = rule(params, batch)
        kept.append(new)
        return value, fn.tree.map(lambda x, y: (x + y) / 2, new, kept[-2] if len(kept) > 1 else rule(params, batch)[1])

    return step_fn


def from_a_pool(generator):
    """A seed of 16, anew in each call."""

    def step_fn(params, batch):
        seed = int(torch.randint(16, (), generator=generator))
        return plain(seeded(seed))(params, batch)

    return step_fn


def one_sided(f, w, u, c):
    return (f(w + c * u) - f(w)) / c


# The eight mistakes, some of them in several places: name: (the estimator of a generator, draws, causes that name it)
PLANTED = {
    "a missing factor": (lambda g: record(g, slope=lambda *a: 2 * two_sided(*a)), 256, ["factor 2"]),
    "a missing factor, plain": (lambda g: plain(g, scale=0.5), 8000, ["factor 2"]),
    "a sign": (lambda g: record(g, scale=-1.0), 256, ["sign"]),
    "a sign, plain": (lambda g: plain(g, scale=-1.0), 4000, ["sign"]),
    "one-sided": (lambda g: record(g, slope=one_sided), 256, ["one-sided"]),
    "one-sided, gaussian": (lambda g: record(g, 2, "gaussian", slope=one_sided), 256, ["one-sided"]),
    "one-sided, orthogonal": (lambda g: record(g, 4, "orthogonal", slope=one_sided), 256, ["one-sided"]),
    "correlated draws": (lambda g: record(g, 8, draw=half_alike), 600, ["correlated"]),
    "correlated draws, plain": (overlapping, 4000, ["correlated"]),
    "c not squared": (lambda g: record(g, scale=STEP), 256, ["step"]),
    "c not squared, plain": (lambda g: plain(g, scale=1 / STEP), 4000, ["step"]),
    "a reused seed, within a call": (
        lambda g: record(g, 8, draw=changed(lambda u: [part[:1].expand(part.shape) for part in u], rademacher)),
        256,
        ["reused seed"],
    ),
    "a reused seed, in every call": (
        lambda g: record(g, draw=lambda leaves, seeds: by_seed(rademacher)(leaves, range(len(seeds)))),
        256,
        ["reused seed"],
    ),
    "a reused seed, of a few, plain": (from_a_pool, 4000, ["reused seed"]),
    "a sum for a mean": (lambda g: record(g, 8, scale=lambda k: k), 256, ["samples"]),
    "a sum for a mean, of one sample": (lambda g: record(g, 1, "gaussian", scale=lambda k: k), 256, ["samples"]),
    "d/k missing": (lambda g: record(g, 4, "orthogonal", scale=4 / D), 256, ["dimension"]),
}


def of_unit_length(u):
    length = sum(part.flatten(1).square().sum(1) for part in u).sqrt()
    return [part / length.reshape(-1, *[1] * (part.ndim - 1)) for part in u]


def uniform(width):
    return by_seed(lambda generator, shape: width * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1))


def masked_anew(generator):
    """Each of the two values drops other entries."""

    def slope(f, w, u, c):
        up, down = ((torch.rand(D, generator=generator, dtype=torch.float64) > 0.1) / 0.9 for _ in range(2))
        return (f((w + c * u) * up) - f((w - c * u) * down)) / (2 * c)

    return record(generator, slope=slope)


def of_two_batches(f, w, u, c):
    """The draw says which of two batches each value has."""
    up, down = u[:, 0].sign() * 0.1, u[:, 1].sign() * 0.1
    return (f(w + c * u) * (1 + up) - f(w - c * u) * (1 + down)) / (2 * c)


def half(at, u):
    return [part * (torch.arange(part[0].numel()) % 2).reshape(part.shape[1:]) for part in u]


def sign_of_c(at, u):
    return [*u[:2], -u[2]]


def sown_anew(generator):
    """The generator begins again after every fourth call."""
    calls = []

    def step_fn(params, batch):
        if len(calls) % 4 == 0:
            generator.manual_seed(0)
        calls.append(())
        return plain(generator)(params, batch)

    return step_fn


def on_the_sphere(length):
    def estimator(generator):
        def step_fn(params, batch):
            u = torch.randn(D, generator=generator, dtype=torch.float64)
            u = u / u.norm() * length
            return VALUE, UNRAVEL((u @ GRADIENT) * u)

        return step_fn

    return estimator


def one_entry(generator):
    """A derivative of one entry, without the d that it stands for."""

    def step_fn(params, batch):
        which = torch.randint(D, (), generator=generator)
        return VALUE, UNRAVEL(torch.where(torch.arange(D) == which, GRADIENT, 0.0))

    return step_fn


def of_more(generator):
    step_fn = plain(generator)
    return lambda params, batch: (VALUE + 1, step_fn(params, batch)[1])


# Mistakes that it had not been tried on when it was written: it found all 17 and named 13 of them rightly.
ASIDE = {
    "entries of another law": (lambda g: record(g, directions="gaussian", draw=uniform(3**0.5)), 256, ["directions"]),
    "gaussian for +1 and -1": (lambda g: record(g, draw=by_seed(gaussian)), 256, ["directions"]),
    "entries of a third the variance": (lambda g: record(g, draw=uniform(1.0)), 256, ["factor", "dimension"]),
    "not normalised": (lambda g: record(g, directions="gaussian", draw=changed(of_unit_length)), 256, ["dimension"]),
    "of equal length": (
        lambda g: record(g, directions="gaussian", draw=changed(lambda u: [4.0 * x for x in of_unit_length(u)])),
        256,
        ["directions"],
    ),
    "a mask redrawn": (masked_anew, 256, ["redrawn"]),
    "a batch redrawn": (lambda g: record(g, slope=of_two_batches), 256, ["redrawn"]),
    "half of the entries never moved": (lambda g: record(g, vectors=half), 256, ["left out"]),
    "divided by samples twice": (lambda g: record(g, 4, scale=lambda k: 1 / k), 256, ["samples"]),
    "one seed for every leaf": (
        lambda g: record(g, directions="gaussian", draw=changed(lambda u: [u[0], u[0], u[2]])),
        256,
        ["biased"],
    ),
    "another direction than that of the slope": (
        lambda g: record(g, vectors=lambda at, u: [part.roll(1, 0) for part in u], samples=2),
        256,
        ["factor", "zero"],
    ),
    "a slope without its sign": (lambda g: record(g, slope=lambda *a: two_sided(*a).abs()), 256, ["zero"]),
    "the sign of one leaf": (lambda g: record(g, vectors=sign_of_c), 256, ["sign"]),
    "the generator begins again": (sown_anew, 4000, ["reused seed"]),
    "not normalised, plain": (on_the_sphere(1.0), 4000, ["dimension"]),
    "one entry without d": (one_entry, 8000, ["dimension"]),
    "the value of another function": (of_more, 4000, ["value"]),
}
