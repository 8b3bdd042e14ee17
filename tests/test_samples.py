import math

import pytest
import torch
from helpers import TOLERANCES, assert_close, labels, normal, one_by_one, says, seeded
from tables import LAYERS, LOSSES, N, X, centred, layer_scene, loss_scene, nothing_known, quiet
from torch.utils._python_dispatch import TorchDispatchMode

import funcnn as fn

ROUNDING = TOLERANCES["explicit"]


def looped(step_fn, params, batch):
    """(values, gradients) of every sample, by a Python loop over batches of one."""
    return one_by_one(lambda sample: step_fn(params, sample), batch)


def norms(grads):
    leaves = [leaf.reshape(len(leaf), -1).square().sum(1) for leaf in fn.tree.leaves(grads) if leaf.numel()]
    return sum(leaves).sqrt() if leaves else torch.zeros(N)


def norm(grads):
    return norms(fn.tree.map(lambda leaf: leaf[None], grads)).item()


def clipped_mean(grads, max_norm):
    factors = (max_norm / norms(grads)).clamp(max=1)
    return fn.tree.map(lambda leaf: (factors.reshape(-1, *[1] * (leaf.ndim - 1)) * leaf).mean(0), grads)


def check_all(objective, params, batch):
    """Everything that is said of samples, against a loop over batches of one and against vmap."""
    step_fn = fn.explicit(objective)
    values, grads = looped(step_fn, params, batch)
    found = fn.per_sample(step_fn)(params, batch)
    assert_close(found, (values, grads), ROUNDING)
    assert_close(found, fn.per_sample(fn.StepFn(step_fn.value, lambda *at: step_fn(*at)))(params, batch), ROUNDING)
    assert_close(fn.per_sample_norms(step_fn)(params, batch), norms(grads), ROUNDING)
    max_norm = norms(grads).median().item() or 1.0  # some samples are clipped and some are not
    value, clipped = fn.per_sample_clip(step_fn, max_norm)(params, batch)
    assert_close(value, objective.value(params, batch), ROUNDING)
    assert_close(clipped, clipped_mean(grads, max_norm), ROUNDING)


@pytest.mark.parametrize("name", [name for name in LAYERS if not LAYERS[name].mixes])
def test_samples_of_every_layer_have_the_gradients_norms_and_clipped_means_of_batches_of_one(name):
    layer, params, *batch = layer_scene(name)
    objective = fn.supervised(layer, fn.half_squared_error())
    check_all(objective, params, tuple(batch))
    vmapped = fn.per_sample(fn.func_grad(objective))(params, tuple(batch))
    assert_close(fn.per_sample(fn.explicit(objective))(params, tuple(batch)), vmapped, ROUNDING)


@pytest.mark.parametrize("between", [fn.softmax(), centred(5)], ids=["softmax", "centred"])
@pytest.mark.parametrize("loss", LOSSES)
def test_and_so_have_those_of_every_loss(loss, between):
    features = LOSSES[loss].outputs.shape[-1]
    objective, params, batch, _ = loss_scene(loss, fn.serial(fn.dense(4, 5), between, fn.dense(5, features), fn.sigmoid()))
    check_all(objective, params, batch)


@pytest.mark.parametrize("name", ["mlp, softmax", "mlp on tokens", "serial without bias", "a newcomer's between"])
def test_a_huge_bound_gives_the_gradient_of_the_batch_and_a_tiny_one_bounds_it(name):
    layer, params, *batch = layer_scene(name)
    step_fn = fn.explicit(fn.supervised(layer, fn.half_squared_error()))
    assert_close(fn.per_sample_clip(step_fn, 1e300)(params, tuple(batch)), step_fn(params, tuple(batch)), ROUNDING)
    _, grads = fn.per_sample_clip(step_fn, 1e-9)(params, tuple(batch))
    assert norm(grads) <= 1e-9 * (1 + ROUNDING)


