"""Gradients of random directions: their means, how they spread, and that whoever calls them draws the same."""

import math
from functools import partial

import pytest
import torch
from helpers import NO_DATA, assert_close, classifier, labels, normal, same_bits, seeded
from tables import LAYERS, layer_scene

import funcnn as fn

by_differences = partial(fn.forward_gradient, by="differences")
PROVIDERS = {
    "spsa": fn.spsa,
    "forward_gradient": fn.forward_gradient,
    "forward_gradient, by differences": by_differences,
    "evolution": fn.evolution,
}
every_provider = pytest.mark.parametrize("make", PROVIDERS.values(), ids=PROVIDERS)
SLOPE = normal(12)
LINEAR = fn.Objective(lambda w, batch: SLOPE @ w)  # whose slopes by differences are those by derivatives
CUBES = fn.Objective(lambda w, batch: (w**3).sum())


def estimates(step_fn, params, count):
    """What so many calls estimate, (count, d)."""
    return torch.stack([fn.tree.ravel(step_fn(params, NO_DATA)[1])[0] for _ in range(count)])


def assert_mean(numbers, expected):
    """The mean of independent numbers is the expected one, to five of its standard deviations."""
    deviation = numbers.std(0) / math.sqrt(len(numbers))
    assert ((numbers.mean(0) - expected).abs() <= 5 * deviation).all(), (numbers.mean(0), expected, deviation)


@every_provider
def test_the_mean_of_the_estimates_is_the_gradient(make):
    assert_mean(estimates(make(LINEAR, seeded()), normal(12, seed=1), 300), SLOPE)


# The mean of |g|^2 in units of |gradient|^2, for d parameters and K directions.
SQUARES = {
    "spsa": (fn.spsa, False, lambda d, k: 1 + (d - 1) / k),
    "forward_gradient": (fn.forward_gradient, False, lambda d, k: 1 + (d + 1) / k),
    "forward_gradient, by differences": (by_differences, False, lambda d, k: 1 + (d + 1) / k),
    "evolution": (fn.evolution, False, lambda d, k: 1 + (d + 1) / k),
    "spsa, orthogonal": (fn.spsa, True, lambda d, k: d / k),
    "forward_gradient, orthogonal": (fn.forward_gradient, True, lambda d, k: d / k),
    "evolution, orthogonal": (fn.evolution, True, lambda d, k: d / k),
}


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize(("make", "orthogonal", "law"), SQUARES.values(), ids=SQUARES)
def test_the_square_of_an_estimate_follows_its_law(make, orthogonal, law, samples):
    step_fn = make(LINEAR, seeded(samples), samples=samples, orthogonal=orthogonal)
    squares = estimates(step_fn, normal(12, seed=1), 300).square().sum(1) / SLOPE.square().sum()
    assert_mean(squares, law(12, samples))


@every_provider
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_as_many_orthogonal_directions_as_parameters_give_the_gradient_itself(make, dtype):
    layer = fn.mlp([3, 4, 2], fn.tanh)
    params, batch = layer.init(seeded(), dtype=dtype), (normal(5, 3, dtype=dtype), labels(5, 2))
    objective = fn.supervised(layer, fn.softmax_cross_entropy())
    how = {"sigma": torch.finfo(dtype).eps ** (1 / 3)} if make is fn.evolution else {}
    step_fn = make(objective, seeded(), samples=26, orthogonal=True, **how)
    value, grads = step_fn(params, batch)
    assert same_bits(value, objective.value(params, batch))
    assert_close(grads, fn.explicit(objective)(params, batch)[1], 100 * torch.finfo(dtype).eps ** (2 / 3))


@pytest.mark.parametrize("name", [name for name in LAYERS if fn.tree.leaves(LAYERS[name].layer.init(seeded()))])
def test_every_layer_has_a_forward_mode(name):
    layer, params, *batch = layer_scene(name)
    objective, count = fn.supervised(layer, fn.half_squared_error()), fn.tree.ravel(params)[0].numel()
    found = fn.forward_gradient(objective, seeded(), samples=count, orthogonal=True)(params, tuple(batch))
    assert_close(found, fn.func_grad(objective)(params, tuple(batch)), 1e-12)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
@every_provider
def test_the_grad_mode_of_the_caller_does_not_matter(make, mode):
    objective, params, batch = classifier()
    with mode():
        inside = make(objective, seeded(), samples=2)(params, batch)
    assert same_bits(inside, make(objective, seeded(), samples=2)(params, batch))


# The fourth moment of an entry of a direction, which is the bias of g_i on the sum of cubes in units of c^2.
BIASES = {
    "spsa": (lambda c: fn.spsa(CUBES, seeded(), step=c), 1),
    "evolution": (lambda c: fn.evolution(CUBES, seeded(), sigma=c), 3),
}


@pytest.mark.parametrize("c", [0.1, 0.5])
@pytest.mark.parametrize(("make", "fourth"), BIASES.values(), ids=BIASES)
def test_the_bias_of_a_two_sided_difference_is_that_of_its_third_derivatives(make, fourth, c):
    w = torch.tensor([0.0, 0.01, -0.02])
    assert_mean(estimates(make(c), w, 500) - 3 * w**2, fourth * c**2 * torch.ones(3))


