import pytest
import torch
from helpers import quadratic

import funcnn as fn


def spectral_radius(optimizer, eigenvalues):
    """The rate of an optimizer on 1/2 w^T A w, where one step is a linear map of parameters and state together."""
    step_fn, n = fn.func_grad(quadratic(eigenvalues)), len(eigenvalues)
    stateful = isinstance(next(fn.train(step_fn, optimizer, eigenvalues, [torch.ones(1)])).state, torch.Tensor)
    columns = []
    for basis in torch.eye(2 * n if stateful else n):
        state = basis[n:] if stateful else ()
        (step,) = fn.train(step_fn, optimizer, basis[:n], [torch.ones(1)], state=state)
        columns.append(torch.cat([step.params, step.state]) if stateful else step.params)
    return torch.linalg.eigvals(torch.stack(columns, 1)).abs().max().item()


# condition number: published rates of gradient descent, heavy ball and Nesterov (Lessard, Recht & Packard 2016)
RATES = {10: (0.81818, 0.51949, 0.68377), 100: (0.98020, 0.81818, 0.90000), 1000: (0.99800, 0.93869, 0.96838)}


@pytest.mark.parametrize("condition", RATES)
def test_tuned_methods_converge_at_their_published_rates(condition):
    m, big, root = 1.0, float(condition), condition**0.5
    eigenvalues = torch.linspace(m, big, 5)
    optimizers = (
        fn.sgd(2 / (big + m)),
        fn.momentum(4 / (big**0.5 + m**0.5) ** 2, ((root - 1) / (root + 1)) ** 2),
        fn.nesterov(1 / big, (root - 1) / (root + 1)),
    )
    for optimizer, published in zip(optimizers, RATES[condition], strict=True):
        assert abs(spectral_radius(optimizer, eigenvalues) - published) < 1e-4


@pytest.mark.parametrize("condition", [10, 100])
def test_gradient_descent_shrinks_the_extreme_components_by_exactly_its_rate(condition):
    objective, w = quadratic(torch.tensor([1.0, condition])), torch.tensor([1.0, 1.0])
    *_, last = fn.train(fn.func_grad(objective), fn.sgd(2 / (condition + 1)), w, [torch.ones(1)] * 50)
    assert torch.allclose(last.params.abs(), torch.full((2,), ((condition - 1) / (condition + 1)) ** 50), rtol=1e-12)