def planted():
    """A dense layer with a bug in its summands: of the bias they are half of what they should be."""
    layer = fn.dense(4, 3)
    right = layer.backward.summands

    def summands(residuals, dy):
        return right(residuals, dy) | {"b": fn.Rows(0.5 * dy)}

    return layer._replace(backward=layer.backward._replace(summands=summands))


@pytest.mark.parametrize("network", ["alone", "first", "last"])
def test_a_bug_in_one_layers_summands_shows_alike_in_all_that_follows_from_them(network):
    def built(layer):
        return {"alone": layer, "first": fn.serial(layer, fn.tanh()), "last": fn.serial(fn.tanh(), layer)}[network]

    bad, good = (fn.supervised(built(layer), fn.half_squared_error()) for layer in (planted(), fn.dense(4, 3)))
    params, batch = built(fn.dense(4, 3)).init(seeded()), (X, normal(N, 3, seed=1))
    values, grads = looped(fn.func_grad(good), params, batch)
    leaves, unflatten = fn.tree.flatten(grads)
    wrong = unflatten(
        [0.5 * leaf if "b" in path else leaf for path, leaf in zip(fn.tree.paths(grads, ""), leaves, strict=True)]
    )
    step_fn = fn.explicit(bad)
    assert_close(step_fn(params, batch)[1], fn.tree.map(lambda leaf: leaf.mean(0), wrong), ROUNDING)
    assert_close(fn.per_sample(step_fn)(params, batch), (values, wrong), ROUNDING)
    assert_close(fn.per_sample_norms(step_fn)(params, batch), norms(wrong), ROUNDING)
    assert_close(fn.per_sample_clip(step_fn, 0.3)(params, batch)[1], clipped_mean(wrong, 0.3), ROUNDING)


FUNCTION = fn.Objective(lambda p, x: (x @ p["w"]).sin().square().mean() + p["c"] * x.mean())
FUNCTION_PARAMS = {"w": normal(3), "c": normal(seed=1), "none": normal(0, 2)}


@pytest.mark.parametrize("provider", [fn.func_grad, fn.autograd, fn.complex_step])
def test_any_function_can_be_clipped(provider):
    x, step_fn = normal(N, 3, seed=5), provider(FUNCTION)
    _, grads = looped(step_fn, FUNCTION_PARAMS, x)
    assert_close(fn.per_sample_norms(step_fn)(FUNCTION_PARAMS, x), norms(grads), ROUNDING)
    value, clipped = fn.per_sample_clip(step_fn, 0.5)(FUNCTION_PARAMS, x)
    assert_close(value, FUNCTION.value(FUNCTION_PARAMS, x), ROUNDING)
    assert_close(clipped, clipped_mean(grads, 0.5), ROUNDING)


def test_so_can_a_plain_callable():
    x, step_fn = normal(N, 3, seed=5), fn.func_grad(FUNCTION)
    found = fn.per_sample_clip(lambda params, batch: step_fn(params, batch), 0.5)(FUNCTION_PARAMS, x)
    assert_close(found, fn.per_sample_clip(step_fn, 0.5)(FUNCTION_PARAMS, x), ROUNDING)


MLP = fn.mlp([4, 5, 3])


def scene(loss=None, layer=MLP, dtype=torch.float64):
    """(a step function, parameters, batch)"""
    loss = loss or fn.softmax_cross_entropy()
    return fn.explicit(fn.supervised(layer, loss)), layer.init(seeded(), dtype=dtype), (X.to(dtype), labels(N, 3))


def test_a_sample_whose_gradient_is_0_adds_0():
    step_fn, params, (inputs, _) = scene(fn.half_squared_error())
    targets = MLP(params, inputs)  # nothing to learn
    targets[0] += 1.0
    found = fn.per_sample_norms(step_fn)(params, (inputs, targets))
    assert found[0] > 0 and found[1:].eq(0).all()
    _, grads = fn.per_sample_clip(step_fn, 0.5)(params, (inputs, targets))
    assert norm(grads) == pytest.approx(0.5 / N)


