import math

import pytest
import torch
from helpers import NO_DATA, assert_close, classifier, normal, quadratic, same_bits
from hypothesis import given
from hypothesis import strategies as st

import funcnn as fn
from experiments.minimize.problems import MORE_GARBOW_HILLSTROM, generate_function

seeds = st.integers(0, 10**6)


def walk(objective, w, steps, optimizer=None, provider=fn.explicit):
    return list(fn.train(provider(objective), optimizer or fn.bfgs(), w, [NO_DATA] * steps))


def rough(seed):
    """A function with several minima, and a start."""
    return generate_function(4, 3, seed=seed, condition=20.0), 2 * normal(4, seed=seed)


@given(seed=seeds, decrease=st.sampled_from([1e-4, 0.1]), curvature=st.sampled_from([0.2, 0.9]), lr=st.floats(0.01, 100))
def test_both_conditions_of_wolfe_hold_after_every_step(seed, decrease, curvature, lr):
    objective, w = rough(seed)
    h = torch.eye(4)
    for step in walk(objective, w, 5, fn.bfgs(lr, decrease, curvature)):
        (before, g), (after, g_there) = (objective.value_and_grad(x, NO_DATA) for x in (w, step.params))
        p = (step.params - w) / step.state.alpha
        assert step.state.alpha > 0 and step.value == before
        assert after <= before + decrease * step.state.alpha * g @ p + 1e-15
        assert g_there @ p >= curvature * (g @ p) - 1e-12
        if step.state.updates > 1:
            assert_close(p, -h @ g, 1e-9)
        w, h = step.params, step.state.inverse_hessian


@given(seed=seeds)
def test_h_satisfies_the_secant_equation_and_stays_symmetric_and_positive(seed):
    objective, w = rough(seed)
    for step in walk(objective, w, 8):
        h, s = step.state.inverse_hessian, step.params - w
        y = objective.value_and_grad(step.params, NO_DATA)[1] - objective.value_and_grad(w, NO_DATA)[1]
        assert (h @ y - s).norm() <= 1e-6 * s.norm()
        assert (h - h.T).abs().max() <= 1e-12 * h.abs().max() and torch.linalg.eigvalsh(h).min() > 0
        w = step.params


@given(seed=seeds)
def test_an_update_is_the_formula_of_the_textbook(seed):
    objective, w = rough(seed)
    first, second = walk(objective, w, 2)
    s, (g0, g1) = second.params - first.params, (objective.value_and_grad(x.params, NO_DATA)[1] for x in (first, second))
    y, h = g1 - g0, first.state.inverse_hessian
    left = torch.eye(4) - torch.outer(s, y) / (s @ y)
    assert_close(second.state.inverse_hessian, left @ h @ left.T + torch.outer(s, s) / (s @ y), 1e-9)


def test_on_a_quadratic_h_becomes_the_inverse_of_the_hessian():
    curvatures = torch.tensor([1.0, 3.0, 10.0, 40.0])
    *_, last = walk(quadratic(curvatures), normal(4), 18, fn.bfgs(curvature=0.1), fn.func_grad)
    assert last.value < 1e-20
    assert_close(last.state.inverse_hessian, torch.diag(1 / curvatures), 2e-3)


def test_convergence_is_superlinear_where_gradient_descent_crawls():
    objective, start = MORE_GARBOW_HILLSTROM["Rosenbrock"][:2]
    values = [step.value.item() for step in walk(objective, start, 45)]
    assert values[-1] < 1e-20
    tail = [value for value in values if 1e-26 < value < 1e-2]
    ratios = [after / before for before, after in zip(tail, tail[1:], strict=False)]
    assert min(ratios[-3:]) < 1e-3  # a linear rate would repeat itself
    crawling = list(fn.train(fn.explicit(objective), fn.line_search(), start, [NO_DATA] * 200))
    assert crawling[-1].value > 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_turned_axes_change_nothing(seed):
    objective, w = rough(seed)
    q, _ = torch.linalg.qr(normal(4, 4, seed=seed))
    turned = fn.Objective(lambda x, batch: objective.value(q @ x, batch))
    for step, other in zip(walk(objective, w, 6), walk(turned, q.T @ w, 6, provider=fn.func_grad), strict=True):
        assert_close(q @ other.params, step.params, 1e-9)


