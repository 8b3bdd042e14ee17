import pytest
import torch
from helpers import NO_DATA, TOLERANCES, assert_close, normal, numerical_gradient, same_bits, says

import funcnn as fn
from experiments.minimize.problems import MORE_GARBOW_HILLSTROM, generate_function

SIZES = [(1, 0), (1, 3), (2, 0), (2, 1), (2, 5), (7, 1), (7, 4), (7, 30)]
every_size = pytest.mark.parametrize(("dimension", "complexity"), SIZES)
every_problem = pytest.mark.parametrize("name", MORE_GARBOW_HILLSTROM)


def hessian(objective, x):
    return torch.func.hessian(lambda x: objective.value(x, NO_DATA))(x)


@pytest.mark.parametrize("provider", fn.PROVIDERS)
@every_size
def test_every_provider_gives_the_gradient_of_a_generated_function(provider, dimension, complexity):
    objective, x = generate_function(dimension, complexity, seed=1), normal(dimension, seed=2)
    value, grads = fn.PROVIDERS[provider](objective)(x, NO_DATA)
    assert torch.equal(value, objective.value(x, NO_DATA))
    differences = numerical_gradient(lambda x: objective.value(x, NO_DATA), x)
    assert_close(grads, differences, TOLERANCES[provider] + TOLERANCES["central_difference"])
    assert_close(grads, fn.func_grad(objective)(x, NO_DATA)[1], TOLERANCES[provider])


@every_size
def test_its_minimum_is_0_at_the_origin(dimension, complexity):
    objective = generate_function(dimension, complexity, seed=1)
    value, grads = fn.explicit(objective)(torch.zeros(dimension), NO_DATA)
    assert value == 0 and (grads == 0).all()
    assert torch.linalg.eigvalsh(hessian(objective, torch.zeros(dimension))).min() > 0
    assert all(objective.value(3 * normal(dimension, seed=seed), NO_DATA) > 0 for seed in range(50))


@every_size
def test_its_curvature_is_nowhere_above_1_so_descent_with_lr_1_never_goes_up(dimension, complexity):
    objective = generate_function(dimension, complexity, seed=1)
    for seed in range(10):
        assert torch.linalg.eigvalsh(hessian(objective, 3 * normal(dimension, seed=seed))).max() <= 1 + 1e-12
    start = 3 * normal(dimension, seed=3)
    values = [step.value for step in fn.train(fn.explicit(objective), fn.sgd(1.0), start, [NO_DATA] * 50)]
    assert all(after <= before * (1 + 1e-14) + 1e-20 for before, after in zip(values, values[1:], strict=False))


@pytest.mark.parametrize("condition", [1.0, 10.0, 1e4])
@pytest.mark.parametrize("dimension", [2, 9])
def test_without_waves_it_is_a_bowl_of_that_condition(condition, dimension):
    objective = generate_function(dimension, 0, seed=0, condition=condition)
    curvatures = torch.linalg.eigvalsh(hessian(objective, normal(dimension)))
    assert curvatures[-1] / curvatures[0] == pytest.approx(condition, rel=1e-9)
    logarithms = curvatures.log().diff()
    assert torch.allclose(logarithms, logarithms.mean().expand_as(logarithms))  # evenly spaced


@pytest.mark.parametrize("complexity", [0, 1, 3, 6])
def test_the_complexity_is_the_number_of_terms_that_are_not_convex(complexity):
    objective = generate_function(8, complexity, seed=2)
    # The bowl has the same curvature everywhere, a wave along one direction only.
    assert torch.linalg.matrix_rank(hessian(objective, normal(8)) - hessian(objective, normal(8, seed=1))) == complexity
    least = min(torch.linalg.eigvalsh(hessian(objective, normal(8, seed=seed)))[0] for seed in range(30))
    assert (least < 0) == (complexity > 0)


