import math

import pytest
import torch
from helpers import TOLERANCES, assert_close, labels, normal, says, seeded
from torch.utils._python_dispatch import TorchDispatchMode

import funcnn as fn
from funcnn.factored import Outer, formed, norms, weighted_sum

N, ROUNDING = 6, TOLERANCES["explicit"]


def centred():
    """A layer of unknown structure that mixes the rows of a batch."""

    def init(generator, *, dtype=None, device=None):
        return {"scale": torch.ones(4, dtype=dtype, device=device)}

    def forward(params, x):
        deviation = x - 0.5 * x.mean(0)
        return deviation * params["scale"], (deviation, params["scale"])

    def backward(residuals, dy):
        deviation, scale = residuals
        return {"scale": (dy * deviation).sum(0)}, dy * scale - 0.5 * (dy * scale).mean(0)

    return fn.Layer(init, forward, backward)


def quiet_dense(*sizes):
    """A dense layer that does not say so."""
    return fn.Layer(*fn.dense(*sizes)[:3])


LAYERS = {
    "perceptron": fn.perceptron(4),
    **{f"mlp of depth {len(sizes) - 1}": fn.mlp(sizes, fn.tanh) for sizes in ([4, 3], [4, 5, 3], [4, 5, 4, 3])},
    "mlp of depth 4, relu": fn.mlp([4, 5, 4, 5, 3], fn.relu),
    "autoencoder": fn.autoencoder([4, 3, 2]),
    "a dense layer alone": fn.dense(4, 3),
    "no bias": fn.serial(fn.dense(4, 5, bias=False), fn.sigmoid(), fn.dense(5, 3, bias=False)),
    "nested": fn.serial(fn.tanh(), fn.serial(fn.dense(4, 5), fn.serial(fn.sigmoid())), fn.serial(fn.dense(5, 3))),
    "softmax in the middle": fn.serial(fn.dense(4, 5), fn.softmax(), fn.dense(5, 3)),
    "a user's layer first": fn.serial(centred(), fn.dense(4, 3)),
    "a user's layer in the middle": fn.serial(fn.dense(4, 4), fn.serial(centred(), fn.sigmoid()), fn.dense(4, 3)),
    "a user's layer alone": centred(),
    "of unknown structure throughout": fn.serial(quiet_dense(4, 5), fn.sigmoid(), quiet_dense(5, 3)),
    "no parameters": fn.serial(fn.tanh(), fn.softmax()),
}
PLAIN_ENTROPY = fn.Loss(*fn.softmax_cross_entropy(0.1)[:2])  # a loss that has no more than the pair
LOSSES = {
    "half squared error": fn.half_squared_error(),
    "mean squared error": fn.mean_squared_error(3.0),
    "binary cross entropy": fn.binary_cross_entropy(),
    "softmax cross entropy": fn.softmax_cross_entropy(),
    "clipped cross entropy": fn.softmax_cross_entropy(clip=0.3),
    "a user's loss": PLAIN_ENTROPY,
}
CLASSIFY = {"softmax cross entropy", "clipped cross entropy", "a user's loss"}
CASES = [(layer, "clipped cross entropy") for layer in LAYERS] + [("mlp of depth 2", loss) for loss in LOSSES]
every_case = pytest.mark.parametrize("case", CASES, ids=", ".join)


def scene(case):
    layer, loss = LAYERS[case[0]], LOSSES[case[1]]
    if case[1] == "binary cross entropy":
        layer = fn.serial(layer, fn.sigmoid())
    params, inputs = layer.init(seeded(), dtype=torch.float64), normal(N, 4, seed=1)
    outputs = fn.apply(layer, params, inputs)
    if case[1] in CLASSIFY:
        targets = labels(N, outputs.shape[1], seed=2)
    else:
        targets = torch.rand(outputs.shape, generator=seeded(3), dtype=torch.float64)
    return fn.supervised(layer, loss), params, (inputs, targets)


def one_by_one(objective, params, batch):
    """A Python loop over batches of one, by the rules for batches."""
    alone = [fn.explicit(objective)(params, tuple(leaf[n : n + 1] for leaf in batch)) for n in range(N)]
    return torch.stack([value for value, _ in alone]), [grads for _, grads in alone]


def norm(grads):
    return math.sqrt(sum(leaf.square().sum().item() for leaf in fn.tree.leaves(grads)))


def clipped_mean(grads, max_norm):
    factors = [min(1.0, max_norm / norm(g)) if norm(g) else 1.0 for g in grads]
    return fn.tree.map(lambda *leaves: sum(c * g for c, g in zip(factors, leaves, strict=True)) / len(grads), *grads)


