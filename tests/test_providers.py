from typing import NamedTuple

import pytest
import torch
from helpers import TOLERANCES, assert_close, labels, normal, same_bits, seeded

import funcnn as fn

N = 6
ACTIVATIONS = {"sigmoid": fn.sigmoid, "tanh": fn.tanh, "relu": fn.relu}
TO_REALS = {"half squared error": fn.half_squared_error(), "mean squared error": fn.mean_squared_error(3.0)}
TO_PROBABILITIES = TO_REALS | {"binary cross entropy": fn.binary_cross_entropy()}
TO_LOGITS = TO_REALS | {"softmax cross entropy": fn.softmax_cross_entropy()}

MODELS = {"perceptron": (fn.perceptron(4), TO_PROBABILITIES)}
for _name, _activation in ACTIVATIONS.items():
    for _sizes in ([4, 3], [4, 5, 3], [4, 5, 4, 3]):
        MODELS[f"mlp {_sizes} {_name}"] = fn.mlp(_sizes, _activation), TO_LOGITS
    MODELS[f"autoencoder {_name}"] = fn.autoencoder([4, 3, 2], _activation), TO_REALS
CASES = {f"{model}, {loss}": (model, loss) for model, (_, losses) in MODELS.items() for loss in losses}

KINKED = [case for case in CASES if "relu" in case and "mlp [4, 3]" not in case]  # whose depth is more than 1
PAIRS = [(provider, case) for provider in fn.PROVIDERS for case in CASES if provider != "complex_step" or case not in KINKED]

every_pair = pytest.mark.parametrize(("provider", "case"), PAIRS, ids=", ".join)
every_provider = pytest.mark.parametrize("provider", fn.PROVIDERS)


def scene(case):
    model, loss = CASES[case]
    layer, losses = MODELS[model]
    params, inputs = layer.init(seeded()), normal(N, 4, seed=1)
    outputs = fn.apply(layer, params, inputs)
    if loss == "softmax cross entropy":
        targets = labels(N, outputs.shape[1], seed=2)
    else:
        targets = torch.rand(outputs.shape, generator=seeded(3))
    return fn.supervised(layer, losses[loss]), params, (inputs, targets)


def test_the_providers_are_those_that_have_a_tolerance():
    assert fn.PROVIDERS.keys() == TOLERANCES.keys()


@every_pair
def test_all_providers_agree_on_all_models_and_losses(provider, case):
    objective, params, batch = scene(case)
    step_fn = fn.PROVIDERS[provider](objective)
    value, grads = step_fn(params, batch)
    expected = torch.func.grad(lambda params: objective.value(params, batch))(params)
    assert torch.equal(value, objective.value(params, batch)) and torch.equal(step_fn.value(params, batch), value)
    assert_close(grads, expected, TOLERANCES[provider])
    assert not any(leaf.requires_grad for leaf in fn.tree.leaves((value, grads)))


@pytest.mark.parametrize("case", KINKED)
def test_the_complex_step_alone_refuses_networks_with_kinks(case):
    objective, params, batch = scene(case)
    with pytest.raises(fn.InputError, match="got relu of complex numbers"):
        fn.complex_step(objective)(params, batch)
    assert torch.equal(fn.complex_step(objective).value(params, batch), objective.value(params, batch))


@every_pair
def test_gradients_per_sample_are_those_of_batches_of_one_and_average_to_that_of_the_batch(provider, case):
    objective, params, batch = scene(case)
    step_fn, tolerance = fn.PROVIDERS[provider](objective), TOLERANCES[provider]
    values, grads = fn.per_sample(step_fn)(params, batch)
    alone = [step_fn(params, tuple(leaf[i : i + 1] for leaf in batch)) for i in range(N)]
    assert values.shape == (N,)
    assert_close(values, torch.stack([value for value, _ in alone]), 1e-14)
    assert_close(grads, fn.tree.map(lambda *leaves: torch.stack(leaves), *(grads for _, grads in alone)), tolerance)
    assert_close(values.mean(), step_fn.value(params, batch), 1e-14)
    assert_close(fn.tree.map(lambda leaf: leaf.mean(0), grads), step_fn(params, batch)[1], tolerance)


class Line(NamedTuple):
    slope: torch.Tensor
    offset: torch.Tensor