def test_the_half_step_of_a_sum_of_cubes_is_found_to_the_last_digit_in_one_dimension():
    w = torch.tensor([0.5])
    _, gradient = fn.spsa(CUBES, seeded(), step=0.25)(w, NO_DATA)
    assert_close(gradient, 3 * w**2 + 0.25**2, 1e-15)


@every_provider
def test_one_generator_state_is_one_draw(make):
    objective, params, batch = classifier()
    first, again, other = (make(objective, seeded(seed), samples=3)(params, batch) for seed in (0, 0, 1))
    assert same_bits(first, again) and not same_bits(first, other)
    step_fn = make(objective, seeded(), samples=3)
    assert same_bits(step_fn(params, batch), first) and not same_bits(step_fn(params, batch), first)


# Arithmetic without rounding, whatever order it is done in: bits tell whether the draw is the same.
WHOLE = fn.Objective(lambda w, batch: 2 * w[0] + 0 * batch.sum(), None)
EXACT = {
    "spsa": lambda generator: fn.spsa(WHOLE, generator, samples=4, step=0.5),
    "forward_gradient": lambda generator: fn.forward_gradient(WHOLE, generator),
}


@pytest.mark.parametrize("make", EXACT.values(), ids=EXACT)
def test_an_eager_step_a_compiled_one_and_gradients_of_samples_draw_the_same_bits(make):
    w, batch, optimizer = torch.zeros(6), torch.ones(3), fn.sgd(1.0)
    generators = [seeded(5) for _ in range(4)]
    eager, whole, scanned, alone = map(make, generators)
    steps = [step.params for step in fn.train(eager, optimizer, w, [batch] * 3)]
    compiled = [step.params for step in fn.train(whole, fn.compiled(optimizer), w, [batch] * 3)]
    assert same_bits(steps, compiled) and not same_bits(steps[0], steps[1] - steps[0])
    assert same_bits(fn.compiled_scan(scanned, optimizer)(w, None, torch.ones(3, 3)).params, steps[-1])
    _, first = fn.per_sample(alone)(w, batch)
    assert same_bits(first, -steps[0].expand(3, 6))
    for _ in range(2):
        fn.per_sample(alone)(w, batch)
    assert len({generator.get_state().numpy().tobytes() for generator in generators}) == 1


@pytest.mark.parametrize(("make", "orthogonal"), [(fn.spsa, True), (fn.forward_gradient, False), (by_differences, False)])
def test_a_compiled_training_is_the_eager_one(make, orthogonal):
    objective, params, batch = classifier()
    ends = []
    for optimizer in (fn.sgd(0.05), fn.compiled(fn.sgd(0.05))):
        step_fn = make(objective, seeded(), samples=2, orthogonal=orthogonal)
        *_, last = fn.train(step_fn, optimizer, params, [batch] * 3)
        ends.append(last.params)
    assert_close(*ends, 1e-9)


@every_provider
def test_the_mean_of_the_samples_estimates_is_that_of_the_batch(make):
    objective, params, batch = classifier()
    values, grads = fn.per_sample(make(objective, seeded(), samples=3))(params, batch)
    value, mean = make(objective, seeded(), samples=3)(params, batch)
    assert_close(values.mean(), value, 1e-14)
    assert_close(fn.tree.map(lambda leaf: leaf.mean(0), grads), mean, 1e-9)
    norms = fn.per_sample_norms(make(objective, seeded(), samples=3))(params, batch)
    assert_close(
        norms, torch.stack([leaf.flatten(1).square().sum(1) for leaf in fn.tree.leaves(grads)]).sum(0).sqrt(), 1e-12
    )


@every_provider
def test_all_evaluations_of_a_call_have_one_mask(make):
    network = fn.serial(fn.dense(3, 8), fn.dropout(0.5), fn.dense(8, 2))
    objective = fn.supervised(fn.with_dropout(network), fn.softmax_cross_entropy())
    params, batch = network.init(seeded()), (fn.with_seeds(normal(6, 3), seeded(1)), labels(6, 2))
    how = {"sigma": 1e-5} if make is fn.evolution else {}
    _, grads = make(objective, seeded(), samples=50, orthogonal=True, **how)(params, batch)
    assert_close(grads, fn.explicit(objective)(params, batch)[1], 1e-8)


@every_provider
def test_frozen_parameters_do_not_move(make):
    objective, params, batch = classifier()
    seen = []

    def value(params, batch):
        seen.append(params[0]["w"])
        return objective.value(params, batch)

    optimizer = fn.masked(fn.sgd(1.0), (False, True, True))
    how = {"sigma": 1e-5} if make is fn.evolution else {}
    step_fn = make(fn.Objective(value), seeded(), samples=10, orthogonal=True, **how)  # all of the second layer's
    *_, last = fn.train(step_fn, optimizer, params, [batch])
    assert all(torch.equal(w, params[0]["w"]) for w in seen) and same_bits(last.params[0], params[0])
    *_, expected = fn.train(fn.explicit(objective), optimizer, params, [batch])
    assert_close(last.params, expected.params, 1e-8)