def test_a_tree_is_the_vector_of_all_its_entries():
    objective, w = rough(0)

    def value(tree, batch):
        return objective.value(torch.cat([tree["a"][0].flatten(), tree["b"]]), batch)

    tree = {"b": w[2:], "a": (w[:2].reshape(1, 2), ())}
    for step, other in zip(walk(objective, w, 6), walk(fn.Objective(value), tree, 6, provider=fn.func_grad), strict=True):
        assert_close(torch.cat([other.params["a"][0].flatten(), other.params["b"]]), step.params, 1e-12)
        assert other.params["a"][0].shape == (1, 2)


def test_a_network_is_fitted_in_fewer_evaluations_than_by_gradient_descent():
    objective, params, batch = classifier((3, 5, 2), count=20)
    spent = {}
    for name, optimizer in (("bfgs", fn.bfgs()), ("line_search", fn.line_search())):
        spent[name] = 0
        for step in fn.train(fn.explicit(objective), optimizer, params, [batch] * 500):
            spent[name] += 1 + step.state.evaluations
            if step.value < 0.1:
                break
        assert step.value < 0.1
    assert 3 * spent["bfgs"] < spent["line_search"]


def test_every_trial_is_one_value_and_gradient():
    asked = []

    def value_and_grad(w, batch):
        asked.append(w)
        return 0.5 * (w * w).sum(), w

    def no_value(w, batch):
        raise AssertionError("asked for a value alone")

    before = 0
    for step in fn.train(fn.StepFn(no_value, value_and_grad), fn.bfgs(), normal(3), [NO_DATA] * 4):
        assert len(asked) - before == 1 + step.state.evaluations
        before = len(asked)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_step_costs_more_than_allowed_and_none_goes_up(limit):
    for lr in (1e-6, 1.0, 1e6):
        objective, w = rough(1)
        steps = walk(objective, w, 8, fn.bfgs(lr, max_evaluations=limit))
        values = [step.value.item() for step in steps]
        assert values == sorted(values, reverse=True) and all(step.state.evaluations <= limit for step in steps)


def test_a_stationary_point_stays_where_it_is():
    for step in walk(quadratic(torch.ones(3)), torch.zeros(3), 2, provider=fn.func_grad):
        assert torch.equal(step.params, torch.zeros(3)) and step.value == 0 and step.state.updates == 0


def test_uphill_is_never_gone_even_where_the_gradient_lies():
    liar = fn.Objective(lambda w, batch: (w * w).sum(), lambda w, batch: ((w * w).sum(), -2 * w))
    (step,) = walk(liar, torch.ones(2), 1)
    assert (step.params - 1).abs().max() < 1e-12


@pytest.mark.parametrize("edge", [math.nan, math.inf])
def test_steps_over_the_edge_of_the_domain_are_shortened(edge):
    objective = fn.Objective(lambda w, batch: torch.where(w > 0, w - w.clamp(min=1e-300).log(), edge).sum())
    steps = walk(objective, torch.tensor([3.0]), 20, fn.bfgs(lr=1e3), fn.func_grad)
    values = [step.value.item() for step in steps]
    assert values == sorted(values, reverse=True) and all(0 < step.state.alpha < 1e3 for step in steps)
    assert abs(steps[-1].params.item() - 1) < 0.05
    (step,) = walk(objective, torch.tensor([-1.0]), 1, provider=fn.func_grad)
    assert same_bits(step.params, torch.tensor([-1.0])) and step.state.updates == 0


def test_minibatches_compare_gradients_of_the_same_batch():
    objective, params, (inputs, targets) = classifier((3, 2), count=40)
    batches = [(inputs[i : i + 10], targets[i : i + 10]) for i in (0, 10, 20, 30)]
    for step, batch in zip(fn.train(fn.explicit(objective), fn.bfgs(), params, batches), batches, strict=True):
        (w, _), (moved, _) = fn.tree.ravel(params), fn.tree.ravel(step.params)
        g, there = (fn.tree.ravel(fn.explicit(objective)(p, batch)[1])[0] for p in (params, step.params))
        assert_close(step.state.inverse_hessian @ (there - g), moved - w, 1e-9)
        params = step.params
