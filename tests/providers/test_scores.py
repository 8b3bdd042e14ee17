"""The score function: its mean and its variance where both are known, beside the derivative through the sample."""

import pytest
import torch
from helpers import NO_DATA, assert_close, normal, same_bits, seeded
from numpy.polynomial.hermite_e import hermegauss
from torch.distributions import Bernoulli, Categorical, Normal

import funcnn as fn


def gaussian(cost):
    return fn.Expectation(
        lambda generator: torch.randn((), generator=generator),
        lambda mean, batch, z: mean + z,
        lambda mean, batch, x: Normal(mean, 1.0, validate_args=False).log_prob(x),
        cost,
    )


SQUARE = gaussian(lambda x, batch: x**2)
ONE = torch.tensor(1.0, dtype=torch.float64)


def estimates(step_fn, params, count):
    return torch.stack([fn.tree.ravel(step_fn(params, NO_DATA)[1])[0] for _ in range(count)])


def test_the_square_of_a_normal_variable_has_the_variance_of_the_books():
    nodes, weights = map(torch.from_numpy, hermegauss(10))  # exact for polynomials of z up to degree 19
    weights, noise = weights / weights.sum(), iter(nodes)
    step_fn = fn.score_function(SQUARE._replace(noise=lambda generator: next(noise)), seeded())
    through = fn.Objective(lambda w, z: SQUARE.cost(SQUARE.sample(w, (), z), ()).mean())
    _, slopes = fn.per_sample(fn.func_grad(through))(ONE, nodes)
    for found, variance in ((estimates(step_fn, ONE, 10)[:, 0], 30), (slopes, 4)):
        mean = weights @ found
        assert_close((mean, weights @ (found - mean) ** 2), (2 * ONE, variance * ONE), 1e-12)


@pytest.mark.parametrize("samples", [1, 4])
def test_the_variance_is_divided_by_the_samples(samples):
    step_fn = fn.score_function(gaussian(lambda x, batch: x), seeded(), samples=samples)  # z^2 at 0, of variance 2
    squares = estimates(step_fn, 0 * ONE, 400)[:, 0] ** 2
    assert abs(squares.mean() - (1 + 2 / samples)) < 5 * squares.std() / 400**0.5


COSTS = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def largest(logits, batch, gumbel):
    return (logits + gumbel).argmax()


CHOICE = fn.Expectation(
    lambda generator: -(-torch.rand(3, generator=generator).log()).log(),
    largest,
    lambda logits, batch, x: Categorical(logits=logits, validate_args=False).log_prob(x),
    lambda x, batch: COSTS[x],
)
COIN = fn.Expectation(
    lambda generator: torch.rand(2, generator=generator),
    lambda p, batch, uniform: {"heads": (uniform < p["heads"].sigmoid()).double()},
    lambda p, batch, x: Bernoulli(logits=p["heads"], validate_args=False).log_prob(x["heads"]).sum(),
    lambda x, batch: (x["heads"][0] > x["heads"][1]).double(),  # a step, which has no derivative
)
# name: (an expectation, parameters, the expectation as a function of these)
KNOWN = {
    "a normal variable": (SQUARE, ONE, lambda w: w**2 + 1),
    "a choice": (CHOICE, normal(3), lambda logits: logits.softmax(0) @ COSTS),
    "two coins": (
        COIN,
        {"heads": normal(2)},
        lambda p: p["heads"][0].sigmoid() * (1 - p["heads"][1].sigmoid()),
    ),
}


@pytest.mark.parametrize(("expectation", "params", "mean"), KNOWN.values(), ids=KNOWN)
def test_the_mean_of_the_estimates_is_the_gradient_of_the_expectation(expectation, params, mean):
    step_fn = fn.score_function(expectation, seeded(), samples=50)
    found = estimates(step_fn, params, 100)
    truth, _ = fn.tree.ravel(torch.func.grad(mean)(params))
    assert ((found.mean(0) - truth).abs() < 5 * found.std(0) / 100**0.5).all()
    values = torch.stack([step_fn.value(params, NO_DATA) for _ in range(100)])
    assert (values.mean() - mean(params)).abs() < 5 * values.std() / 100**0.5


def test_a_value_and_its_gradient_are_of_the_same_samples():
    value, gradient = fn.score_function(SQUARE, seeded())(ONE, NO_DATA)
    x = value.sqrt() * torch.tensor([1.0, -1.0])
    assert (gradient - value * (x - ONE)).abs().min() < 1e-12


def test_eager_compiled_and_of_samples_the_draw_is_one():
    cost = gaussian(lambda x, batch: (x - batch.mean()).square())
    ends, states = [], []
    for optimizer in (fn.nesterov(0.01), fn.compiled(fn.nesterov(0.01))):
        generator = seeded()
        steps = list(fn.train(fn.score_function(cost, generator, samples=3), optimizer, ONE, [torch.ones(2)] * 4))
        ends.append([step.params for step in steps])
        states.append(generator.get_state())
    assert_close(ends[0], ends[1], 1e-14)
    assert same_bits(*states)
    values, grads = fn.per_sample(fn.score_function(cost, seeded(), samples=3))(ONE, torch.tensor([1.0, 1.0, 5.0]))
    expected = fn.score_function(cost, seeded(), samples=3)(ONE, torch.ones(1))
    assert_close((values[:2], grads[:2]), tuple(x.expand(2) for x in expected), 1e-14)


WRONG = {
    "a function": (lambda x, batch: x, "an Expectation"),
    "a cost of each sample": (SQUARE._replace(cost=lambda x, batch: x[None]), "a scalar"),
    "a density of each part": (SQUARE._replace(log_density=lambda w, batch, x: (w - x)[None]), "a scalar"),
    "a sample that is a number": (SQUARE._replace(sample=lambda w, batch, z: 1.0), "a dense tensor"),
    "noise that is nothing": (SQUARE._replace(noise=lambda generator: ()), "a dense tensor"),
    "noise of no arguments": (SQUARE._replace(noise=lambda: ONE), "a function of 1 argument"),
    "no cost": (SQUARE._replace(cost=None), "a function"),
}


@pytest.mark.parametrize(("expectation", "needed"), WRONG.values(), ids=WRONG)
@pytest.mark.usefixtures("as_users_run_it")
def test_what_is_no_expectation_is_refused(expectation, needed):
    with pytest.raises(fn.InputError, match=needed):
        fn.score_function(expectation, seeded())(ONE, NO_DATA)


def test_a_choice_for_every_row_of_a_batch_learns_by_its_own_cost():
    x, targets = normal(6, 3), torch.arange(6) % 2
    params = normal(3, 2, seed=1)
    choice = fn.Expectation(
        lambda generator: -(-torch.rand(2, generator=generator).log()).log(),
        lambda w, batch, gumbel: (batch[0] @ w + gumbel).argmax(1),
        lambda w, batch, chosen: (batch[0] @ w).log_softmax(1).gather(1, chosen[:, None]).sum(),
        lambda chosen, batch: (chosen != batch[1]).double().mean(),
    )
    truth = fn.func_grad(fn.Objective(lambda w, batch: 1 - (batch[0] @ w).softmax(1).gather(1, batch[1][:, None]).mean()))
    each = fn.per_sample(fn.score_function(choice, seeded(), samples=20_000))
    _, grads = each(params, (x, targets))
    _, expected = fn.per_sample(truth)(params, (x, targets))
    assert_close(grads, expected, 0.05)