@every_case
def test_gradients_are_those_of_the_vmapped_rules_and_of_a_loop_over_batches_of_one(case):
    objective, params, batch = scene(case)
    step_fn = fn.explicit(objective)
    assert step_fn.per_sample is not None
    values, grads = fn.per_sample(step_fn)(params, batch)
    looped, terms = one_by_one(objective, params, batch)
    for expected_values, expected in (
        fn.per_sample(fn.StepFn(*step_fn[:2]))(params, batch),
        (looped, fn.tree.map(lambda *leaves: torch.stack(leaves), *terms)),
    ):
        assert_close(values, expected_values, ROUNDING)
        assert_close(grads, expected, ROUNDING)


@every_case
def test_norms_are_the_roots_of_the_summed_squares(case):
    objective, params, batch = scene(case)
    expected = torch.tensor([norm(grads) for grads in one_by_one(objective, params, batch)[1]])
    assert_close(fn.per_sample_norms(objective)(params, batch), expected, ROUNDING)


@every_case
def test_the_clipped_mean_is_what_its_definition_says(case):
    objective, params, batch = scene(case)
    values, terms = one_by_one(objective, params, batch)
    max_norm = sorted(map(norm, terms))[N // 2] or 1.0  # some samples are clipped and some are not
    value, grads = fn.per_sample_clip(objective, max_norm)(params, batch)
    assert_close(value, values.mean(), ROUNDING)
    assert_close(grads, clipped_mean(terms, max_norm), ROUNDING)


@pytest.mark.parametrize("layer", [name for name in LAYERS if "user" not in name])
def test_a_huge_bound_gives_the_gradient_of_the_batch_and_a_tiny_one_bounds_it(layer):
    objective, params, batch = scene((layer, "softmax cross entropy"))
    assert_close(fn.per_sample_clip(objective, 1e300)(params, batch), fn.explicit(objective)(params, batch), ROUNDING)
    _, grads = fn.per_sample_clip(objective, 1e-9)(params, batch)
    assert norm(grads) <= 1e-9 * (1 + ROUNDING)


FUNCTION = fn.Objective(lambda p, x: (x @ p["w"]).sin().square().mean() + p["c"] * x.mean(), None)
FUNCTION_PARAMS = {"w": normal(3), "c": normal(seed=1), "none": normal(0, 2)}


def test_any_function_can_be_clipped():
    x = normal(N, 3, seed=5)
    terms = [fn.func_grad(FUNCTION)(FUNCTION_PARAMS, row[None])[1] for row in x]
    expected = torch.tensor([norm(grads) for grads in terms])
    assert_close(fn.per_sample_norms(FUNCTION)(FUNCTION_PARAMS, x), expected, ROUNDING)
    value, grads = fn.per_sample_clip(FUNCTION, 0.5)(FUNCTION_PARAMS, x)
    assert_close(value, FUNCTION.value(FUNCTION_PARAMS, x), ROUNDING)
    assert_close(grads, clipped_mean(terms, 0.5), ROUNDING)


def test_a_sample_whose_gradient_is_0_adds_0():
    objective, params, (inputs, _) = scene(("mlp of depth 2", "half squared error"))
    targets = fn.apply(LAYERS["mlp of depth 2"], params, inputs)  # nothing to learn
    targets[0] += 1.0
    found = fn.per_sample_norms(objective)(params, (inputs, targets))
    assert found[0] > 0 and found[1:].eq(0).all()
    _, grads = fn.per_sample_clip(objective, 0.5)(params, (inputs, targets))
    assert norm(grads) == pytest.approx(0.5 / N)


def test_per_sample_and_clip_compose():
    objective, params, batch = scene(("a user's layer in the middle", "softmax cross entropy"))
    _, grads = fn.per_sample(fn.per_sample_clip(objective, 0.2))(params, batch)
    _, terms = one_by_one(objective, params, batch)
    expected = [clipped_mean([term], 0.2) for term in terms]
    assert_close(grads, fn.tree.map(lambda *leaves: torch.stack(leaves), *expected), ROUNDING)


@pytest.mark.parametrize("optimizer", [fn.sgd(0.5), fn.adam(0.05), fn.nesterov(0.1)])
def test_training_by_clipped_gradients_learns(optimizer):
    objective, params, batch = scene(("mlp of depth 2", "softmax cross entropy"))
    values = [step.value for step in fn.train(fn.per_sample_clip(objective, 1.0), optimizer, params, [batch] * 60)]
    assert values[-1] < 0.5 * values[0]


def test_an_outlier_moves_clipped_training_by_no_more_than_its_share():
    objective, params, (inputs, targets) = scene(("mlp of depth 2", "half squared error"))
    spoilt = targets.clone()
    spoilt[0] += 1e6
    clean, spoiled = (fn.per_sample_clip(objective, 0.1)(params, (inputs, t))[1] for t in (targets, spoilt))
    assert norm(fn.tree.add_scaled(clean, -1.0, spoiled)) <= 2 * 0.1 / N * (1 + 1e-9)
    plain = [fn.explicit(objective)(params, (inputs, t))[1] for t in (targets, spoilt)]
    assert norm(fn.tree.add_scaled(plain[0], -1.0, plain[1])) > 1e5


def test_factored_gradients_are_the_matrices_that_they_stand_for():
    x, dy, weights = normal(N, 4), normal(N, 3, seed=1), normal(N, seed=2)
    matrices = torch.stack([torch.outer(a, b) for a, b in zip(x, dy, strict=True)])
    for gradient in (Outer(x, dy), matrices):
        assert_close(formed(gradient), matrices, ROUNDING)
        assert_close(norms(gradient), matrices.square().sum((1, 2)).sqrt(), ROUNDING)
        assert_close(weighted_sum(weights, gradient), sum(c * g for c, g in zip(weights, matrices, strict=True)), ROUNDING)


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
    objective, params = fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(seeded(), dtype=torch.float64)
    batch = normal(count, sizes[0]), labels(count, sizes[-1])
    for call in (fn.per_sample_norms(objective), fn.per_sample_clip(objective, 0.1)):
        with LargestTensor() as largest:
            call(params, batch)
        assert largest.elements <= max(count * max(sizes), sizes[0] * sizes[1])  # an activation, or a weight's gradient
    with LargestTensor() as largest:
        fn.per_sample(fn.explicit(objective))(params, batch)
    assert largest.elements == count * sizes[0] * sizes[1]


def test_float32_stays_float32():
    layer = fn.mlp([4, 3, 2])
    objective, params = fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(seeded(), dtype=torch.float32)
    batch = normal(N, 4, dtype=torch.float32), labels(N, 2)
    results = (
        fn.per_sample(fn.explicit(objective))(params, batch),
        fn.per_sample_norms(objective)(params, batch),
        fn.per_sample_clip(objective, 0.1)(params, batch),
    )
    assert {leaf.dtype for leaf in fn.tree.leaves(results)} == {torch.float32}


BY_HAND, PARAMS, BATCH = scene(("mlp of depth 2", "softmax cross entropy"))
INPUTS, TARGETS = BATCH
CALLS = {
    "per_sample": fn.per_sample(fn.explicit(BY_HAND)),
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
    "inputs too narrow": (PARAMS, (INPUTS[:, :3], TARGETS), "inputs of params[0]", "(6, 3)", "(N, 4)"),
    "an empty batch": (PARAMS, (INPUTS[:0], TARGETS[:0]), "batch[0]", "(0, 4)", "at least one sample"),
    "inputs alone": (PARAMS, INPUTS, "batch", "(6, 4)", "pair"),
    "one target short": (PARAMS, (INPUTS, TARGETS[1:]), "batch[1]", "(5,)", "6 samples"),
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
        centred()._replace(backward=lambda r, dy: ({"scale": dy.sum()}, dy)),
        fn.softmax_cross_entropy(),
        "grads['scale']",
    ),
    "a loss's gradient": (fn.dense(4, 3), fn.Loss(PLAIN_ENTROPY.forward, lambda r: r[0][:, :1]), "dy"),
    "a loss's value": (fn.dense(4, 3), fn.Loss(lambda y, t: (y, ()), lambda r: r), "loss.forward(outputs, targets)[0]"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", WRONG)
def test_so_are_rules_of_the_wrong_shape(name):
    layer, loss, place = WRONG[name]
    with pytest.raises(fn.InputError) as caught:
        fn.per_sample_norms(fn.supervised(layer, loss))(layer.init(seeded()), (normal(N, 4), labels(N, 3)))
    assert says(caught.value, place, "shape", "")


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("max_norm", [0, -1.0, math.nan, math.inf, "1", None, True])
def test_a_bound_must_be_a_positive_number(max_norm):
    with pytest.raises(fn.InputError) as caught:
        fn.per_sample_clip(BY_HAND, max_norm)
    assert says(caught.value, "max_norm", "", "a number of at least")
