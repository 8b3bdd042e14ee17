import pytest
import torch

from experiments.bugs.subject import relative_error
from experiments.kernels.corpus import KERNELS
from experiments.kernels.kernel import padded
from experiments.kernels.names import NAMES


def gradients(rule, inputs, u):
    grads = padded(rule(*(x.clone() for x in inputs), u.clone()), len(inputs))
    return [g if g is not None else torch.zeros_like(x) for x, g in zip(inputs, grads, strict=True) if x.is_floating_point()]


def exact(kernel, inputs, u):
    taped = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    y = kernel.forward(*taped)
    return list(torch.autograd.grad(y, [x for x in taped if x.requires_grad], u))


def upstream(kernel, inputs):
    y = kernel.forward(*inputs)
    return torch.randn(y.shape, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("name", KERNELS)
def test_the_right_rule_is_autograds_and_the_bugs_are_not(name):
    kernel = KERNELS[name]
    for seed in (0, 1):
        inputs = kernel.inputs(seed)
        u = upstream(kernel, inputs)
        right = exact(kernel, inputs, u)
        errors = [relative_error(g, r) for g, r in zip(gradients(kernel.rule, inputs, u), right, strict=True)]
        assert max(errors) < 1e-11, errors
        for bug in kernel.bugs:
            found = gradients(bug.rule, inputs, u)
            assert [g.shape for g in found] == [r.shape for r in right], bug.what
            assert max(relative_error(g, r) for g, r in zip(found, right, strict=True)) > 1e-6, bug.what


def test_the_names_are_fixed():
    assert set(KERNELS) <= set(NAMES)