def test_what_is_compiled_freezes_what_an_eager_step_freezes_and_draws_the_same():
    w, ends = (torch.zeros(3), torch.zeros(2)), []
    whole = fn.Objective(lambda w, batch: w[0].sum() + 2 * w[1][0] + 0 * batch.sum())
    for change in (lambda optimizer: optimizer, fn.compiled):
        optimizer = change(fn.masked(fn.sgd(1.0), (False, True)))
        *_, last = fn.train(fn.spsa(whole, seeded(), step=0.5), optimizer, w, [torch.ones(1)] * 3)
        ends.append(last.params)
    assert same_bits(*ends) and not ends[0][0].any() and ends[0][1][0] == -6


@every_provider
@pytest.mark.parametrize("samples", [1, 4])
def test_what_cannot_be_vmapped_is_evaluated_one_by_one(make, samples):
    def value(w, batch):
        return (w * w).sum() if w.sum().item() < 1e9 else w.sum()

    w = normal(4)
    vmapped = make(fn.Objective(lambda w, batch: (w * w).sum()), seeded(), samples=samples)
    assert_close(make(fn.Objective(value), seeded(), samples=samples)(w, NO_DATA), vmapped(w, NO_DATA), 1e-9)


@every_provider
@pytest.mark.parametrize("params", [(), (torch.zeros(0),), {"w": normal(3), "none": normal(0, 2)}, normal()])
def test_trees_of_any_size(make, params):
    objective = fn.Objective(lambda params, x: x.mean() + sum(leaf.square().sum() for leaf in fn.tree.leaves(params)))
    for orthogonal in (False, True):
        value, grads = make(objective, seeded(), orthogonal=orthogonal and params != ())(params, torch.ones(2))
        assert_close(value, objective.value(params, torch.ones(2)), 1e-15)
        assert fn.tree.paths(grads) == fn.tree.paths(params)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@every_provider
def test_gradients_have_the_dtypes_of_their_parameters(make, dtype):
    params = {"low": normal(3, dtype=dtype), "high": normal(2)}
    objective = fn.Objective(lambda p, x: p["low"].square().sum().double() + p["high"].square().sum())
    for orthogonal in (False, True):
        _, grads = make(objective, seeded(), samples=2, orthogonal=orthogonal)(params, NO_DATA)
        assert fn.tree.map(lambda leaf: leaf.dtype, grads) == {"low": dtype, "high": torch.float64}


def test_more_orthogonal_directions_than_parameters_are_refused():
    with pytest.raises(fn.InputError, match="samples: got 13, needs at most 12 orthogonal directions"):
        fn.spsa(LINEAR, seeded(), samples=13, orthogonal=True)(normal(12), NO_DATA)


@pytest.mark.parametrize(
    ("make", "place"),
    [(partial(fn.spsa, step=1e-20), "step"), (partial(fn.evolution, sigma=1e-20), "sigma")],
    ids=["spsa", "evolution"],
)
def test_a_step_that_moves_nothing_is_refused(make, place):
    with pytest.raises(fn.InputError, match=f"{place}: got 1e-20, needs a step that moves every parameter"):
        make(LINEAR, seeded())(normal(12), NO_DATA)


class Doubled(torch.autograd.Function):
    """A function with a backward and no forward mode."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, dy):
        return 2 * dy


def test_what_has_no_forward_mode_is_told_of_differences():
    objective = fn.Objective(lambda w, batch: Doubled.apply(w).sum())
    with pytest.raises(fn.InputError, match='by="differences" needs none'):
        fn.forward_gradient(objective, seeded())(normal(3), NO_DATA)
    _, grads = by_differences(objective, seeded())(normal(3), NO_DATA)
    expected = fn.forward_gradient(fn.Objective(lambda w, batch: 2 * w.sum()), seeded())(normal(3), NO_DATA)[1]
    assert_close(grads, expected, 1e-9)


def test_a_draw_inside_a_map_or_a_trace_is_refused():
    step_fn = fn.spsa(LINEAR, seeded())
    hidden = fn.Optimizer(lambda params: (), lambda at, params, state: fn.Step(step_fn(params, at.batch)[1], (), SLOPE[0]))
    calls = [
        lambda: torch.func.vmap(lambda w: step_fn(w, NO_DATA)[1])(normal(2, 12)),
        lambda: next(fn.train(fn.explicit(fn.l2(1.0)), fn.compiled(hidden), normal(12), [NO_DATA])),
    ]
    for call in calls:
        with pytest.raises(fn.InputError, match="generator: got a draw under torch.func.vmap, or in a step that is traced"):
            call()


@every_provider
def test_a_step_function_says_what_it_is(make):
    shown = repr(make(fn.supervised(fn.mlp([4, 3]), fn.softmax_cross_entropy()), seeded()))
    assert shown.endswith("(supervised(serial(dense(4, 3)), softmax_cross_entropy()))") and "0x" not in shown