def test_a_lone_wave_makes_three_minima():
    objective = generate_function(1, 1, seed=0)
    x = torch.linspace(-6, 6, 10001)[:, None]
    *_, step = fn.train(fn.explicit(objective), fn.sgd(1.0), x, [NO_DATA] * 300)
    ends = torch.unique((step.params * 1e3).round())
    minima = [end for end in ends if hessian(objective, end[None] / 1e3) > 0]
    assert len(minima) == 3


def test_the_seed_and_nothing_else_draws_it():
    x, wave = normal(5), generate_function(5, 2, seed=7)
    torch.rand(1)
    assert same_bits(wave.value_and_grad(x, NO_DATA), generate_function(5, 2, seed=7).value_and_grad(x, NO_DATA))
    assert wave.value(x, NO_DATA) != generate_function(5, 2, seed=8).value(x, NO_DATA)


OBJECTIVES = {name: (problem.objective, problem.start) for name, problem in MORE_GARBOW_HILLSTROM.items()}
OBJECTIVES["generated"] = generate_function(4, 3, seed=0), normal(4)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_call_changes_nothing_and_gives_the_same_bits_again(name):
    objective, x = OBJECTIVES[name]
    before, drawn = x.clone(), torch.get_rng_state()
    found = objective.value_and_grad(x, NO_DATA)
    assert same_bits(x, before) and torch.equal(torch.get_rng_state(), drawn)
    assert same_bits(objective.value_and_grad(x, NO_DATA), found)
    assert not any(leaf.requires_grad for leaf in found)


POINTWISE = {"generated": generate_function(4, 3, seed=0), "Wood": MORE_GARBOW_HILLSTROM["Wood"].objective}
POINTWISE["blocks"] = MORE_GARBOW_HILLSTROM["Extended Rosenbrock"].objective


