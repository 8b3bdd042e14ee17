from collections import OrderedDict, defaultdict
from typing import NamedTuple

import pytest
import torch
from helpers import TOLERANCES, assert_close, labels, normal, one_by_one, same_bits, seeded
from tables import LAYERS, LOSSES, N, layer_scene, loss_scene

import funcnn as fn

# One-sided differences take the same way through a layer as central ones: see test_structured.
SIDED = {"forward_difference", "backward_difference"}
PAIRS = [
    (provider, name)
    for provider in fn.PROVIDERS
    for name in LAYERS
    if (LAYERS[name].analytic or provider != "complex_step") and (provider not in SIDED or name in ("dense", "relu", "mlp"))
]
KINKED = [name for name in LAYERS if not LAYERS[name].analytic]

every_pair = pytest.mark.parametrize(("provider", "name"), PAIRS, ids=map(", ".join, PAIRS))
every_provider = pytest.mark.parametrize("provider", fn.PROVIDERS)


def half_squares(name):
    """(objective, parameters, batch, the value in torch's words) of a layer."""
    layer, params, *batch = layer_scene(name)

    def formula(params, batch):
        inputs, targets = batch
        return (LAYERS[name].formula(params, inputs) - targets).square().sum() / 2 / len(inputs)

    return fn.supervised(layer, fn.half_squared_error()), params, tuple(batch), formula


def test_the_providers_are_those_that_have_a_tolerance():
    assert fn.PROVIDERS.keys() == TOLERANCES.keys()


@every_pair
def test_every_provider_gives_the_gradient_of_the_formula_of_every_layer(provider, name):
    objective, params, batch, formula = half_squares(name)
    step_fn = fn.PROVIDERS[provider](objective)
    before = fn.tree.clone((params, batch))
    value, grads = step_fn(params, batch)
    assert_close(value, formula(params, batch), 1e-14)
    assert torch.equal(value, step_fn.value(params, batch)) and torch.equal(value, objective.value(params, batch))
    assert_close(grads, torch.func.grad(formula)(params, batch), TOLERANCES[provider])
    assert not any(leaf.requires_grad for leaf in fn.tree.leaves((value, grads)))
    assert same_bits((params, batch), before) and same_bits(step_fn(params, batch), (value, grads))


@pytest.mark.parametrize("provider", [name for name in fn.PROVIDERS if name not in SIDED])
@pytest.mark.parametrize("loss", LOSSES)
def test_and_of_every_loss(provider, loss):
    objective, params, batch, formula = loss_scene(loss)
    value, grads = fn.PROVIDERS[provider](objective)(params, batch)
    assert_close(value, formula(params, batch), 1e-14)
    if provider != "explicit" or LOSSES[loss].clip is None:
        assert_close(grads, torch.func.grad(formula)(params, batch), TOLERANCES[provider])


# Per sample the others are vmapped as they are; what explicit does of its own is in test_samples.
@pytest.mark.parametrize("name", ["mlp on tokens, softmax", "a newcomer's between", "a user's that mixes samples, between"])
@every_provider
def test_gradients_per_sample_are_those_of_batches_of_one(provider, name):
    objective, params, batch, _ = half_squares(name)
    step_fn, batch = fn.PROVIDERS[provider](objective), tuple(leaf[:2] for leaf in batch)
    values, grads = one_by_one(lambda sample: step_fn(params, sample), batch)
    found = fn.per_sample(step_fn)(params, batch)
    assert_close(found[0], values, 1e-13)
    assert_close(found[1], grads, TOLERANCES[provider])


@pytest.mark.parametrize("name", LAYERS)
def test_a_batch_of_nothing_is_refused_at_the_door(name, as_users_run_it):
    objective, params, (x, y), _ = half_squares(name)
    step_fn = fn.explicit(objective)
    for call in (step_fn, step_fn.value, fn.per_sample(step_fn)):
        with pytest.raises(fn.InputError, match=r"^batch\[0\]: got .*needs a tensor with at least one sample"):
            call(params, (x[:0], y[:0]))


