import math

import pytest
import torch
from helpers import EPS, NO_DATA, assert_close, classifier, normal, quadratic, same_bits
from hypothesis import given
from hypothesis import strategies as st

import funcnn as fn


class Counting:
    """An objective that is differentiated by torch and counts how often it is asked for what."""

    def __init__(self, function):
        self.values = self.gradients = 0
        self.function = function
        self.step_fn = fn.StepFn(self.value, self.value_and_grad)

    def value(self, params, batch):
        self.values += 1
        return self.function(params)

    def value_and_grad(self, params, batch):
        self.gradients += 1
        grads, value = torch.func.grad_and_value(self.function)(params)
        return value, grads


def bowl(seed, size=4, condition=20.0):
    """A quadratic with random curvatures, and a random start."""
    curvatures = condition ** torch.rand(size, generator=torch.Generator().manual_seed(seed))
    return curvatures, normal(size, seed=seed + 1)


def assert_armijo(objective, batch, optimizer, params, steps, decrease):
    step_fn = fn.func_grad(objective)
    for step in fn.train(step_fn, optimizer, params, [batch] * steps):
        value, grads = step_fn(params, batch)
        bound = value - decrease * step.state.alpha * fn.tree.dot(grads, grads)
        assert step.state.alpha > 0 and step_fn.value(step.params, batch) <= bound
        assert same_bits(step.params, fn.tree.add_scaled(params, -step.state.alpha, grads))
        params = step.params


seeds = st.integers(0, 10**6)
settings = {"lr": st.floats(0.01, 100), "shrink": st.floats(0.1, 0.9), "decrease": st.sampled_from([1e-4, 0.1, 0.5])}


@given(seed=seeds, **settings)
def test_armijo_holds_after_every_step_on_quadratics(seed, lr, shrink, decrease):
    curvatures, w = bowl(seed)
    optimizer = fn.line_search(lr, shrink, decrease, max_evaluations=200)
    assert_armijo(quadratic(curvatures), torch.zeros(1), optimizer, w, 4, decrease)


@given(seed=seeds, **settings)
def test_armijo_holds_after_every_step_on_networks(seed, lr, shrink, decrease):
    objective, params, batch = classifier(seed=seed)
    optimizer = fn.line_search(lr, shrink, decrease, max_evaluations=200)
    assert_armijo(objective, batch, optimizer, params, 4, decrease)


@given(seed=seeds, lr=st.floats(0.5, 100), shrink=st.floats(0.1, 0.9))
def test_backtracking_takes_the_first_step_that_is_good_enough(seed, lr, shrink):
    curvatures, w = bowl(seed)
    objective = quadratic(curvatures)
    (step,) = fn.train(fn.func_grad(objective), fn.line_search(lr, shrink), w, [torch.zeros(1)])
    assert math.isclose(step.state.alpha, lr * shrink ** (step.state.evaluations - 1), rel_tol=1e-12)
    if step.state.evaluations > 1:
        grad, longer = curvatures * w, step.state.alpha / shrink
        refused = objective.value(w - longer * grad, None)
        assert refused > objective.value(w, None) - 1e-4 * longer * grad @ grad


@given(seed=seeds, lr=st.floats(1e-3, 1e3))
def test_the_exact_search_finds_the_minimum_along_the_gradient_of_a_quadratic(seed, lr):
    curvatures, w = bowl(seed)
    grad = curvatures * w
    (step,) = fn.train(fn.func_grad(quadratic(curvatures)), fn.exact_line_search(lr), w, [torch.zeros(1)])
    assert math.isclose(step.state.alpha, (grad @ grad / (grad @ (curvatures * grad))).item(), rel_tol=1e-6)
    assert_close(step.params, w - step.state.alpha * grad, 1e-15)


