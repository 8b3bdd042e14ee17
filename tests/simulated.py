"""Right estimators whose draws are made thousands at once, for what is to be right in 10,000 runs."""

import torch
from estimators import gaussian, rademacher
from helpers import normal, seeded

from funcnn.checking.estimator_source import Estimator

D, EPS = 8, 2.0**-52
G, THIRD, ONE = normal(D, seed=5), normal(D, seed=6), torch.ones((), dtype=torch.float64)


def estimator(ask, **known):
    return Estimator(ask, ONE, G, ["a", "b"], [torch.Size([D // 2]), torch.Size([D - D // 2])], 1, EPS, **known)


def along(directions, samples, claimed=True):
    """Two-sided quotients along directions of a law, with a bias by third derivatives."""

    def ask(seed, count=None, stretch=1.0):
        generator, k = seeded(seed), count or samples

        def source(draws):
            u = (rademacher if directions == "rademacher" else gaussian)(generator, (draws, k, D))
            if directions == "orthogonal":
                u = torch.linalg.qr(u.mT)[0].mT * D**0.5
            slopes = u @ G + 1e-6 * stretch**2 * (u**3 @ THIRD)
            return ONE.expand(draws), (slopes[..., None] * u).mean(1)

        return source

    return estimator(ask, **({"samples": samples, "directions": directions} if claimed else {}))


def with_errors(errors):
    """A plain one with such errors (draws, D) about its gradient."""

    def ask(seed, count=None, stretch=1.0):
        generator = seeded(seed)
        return lambda draws: (ONE.expand(draws), G + errors(generator, draws))

    return estimator(ask)


def score(generator, draws):
    """Of x^2 under N(1, 1), with a variance of 30 and a kurtosis of 42."""
    z = gaussian(generator, (draws, D))
    return z * (1 + z) ** 2 - 2


def sparse(generator, draws):
    """One entry at a time, d times its derivative."""
    which = torch.randint(D, (draws,), generator=generator)
    return (D * torch.nn.functional.one_hot(which, D) - 1) * G


# name: (the estimator, draws, its kurtosis at most)
SIMULATED = {
    "gaussian": (along("gaussian", 1), 300, 15.0),
    "gaussian, 8 samples": (along("gaussian", 8), 300, 15.0),
    "rademacher": (along("rademacher", 1), 300, 15.0),
    "rademacher, 8 samples": (along("rademacher", 8), 300, 15.0),
    "orthogonal": (along("orthogonal", 3), 300, 15.0),
    "no law claimed": (along("gaussian", 1, claimed=False), 3000, 15.0),
    "one entry at a time": (with_errors(sparse), 3000, 15.0),
    "a score": (with_errors(score), 9000, 45.0),
}