def test_per_sample_and_clip_compose():
    step_fn, params, batch = scene(layer=fn.serial(fn.dense(4, 4), centred(4), fn.dense(4, 3)))
    _, grads = fn.per_sample(fn.per_sample_clip(step_fn, 0.2))(params, batch)
    expected = one_by_one(lambda sample: clipped_mean(looped(step_fn, params, sample)[1], 0.2), batch)
    assert_close(grads, expected, ROUNDING)


@pytest.mark.parametrize("optimizer", [fn.sgd(0.5), fn.adam(0.05), fn.nesterov(0.1)], ids=["sgd", "adam", "nesterov"])
def test_training_by_clipped_gradients_learns(optimizer):
    step_fn, params, batch = scene()
    values = [step.value for step in fn.train(fn.per_sample_clip(step_fn, 1.0), optimizer, params, [batch] * 60)]
    assert values[-1] < 0.5 * values[0]


def test_an_outlier_moves_clipped_training_by_no_more_than_its_share():
    step_fn, params, (inputs, _) = scene(fn.half_squared_error())
    targets = normal(N, 3, seed=1)
    spoilt = targets.clone()
    spoilt[0] += 1e6
    clean, spoiled = (fn.per_sample_clip(step_fn, 0.1)(params, (inputs, t))[1] for t in (targets, spoilt))
    assert norm(fn.tree.add_scaled(clean, -1.0, spoiled)) <= 2 * 0.1 / N * (1 + 1e-9)
    plain = [step_fn(params, (inputs, t))[1] for t in (targets, spoilt)]
    assert norm(fn.tree.add_scaled(plain[0], -1.0, plain[1])) > 1e5


# name: (dtype, by how much the targets of sample 0 are beyond the others', the layer, its inputs)
BEYOND = {
    "float16": (torch.float16, 3e4, fn.dense(4, 3), X),
    "float16, tokens": (torch.float16, 1e3, fn.dense(4, 3), X.repeat(1, 20).reshape(N, 20, 4)),
    "float32": (torch.float32, 3e38, fn.dense(4, 3), X),
    "float32, tokens": (torch.float32, 1e38, fn.dense(4, 3), X.repeat(1, 3).reshape(N, 3, 4)),
    "float32, a user's layer": (torch.float32, 3e37, quiet(fn.dense(4, 3)), X),
}


@pytest.mark.parametrize("name", BEYOND)
def test_a_sample_whose_norm_is_beyond_the_range_of_its_dtype_is_clipped_and_not_dropped(name):
    dtype, far, layer, x = BEYOND[name]
    params = layer.init(seeded(), dtype=torch.float64)
    targets = layer(params, x)
    targets[0] += far
    targets[1:] += 1e-3
    step_fn = fn.explicit(fn.supervised(layer, fn.half_squared_error()))
    exact = fn.per_sample_clip(step_fn, 1.0)(params, (x, targets))[1]
    low = fn.tree.map(lambda leaf: leaf.to(dtype), (params, (x, targets)))
    found = fn.per_sample_clip(step_fn, 1.0)(*low)[1]
    assert norm(found) > 0.5 / N
    assert_close(fn.tree.map(torch.Tensor.double, found), exact, 1e-2)


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in fn.tree.leaves(result) if isinstance(leaf, torch.Tensor)]
        self.elements = max(self.elements, *sizes, 0)
        return result


def test_norms_and_clipping_never_hold_a_gradient_for_each_sample():
    count, sizes = 64, [32, 48, 3]
    layer = fn.mlp(sizes)
    params = layer.init(seeded(), dtype=torch.float64)
    step_fn = fn.explicit(fn.supervised(layer, fn.softmax_cross_entropy()))
    batch = normal(count, sizes[0]), labels(count, sizes[-1])
    for call in (fn.per_sample_norms(step_fn), fn.per_sample_clip(step_fn, 0.1)):
        with LargestTensor() as largest:
            call(params, batch)
        assert largest.elements <= max(count * max(sizes), sizes[0] * sizes[1])  # an activation, or a weight's gradient
    with LargestTensor() as largest:
        fn.per_sample(step_fn)(params, batch)
    assert largest.elements == count * sizes[0] * sizes[1]