@pytest.mark.parametrize("name", KINKED)
def test_the_complex_step_alone_refuses_networks_with_kinks(name):
    objective, params, batch, _ = half_squares(name)
    with pytest.raises(fn.InputError, match="got (relu|leaky_relu|max_pool2d_with_indices) of complex numbers"):
        fn.complex_step(objective)(params, batch)
    assert torch.equal(fn.complex_step(objective).value(params, batch), objective.value(params, batch))


class Line(NamedTuple):
    slope: torch.Tensor
    offset: torch.Tensor


def two(p, x):
    """The value of {"w": (3,), "b": (3,)}, of which w and b have quite different gradients."""
    return (x @ p["w"]).mean() + p["b"].square().sum()


def slopes_of_two(p, x):
    return {"w": x.mean(0), "b": 2 * p["b"]}


def of_ordered(p, x):
    return OrderedDict(slopes_of_two(p, x))


def of_default(p, x):
    return defaultdict(list, slopes_of_two(p, x))


W, B = normal(3), normal(3, seed=1)

# name: (parameters, a function of them and of x, its gradient by hand)
FUNCTIONS = {
    "a bare tensor": (normal(3), lambda w, x: ((w * w) * x).sum(1).mean(), lambda w, x: 2 * w * x.mean(0)),
    "a scalar": (normal(), lambda w, x: (w.sin() * x).mean(), lambda w, x: w.cos() * x.mean()),
    "a dict": (
        {"w": normal(3), "b": normal(1)},
        lambda p, x: (x @ p["w"] + p["b"]).square().mean(),
        lambda p, x: {"w": 2 * ((x @ p["w"] + p["b"])[:, None] * x).mean(0), "b": 2 * (x @ p["w"] + p["b"]).mean(0, True)},
    ),
    "a dict in another order": ({"w": W, "b": B}, two, slopes_of_two),
    "an OrderedDict": (OrderedDict(w=W, b=B), two, of_ordered),
    "an OrderedDict, by a dict": (OrderedDict(w=W, b=B), two, slopes_of_two),
    "OrderedDicts in another order within": (
        (OrderedDict(w=W, b=B), OrderedDict(b=B, w=W)),
        lambda p, x: two(p[0], x) - 2 * two(p[1], x),
        lambda p, x: (slopes_of_two(p[0], x), fn.tree.map(lambda leaf: -2 * leaf, of_ordered(p[1], x))),
    ),
    "a defaultdict": (defaultdict(list, w=W, b=B), two, of_default),
    "a defaultdict, by a dict": (defaultdict(list, w=W, b=B), two, slopes_of_two),
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


def function_scene(name):
    params, value, gradient = FUNCTIONS[name]
    return fn.Objective(value, lambda p, x: (value(p, x), gradient(p, x))), params, normal(N, 3, seed=5)


def containers(tree):
    """The containers of a tree, their types and the order of their keys."""
    if isinstance(tree, dict):
        return type(tree), [(key, containers(child)) for key, child in tree.items()]
    return (type(tree), [*map(containers, tree)]) if isinstance(tree, (tuple, list)) else None


def by_keys(tree):
    """The same tree in plain dicts, whose leaves pair by their keys."""
    if isinstance(tree, dict):
        return {key: by_keys(child) for key, child in tree.items()}
    return tuple(map(by_keys, tree)) if isinstance(tree, (tuple, list)) else tree


@every_provider
@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_function_of_any_tree_is_an_objective_and_its_gradient_the_same_tree(provider, name):
    objective, params, x = function_scene(name)
    _, value, gradient = FUNCTIONS[name]
    step_fn = fn.PROVIDERS[provider](objective)
    fn.func_grad(fn.Objective(two))({"b": B, "w": W}, x)  # a tree that is like the next but for its containers
    found, grads = step_fn(params, x)
    assert_close(found, value(params, x), 1e-15)
    assert containers(grads) == containers(params)
    assert_close(by_keys(grads), by_keys(gradient(params, x)), TOLERANCES[provider])


@pytest.mark.parametrize("provider", ["explicit", "autograd", "complex_step"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_function_of_any_tree_has_gradients_per_sample(provider, name):
    objective, params, x = function_scene(name)
    step_fn = fn.PROVIDERS[provider](objective)
    values, grads = fn.per_sample(step_fn)(params, x)
    alone = [step_fn(params, row[None]) for row in x]
    assert_close(values, torch.stack([value for value, _ in alone]), 1e-14)
    expected = fn.tree.map(lambda *leaves: torch.stack(leaves), *(grads for _, grads in alone))
    assert_close(grads, expected, TOLERANCES[provider])


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if "Dict" in name or "dict" in name])
def test_training_pairs_and_keeps_the_containers_of_its_parameters(name):
    objective, params, x = function_scene(name)
    truth = fn.func_grad(fn.Objective(FUNCTIONS[name][1]))
    for optimizer in (fn.sgd(0.1), fn.bfgs()):
        plain = list(fn.train(truth, optimizer, by_keys(params), [x] * 2))  # like the next but for its containers
        steps = list(fn.train(fn.explicit(objective), optimizer, params, [x] * 2))
        assert_close(by_keys(steps[-1].params), plain[-1].params, 1e-12)
        assert containers(steps[-1].params) == containers(params)


@pytest.mark.parametrize("kind", [OrderedDict, lambda pairs: defaultdict(list, pairs)], ids=["OrderedDict", "defaultdict"])
@every_provider
def test_a_layer_takes_its_parameters_from_any_dict(provider, kind):
    layer, batch = fn.mlp([3, 3]), (normal(N, 3), labels(N, 3))
    (plain,) = layer.init(seeded())
    objective, params = fn.supervised(layer, fn.softmax_cross_entropy()), (kind([("w", plain["w"]), ("b", plain["b"])]),)
    _, grads = fn.PROVIDERS[provider](objective)(params, batch)
    assert type(grads[0]) is type(params[0])
    expected = fn.func_grad(objective)((plain,), batch)[1]
    assert_close(by_keys(grads), expected, TOLERANCES[provider])


@pytest.mark.parametrize("provider", [name for name in fn.PROVIDERS if name != "explicit"])
def test_the_other_providers_need_no_derived_gradient(provider):
    params, value, gradient = FUNCTIONS["a dict"]
    x = normal(N, 3, seed=5)
    assert_close(fn.PROVIDERS[provider](fn.Objective(value))(params, x)[1], gradient(params, x), TOLERANCES[provider])


def test_explicit_without_a_derived_gradient_says_which_providers_do_without():
    with pytest.raises(fn.InputError, match="func_grad, autograd, finite_difference and complex_step"):
        fn.explicit(fn.Objective(lambda params, batch: params.sum()))


def test_explicit_believes_what_it_is_told_and_the_others_do_not():
    lie = fn.Objective(lambda w, x: (w * w).sum(), lambda w, x: ((w * w).sum(), 2.001 * w))
    told, true = (fn.PROVIDERS[name](lie)(torch.ones(2), torch.ones(1))[1] for name in ("explicit", "central_difference"))
    assert fn.tree.max_difference(told, true) > 100 * TOLERANCES["central_difference"]


@every_provider
def test_no_gradient_is_written_to_the_parameters_of_the_caller(provider):
    objective, params, x = function_scene("a bare tensor")
    leaf = params.clone().requires_grad_()
    fn.PROVIDERS[provider](objective)(leaf, x)
    assert leaf.grad is None and leaf.requires_grad


@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
@every_provider
def test_the_grad_mode_of_the_caller_does_not_matter(provider, grad_mode):
    objective, params, batch, _ = half_squares("mlp of depth 1")
    step_fn = fn.PROVIDERS[provider](objective)
    with grad_mode():
        inside = step_fn(params, batch)
    assert same_bits(inside, step_fn(params, batch))


@every_provider
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_have_the_dtype_of_their_parameters(provider, dtype):
    objective, params, batch, _ = loss_scene("softmax cross entropy", dtype=dtype)
    value, grads = fn.PROVIDERS[provider](objective)(params, batch)
    assert {leaf.dtype for leaf in fn.tree.leaves((value, grads))} == {dtype}


@every_provider
def test_a_step_function_prints_its_provider_and_what_it_differentiates(provider):
    shown = repr(fn.PROVIDERS[provider](fn.supervised(fn.mlp([4, 3]), fn.softmax_cross_entropy())))
    assert shown.endswith("(supervised(serial(dense(4, 3)), softmax_cross_entropy()))") and "0x" not in shown