def test_successive_gradients_of_exact_steepest_descent_are_orthogonal():
    curvatures, w = bowl(0)
    for step in fn.train(fn.func_grad(quadratic(curvatures)), fn.exact_line_search(), w, [torch.zeros(1)] * 5):
        before, after = curvatures * w, curvatures * step.params
        assert abs(before @ after) < 1e-5 * before.norm() * after.norm()
        w = step.params


BOTH = {"line_search": fn.line_search, "exact_line_search": fn.exact_line_search}
both = pytest.mark.parametrize("search", BOTH.values(), ids=BOTH)


@both
def test_a_stationary_point_stays_where_it_is(search):
    w = torch.zeros(3)
    for step in fn.train(fn.func_grad(quadratic(torch.ones(3))), search(), w, [NO_DATA] * 2):
        assert torch.equal(step.params, w) and step.value == 0


@both
def test_uphill_is_never_gone_even_where_the_gradient_lies(search):
    liar = fn.Objective(lambda w, batch: (w * w).sum(), lambda w, batch: ((w * w).sum(), -2 * w))
    (step,) = fn.train(fn.explicit(liar), search(), torch.ones(2), [torch.zeros(1)])
    assert torch.equal(step.params, torch.ones(2)) and step.state.alpha < EPS


CLIFFS = {
    "NaN beyond 0": lambda w: torch.where(w > 0, w - w.clamp(min=1e-300).log(), math.nan).sum(),
    "infinite beyond 0": lambda w: torch.where(w > 0, w - w.clamp(min=1e-300).log(), math.inf).sum(),
    "NaN beyond -50": lambda w: torch.where(w > -50, (w - 1).square(), torch.nan).sum(),
}


@both
@pytest.mark.parametrize("cliff", CLIFFS)
def test_steps_over_the_edge_of_the_domain_are_shortened(search, cliff):
    steps = list(fn.train(Counting(lambda w: CLIFFS[cliff](w)).step_fn, search(1000.0), torch.tensor([3.0]), [NO_DATA] * 30))
    values = [step.value.item() for step in steps]
    assert all(map(math.isfinite, values)) and values == sorted(values, reverse=True)
    assert 0 < steps[0].state.alpha < 1000 and abs(steps[-1].params.item() - 1) < 0.5


@both
@pytest.mark.parametrize("start", [math.nan, math.inf])
def test_from_a_point_without_a_finite_loss_there_is_no_step(search, start):
    w = torch.tensor([start])
    (step,) = fn.train(Counting(lambda w: (w * w).sum()).step_fn, search(), w, [NO_DATA])
    assert torch.equal(step.params.isnan(), w.isnan()) and step.state.alpha == 0


@both
@given(seed=seeds, lr=st.floats(1e-3, 1e3))
def test_a_step_costs_one_gradient_and_the_values_it_reports(search, seed, lr):
    curvatures, w = bowl(seed)
    counting = Counting(lambda w: 0.5 * (curvatures * w * w).sum())
    before = 0
    for gradients, step in enumerate(fn.train(counting.step_fn, search(lr), w, [NO_DATA] * 4), start=1):
        assert counting.gradients == gradients
        assert counting.values - before == step.state.evaluations
        before = counting.values


@both
@pytest.mark.parametrize("limit", [1, 2, 5, 10])
def test_no_step_costs_more_values_than_allowed(search, limit):
    counting = Counting(lambda w: (w * w).sum())
    for lr in (1e-6, 1.0, 1e6):
        counting.values = 0
        list(fn.train(counting.step_fn, search(lr, max_evaluations=limit), torch.ones(3), [NO_DATA]))
        assert counting.values <= limit


def test_the_search_goes_on_from_the_step_it_found_last():
    curvatures, w = torch.tensor([100.0, 101.0]), torch.ones(2)
    first, second = fn.train(fn.func_grad(quadratic(curvatures)), fn.exact_line_search(1e6), w, [torch.zeros(1)] * 2)
    assert second.state.evaluations < first.state.evaluations