def test_float32_stays_float32():
    step_fn, params, batch = scene(dtype=torch.float32)
    results = [call(step_fn)(params, batch) for call in (fn.per_sample, fn.per_sample_norms)]
    results.append(fn.per_sample_clip(step_fn, 0.1)(params, batch))
    assert {leaf.dtype for leaf in fn.tree.leaves(results)} == {torch.float32}


BY_HAND, PARAMS, BATCH = scene()
INPUTS, TARGETS = BATCH
CALLS = {
    "per_sample": fn.per_sample(BY_HAND),
    "per_sample_norms": fn.per_sample_norms(BY_HAND),
    "per_sample_clip": fn.per_sample_clip(BY_HAND, 1.0),
    "per_sample_clip, value": fn.per_sample_clip(BY_HAND, 1.0).value,
}
TRANSPOSED = ({"w": PARAMS[0]["w"].T, "b": PARAMS[0]["b"]}, *PARAMS[1:])

# name: (parameters, batch, the place, what was found, what is needed)
BAD = {
    "w transposed": (TRANSPOSED, BATCH, "params[0]['w']", "(5, 4)", "(4, 5)"),
    "no parameters": (None, BATCH, "params", "None", "floating"),
    "a layer missing": (PARAMS[:2], BATCH, "params", "tuple of 2", "tuple of 3"),
    "an integer leaf": (
        (*PARAMS[:2], {"w": PARAMS[2]["w"].long(), "b": PARAMS[2]["b"]}),
        BATCH,
        "params[2]['w']",
        "int64",
        "f",
    ),
    "inputs too narrow": (PARAMS, (INPUTS[:, :3], TARGETS), "inputs of params[0]", "(5, 3)", "(N, ..., 4)"),
    "an empty batch": (PARAMS, (INPUTS[:0], TARGETS[:0]), "batch[0]", "(0, 4)", "at least one sample"),
    "inputs alone": (PARAMS, INPUTS, "batch", "(5, 4)", "pair"),
    "one target short": (PARAMS, (INPUTS, TARGETS[1:]), "batch[1]", "(4,)", "5 samples"),
    "a label too large": (PARAMS, (INPUTS, TARGETS + 3), "targets", "", "0 to 2"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused(name, call):
    params, batch, *message = BAD[name]
    with pytest.raises(fn.InputError) as caught:
        CALLS[call](params, batch)
    assert says(caught.value, *message)


WRONG = {
    "a layer's gradient": (
        centred(4)._replace(backward=lambda r, dy: ({"factor": dy.sum()}, dy)),
        fn.softmax_cross_entropy(),
        "grads['factor']",
    ),
    "a loss's gradient": (
        fn.dense(4, 3),
        fn.Loss(nothing_known(fn.softmax_cross_entropy()).forward, lambda r: r[0][:, :1]),
        "dy",
    ),
    "a loss's value": (fn.dense(4, 3), fn.Loss(lambda y, t: (y, ()), lambda r: r), "loss.forward(outputs, targets)[0]"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", WRONG)
def test_so_are_rules_of_the_wrong_shape(name):
    layer, loss, place = WRONG[name]
    with pytest.raises(fn.InputError) as caught:
        fn.per_sample_norms(fn.explicit(fn.supervised(layer, loss)))(layer.init(seeded()), (normal(N, 4), labels(N, 3)))
    assert says(caught.value, place, "shape", "")


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("max_norm", [0, -1.0, math.nan, math.inf, "1", None, True, 10**400])
def test_a_bound_must_be_a_positive_number(max_norm):
    with pytest.raises(fn.InputError) as caught:
        fn.per_sample_clip(BY_HAND, max_norm)
    assert says(caught.value, "max_norm", "", "a number of at least")