# name: (parameters, a function of them and of x, its gradient by hand)
FUNCTIONS = {
    "a bare tensor": (normal(3), lambda w, x: ((w * w) * x).sum(1).mean(), lambda w, x: 2 * w * x.mean(0)),
    "a scalar": (normal(), lambda w, x: (w.sin() * x).mean(), lambda w, x: w.cos() * x.mean()),
    "a dict": (
        {"w": normal(3), "b": normal(1)},
        lambda p, x: (x @ p["w"] + p["b"]).square().mean(),
        lambda p, x: {"w": 2 * ((x @ p["w"] + p["b"])[:, None] * x).mean(0), "b": 2 * (x @ p["w"] + p["b"]).mean(0, True)},
    ),
    "a NamedTuple": (
        Line(normal(3), normal(seed=1)),
        lambda p, x: (x @ p.slope + p.offset).mean().exp(),
        lambda p, x: Line((x @ p.slope + p.offset).mean().exp() * x.mean(0), (x @ p.slope + p.offset).mean().exp()),
    ),
    "a nested tree": (
        {"z": ({"y": normal(2)}, (), [normal(3, seed=1)]), "a": normal(1, seed=2)},
        lambda p, x: p["z"][0]["y"].prod() * (x @ p["z"][2][0]).mean() * p["a"].sum(),
        lambda p, x: {
            "z": (
                {"y": p["z"][0]["y"].flip(0) * (x @ p["z"][2][0]).mean() * p["a"]},
                (),
                [p["z"][0]["y"].prod() * p["a"] * x.mean(0)],
            ),
            "a": (p["z"][0]["y"].prod() * (x @ p["z"][2][0]).mean()).reshape(1),
        },
    ),
    "an unused parameter": (
        {"used": normal(3), "unused": normal(2, 2)},
        lambda p, x: (x @ p["used"]).mean(),
        lambda p, x: {"used": x.mean(0), "unused": torch.zeros(2, 2)},
    ),
    "nothing but unused parameters": ((normal(2),), lambda p, x: x.mean(), lambda p, x: (torch.zeros(2),)),
    "an empty leaf": (
        {"w": normal(3), "none": normal(0, 2)},
        lambda p, x: (x @ p["w"]).mean(),
        lambda p, x: {"w": x.mean(0), "none": torch.zeros(0, 2)},
    ),
    "no parameters": ((), lambda p, x: x.square().mean(), lambda p, x: ()),
}


@every_provider
@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_function_of_any_tree_is_an_objective(provider, name):
    params, value, gradient = FUNCTIONS[name]
    x = normal(N, 3, seed=5)
    step_fn = fn.PROVIDERS[provider](fn.Objective(value, lambda p, x: (value(p, x), gradient(p, x))))
    found, grads = step_fn(params, x)
    assert type(grads) is type(params)
    assert_close(found, value(params, x), 1e-15)
    assert_close(grads, gradient(params, x), TOLERANCES[provider])


@every_provider
@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_function_of_any_tree_has_gradients_per_sample(provider, name):
    params, value, gradient = FUNCTIONS[name]
    x = normal(N, 3, seed=5)
    step_fn = fn.PROVIDERS[provider](fn.Objective(value, lambda p, x: (value(p, x), gradient(p, x))))
    values, grads = fn.per_sample(step_fn)(params, x)
    alone = [step_fn(params, row[None]) for row in x]
    assert_close(values, torch.stack([value for value, _ in alone]), 1e-14)
    expected = fn.tree.map(lambda *leaves: torch.stack(leaves), *(grads for _, grads in alone))
    assert_close(grads, expected, TOLERANCES[provider])


@pytest.mark.parametrize("provider", [name for name in fn.PROVIDERS if name != "explicit"])
def test_the_other_providers_need_no_derived_gradient(provider):
    params, value, gradient = FUNCTIONS["a dict"]
    x = normal(N, 3, seed=5)
    assert_close(fn.PROVIDERS[provider](fn.Objective(value))(params, x)[1], gradient(params, x), TOLERANCES[provider])


def test_explicit_without_a_derived_gradient_says_which_providers_do_without():
    with pytest.raises(TypeError, match="func_grad, autograd, finite_difference and complex_step"):
        fn.explicit(fn.Objective(lambda params, batch: params.sum()))


def test_explicit_believes_what_it_is_told_and_the_others_do_not():
    lie = fn.Objective(lambda w, x: (w * w).sum(), lambda w, x: ((w * w).sum(), 2.001 * w))
    told, true = (fn.PROVIDERS[name](lie)(torch.ones(2), torch.ones(1))[1] for name in ("explicit", "central_difference"))
    assert fn.tree.max_difference(told, true) > 100 * TOLERANCES["central_difference"]


@every_provider
def test_no_gradient_is_written_to_the_parameters_of_the_caller(provider):
    params, value, gradient = FUNCTIONS["a bare tensor"]
    leaf = params.clone().requires_grad_()
    fn.PROVIDERS[provider](fn.Objective(value, lambda p, x: (value(p, x), gradient(p, x))))(leaf, normal(N, 3))
    assert leaf.grad is None and leaf.requires_grad


@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
@every_provider
def test_the_grad_mode_of_the_caller_does_not_matter(provider, grad_mode):
    objective, params, batch = scene("mlp [4, 5, 3] tanh, softmax cross entropy")
    step_fn = fn.PROVIDERS[provider](objective)
    with grad_mode():
        inside = step_fn(params, batch)
    assert same_bits(inside, step_fn(params, batch))


@every_provider
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_have_the_dtype_of_their_parameters(provider, dtype):
    layer = fn.mlp([4, 3, 2], fn.tanh)
    params, batch = layer.init(seeded(), dtype=dtype), (normal(N, 4, dtype=dtype), labels(N, 2))
    value, grads = fn.PROVIDERS[provider](fn.supervised(layer, fn.softmax_cross_entropy()))(params, batch)
    assert {leaf.dtype for leaf in fn.tree.leaves((value, grads))} == {dtype}