@pytest.mark.parametrize("name", POINTWISE)
def test_points_side_by_side_are_summed(name):
    objective, points = POINTWISE[name], normal(2, 3, 40 if name == "blocks" else 4)
    value, grads = objective.value_and_grad(points, NO_DATA)
    alone = [[objective.value_and_grad(x, NO_DATA) for x in row] for row in points]
    assert_close(value, sum(value for row in alone for value, _ in row), 1e-14)
    assert_close(grads, torch.stack([torch.stack([grad for _, grad in row]) for row in alone]), 1e-14)
    assert_close(fn.func_grad(objective)(points, NO_DATA)[1], grads, 1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", POINTWISE)
def test_the_dtype_is_that_of_the_parameters(name, dtype):
    x = normal(40 if name == "blocks" else 4, dtype=dtype)
    assert {leaf.dtype for leaf in POINTWISE[name].value_and_grad(x, NO_DATA)} == {dtype}


# The published values of More, Garbow and Hillstrom: f(start) to the digits given, the minimum, and where it is.
PUBLISHED = {
    "Rosenbrock": (24.2, 1e-12, 0, [1, 1]),
    "Beale": (14.203125, 1e-12, 0, [3, 0.5]),
    "Powell badly scaled": (1.14, 5e-3, 0, [1.098e-5, 9.106]),
    "Helical valley": (2.5e3, 1e-12, 0, [1, 0, 0]),
    "Wood": (19192, 1e-12, 0, [1] * 4),
    "Powell singular": (215, 1e-12, 0, [0] * 4),
    "Extended Rosenbrock": (484, 1e-12, 0, [1] * 40),
    "Extended Powell": (3.23e3, 5e-3, 0, [0] * 60),
    "Penalty I, n = 4": (None, 0, 2.24997e-5, None),
    "Penalty I, n = 10": (None, 0, 7.08765e-5, None),
    "Variably dimensioned": (9.39e10, 5e-3, 0, [1] * 40),
    "Trigonometric": (2.01e-3, 5e-3, 0, None),
}


@every_problem
def test_the_published_values_are_reproduced(name):
    (objective, start, start_value, minimum, minimizer), published = MORE_GARBOW_HILLSTROM[name], PUBLISHED[name]
    assert (start_value, minimum) == published[::2]
    if start_value is not None:
        assert objective.value(start, NO_DATA).item() == pytest.approx(start_value, rel=published[1])
    if published[3] is not None:
        assert minimizer.tolist() == published[3]
        assert objective.value(minimizer, NO_DATA) < 1e-7  # to the digits in which the minimizer is given


def test_no_published_problem_is_missing():
    assert MORE_GARBOW_HILLSTROM.keys() == PUBLISHED.keys()
    sizes = [len(problem.start) for problem in MORE_GARBOW_HILLSTROM.values()]
    assert sizes == [2, 2, 2, 3, 4, 4, 40, 60, 4, 10, 40, 40]


@every_problem
def test_their_gradients_are_those_of_their_values(name):
    objective, start = MORE_GARBOW_HILLSTROM[name][:2]
    for x in (start, start + 0.3 * normal(len(start)), 0.1 * normal(len(start), seed=1)):
        value, grads = fn.explicit(objective)(x, NO_DATA)
        scale = max(1.0, value.item())  # a difference rounds with the value
        assert_close(grads, fn.func_grad(objective)(x, NO_DATA)[1], 1e-13)
        differences = numerical_gradient(lambda x: objective.value(x, NO_DATA), x)
        assert_close(grads / scale, differences / scale, 10 * TOLERANCES["central_difference"])


@pytest.mark.parametrize("provider", fn.PROVIDERS)
@every_problem
def test_every_provider_gives_them(provider, name):
    objective, start = MORE_GARBOW_HILLSTROM[name][:2]
    if (provider, name) == ("complex_step", "Helical valley"):
        with pytest.raises(fn.InputError, match="got atan2 of complex numbers"):
            fn.complex_step(objective)(start, NO_DATA)
        return
    value, grads = fn.PROVIDERS[provider](objective)(start, NO_DATA)
    scale = max(1.0, value.item(), grads.abs().max().item())
    assert_close(grads / scale, objective.value_and_grad(start, NO_DATA)[1] / scale, 100 * TOLERANCES[provider])


@every_problem
def test_bfgs_goes_down_to_the_published_minimum(name):
    objective, w, _, minimum, _ = MORE_GARBOW_HILLSTROM[name]
    for step in fn.train(fn.explicit(objective), fn.bfgs(), w, [NO_DATA] * 200):
        if step.value <= minimum + 1e-9 or step.state.evaluations > 30:  # nothing left but rounding
            break
    if name == "Trigonometric":  # another minimum lies closer
        assert step.value.item() == pytest.approx(3.94627e-6, rel=1e-5)
    else:
        assert minimum - 1e-10 < step.value.item() < minimum + 1e-9


BAD = {
    "no variables": (lambda: generate_function(0, 1, 0), "dimension", "0", "at least 1"),
    "half a variable": (lambda: generate_function(1.5, 1, 0), "dimension", "1.5", "an integer"),
    "fewer than no waves": (lambda: generate_function(2, -1, 0), "complexity", "-1", "at least 0"),
    "half a wave": (lambda: generate_function(2, 0.5, 0), "complexity", "0.5", "an integer"),
    "a negative seed": (lambda: generate_function(2, 1, -1), "seed", "-1", "at least 0"),
    "a generator for a seed": (lambda: generate_function(2, 1, torch.Generator()), "seed", "Generator", "an integer"),
    "a condition below 1": (lambda: generate_function(2, 1, 0, condition=0.5), "condition", "0.5", "at least 1"),
    "too many parameters": (lambda: generate_function(2, 1, 0).value(normal(3), ()), "params", "(3,)", "(..., 2)"),
    "a number for a vector": (lambda: generate_function(1, 1, 0).value(normal(), ()), "params", "()", "(..., 1)"),
    "Wood in 3": (lambda: MORE_GARBOW_HILLSTROM["Wood"].objective.value(normal(3), ()), "params", "(3,)", "(..., 4)"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_function_and_what_does_not_fit_is_refused(name):
    call, *message = BAD[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)
