import pytest
import torch
import torch.nn.functional as F
from helpers import TOLERANCES, assert_close, labels, normal, one_by_one, same_bits, says, seeded
from tables import tempered

import funcnn as fn

N = 6
NETWORK = fn.serial(fn.dense(4, 5), tempered(), fn.tanh(), fn.dense(5, 3))
PARAMS = NETWORK.init(seeded(), dtype=torch.float64)
BATCH = {"x": normal(N, 4), "label": labels(N, 3), "aim": normal(N, 3, seed=1), "mask": labels(N, 2, seed=2).bool()}
CLASSES = fn.supervised(NETWORK, fn.softmax_cross_entropy(), "x", "label")
AIMS = fn.supervised(NETWORK, fn.half_squared_error(), "x", "aim")


def outputs(params, batch):
    first, own, _, last = params
    hidden = (batch["x"] @ first["w"] + first["b"]) * own["factor"] + own["shift"][0]
    return hidden.tanh() @ last["w"] + last["b"]


def of_classes(params, batch):
    return F.cross_entropy(outputs(params, batch), batch["label"])


def of_aims(params, batch):
    return (outputs(params, batch) - batch["aim"]).square().sum() / (2 * N)


def squares(params):
    return sum(leaf.square().sum() for leaf in fn.tree.leaves(params)) / 2


def sizes(params):
    return sum(leaf.abs().sum() for leaf in fn.tree.leaves(params))


def weights(params):
    return 0.1 * (params[0]["w"] ** 4).sum()


def weights_by_hand(params, batch):
    zero = fn.tree.zeros_like(params)
    return weights(params), ({"w": 0.4 * params[0]["w"] ** 3, "b": zero[0]["b"]}, *zero[1:])


BY_HAND = fn.Objective(lambda params, batch: weights(params), weights_by_hand)

# name: (the objective, its formula); those by "a function" have no gradient derived by hand
SUMS = {
    "l2": (fn.regularised(CLASSES, fn.l2(0.3)), lambda p, b: of_classes(p, b) + 0.3 * squares(p)),
    "l1": (fn.regularised(CLASSES, fn.l1(0.2)), lambda p, b: of_classes(p, b) + 0.2 * sizes(p)),
    "both": (
        fn.regularised(fn.regularised(CLASSES, fn.l1(0.2)), fn.l2(0.3)),
        lambda p, b: of_classes(p, b) + 0.2 * sizes(p) + 0.3 * squares(p),
    ),
    "two losses": (fn.regularised(CLASSES, AIMS), lambda p, b: of_classes(p, b) + of_aims(p, b)),
    "a weight": (fn.regularised(CLASSES, AIMS, 0.5), lambda p, b: of_classes(p, b) + 0.5 * of_aims(p, b)),
    "three terms": (
        fn.regularised(AIMS, fn.regularised(CLASSES, fn.l2(0.3)), weight=0.2),
        lambda p, b: of_aims(p, b) + 0.2 * (of_classes(p, b) + 0.3 * squares(p)),
    ),
    "a weighted function": (fn.regularised(CLASSES, squares, 0.3), lambda p, b: of_classes(p, b) + 0.3 * squares(p)),
    "one's own": (fn.regularised(CLASSES, BY_HAND), lambda p, b: of_classes(p, b) + weights(p)),
    "l2 alone": (fn.l2(0.3), lambda p, b: 0.3 * squares(p)),
    "by a function": (fn.regularised(CLASSES, weights), lambda p, b: of_classes(p, b) + weights(p)),
    "a function of the batch": (
        fn.regularised(fn.Objective(of_classes), lambda params: 0.3 * squares(params)),
        lambda p, b: of_classes(p, b) + 0.3 * squares(p),
    ),
}
EXPLICIT = [name for name in SUMS if SUMS[name][0].value_and_grad is not None]
FITTING = [(name, provider) for name in SUMS for provider in fn.PROVIDERS if provider != "explicit" or name in EXPLICIT]
FITTING = [pair for pair in FITTING if pair[1] != "complex_step" or pair[0] not in ("l1", "both")]


def truth(name, params=PARAMS, batch=BATCH):
    """(value, gradient) of the formula by a tape of torch's."""
    leaves, unflatten = fn.tree.flatten(params)
    own = [leaf.clone().requires_grad_() for leaf in leaves]
    value = SUMS[name][1](unflatten(own), batch)
    grads = torch.autograd.grad(value, own, allow_unused=True, materialize_grads=True)
    return value.detach(), unflatten(list(grads))


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(("name", "provider"), FITTING)
def test_value_and_gradient_of_a_sum_are_the_sums_by_every_provider(name, provider):
    step_fn, expected = fn.PROVIDERS[provider](SUMS[name][0]), truth(name)
    assert_close(step_fn(PARAMS, BATCH), expected, TOLERANCES[provider])
    assert_close(step_fn.value(PARAMS, BATCH), expected[0], TOLERANCES["explicit"])


@pytest.mark.parametrize(
    ("name", "provider"), [pair for pair in FITTING if pair[1] in ("explicit", "func_grad", "autograd")]
)
def test_each_sample_has_its_own_loss_and_the_whole_penalty(name, provider):
    step_fn, rounding = fn.PROVIDERS[provider](SUMS[name][0]), TOLERANCES["explicit"]
    values, grads = one_by_one(lambda sample: step_fn(PARAMS, sample), BATCH)
    norms = sum(leaf.reshape(N, -1).square().sum(1) for leaf in fn.tree.leaves(grads)).sqrt()
    assert_close(fn.per_sample(step_fn)(PARAMS, BATCH), (values, grads), rounding)
    assert_close(fn.tree.map(lambda leaf: leaf.mean(0), (values, grads)), step_fn(PARAMS, BATCH), rounding)
    assert_close(fn.per_sample_norms(step_fn)(PARAMS, BATCH), norms, rounding)
    bound = norms.median().item()
    factors = (bound / norms).clamp(max=1)
    clipped = fn.tree.map(lambda leaf: (factors.reshape(-1, *[1] * (leaf.ndim - 1)) * leaf).mean(0), grads)
    assert_close(fn.per_sample_clip(step_fn, bound)(PARAMS, BATCH), (values.mean(), clipped), rounding)


@pytest.mark.parametrize("name", SUMS)
def test_the_check_finds_it_right(name):
    objective = SUMS[name][0]
    assert fn.check((fn.func_grad if objective.value_and_grad is None else fn.explicit)(objective), PARAMS, BATCH)


def test_a_penalty_that_counts_twice_is_found_and_named():
    penalty = fn.l2(0.3)
    twice = penalty._replace(value_and_grad=lambda p, batch: (penalty.value(p, batch), fn.tree.map(lambda w: 0.6 * w, p)))
    network = fn.mlp([4, 3])
    loss, params = fn.supervised(network, fn.softmax_cross_entropy(), "x", "label"), network.init(seeded())
    report = fn.check(fn.explicit(fn.regularised(loss, twice)), params, BATCH)
    assert not report and "0.15)) counts twice" in str(report)


@pytest.mark.parametrize("other", [fn.l2(0.3), AIMS], ids=["beside a penalty", "beside a loss"])
def test_a_mistake_in_the_network_is_named_within_a_sum(other):
    careless = fn.sigmoid()._replace(backward=lambda residuals, dy: ((), dy))
    network = fn.serial(fn.dense(4, 5), careless, fn.dense(5, 3))
    loss = fn.supervised(network, fn.softmax_cross_entropy(), "x", "label")
    params = network.init(seeded())
    other = fn.supervised(fn.mlp([4, 5, 3]), fn.half_squared_error(), "x", "aim") if other is AIMS else other
    report = fn.check(fn.explicit(fn.regularised(loss, other)), params, BATCH)
    assert not report and "the derivative of the activation is missing in layer 1 of the network" in str(report)


def test_differences_of_a_penalty_by_entries_move_one_entry_and_not_all():
    seen = []
    penalty = fn.l2(0.3)
    counted = penalty.value.function._replace(term=lambda w: seen.append(w.numel()) or 0.15 * w * w)
    objective = penalty._replace(value=penalty.value._replace(function=counted))
    params = {"w": normal(50, 40)}
    assert_close(fn.finite_difference(objective)(params, NO_BATCH)[1], {"w": 0.3 * params["w"]}, 1e-8)
    assert sum(seen) <= 10 * params["w"].numel()


NO_BATCH = torch.zeros(1)
RATE = 0.05
TORCHS = {"sgd": (fn.sgd(0.1), {}), "momentum": (fn.momentum(0.1, 0.9), {"momentum": 0.9})}


@pytest.mark.parametrize("name", TORCHS)
def test_l2_is_the_weight_decay_of_torchs_sgd(name):
    optimizer, how = TORCHS[name]
    step_fn = fn.explicit(fn.regularised(CLASSES, fn.l2(RATE)))
    *_, last = fn.train(step_fn, optimizer, PARAMS, [BATCH] * 50)
    leaves, unflatten = fn.tree.flatten(fn.tree.clone(PARAMS))
    theirs = torch.optim.SGD([leaf.requires_grad_() for leaf in leaves], lr=0.1, weight_decay=RATE, **how)
    for _ in range(50):
        theirs.zero_grad()
        of_classes(unflatten(leaves), BATCH).backward()
        theirs.step()
    assert_close(last.params, fn.tree.map(torch.Tensor.detach, unflatten(leaves)), 1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_penalties_are_summed_in_float32_and_sums_are_of_the_dtype_of_the_loss(dtype):
    params = fn.tree.map(lambda leaf: (1e-4 * leaf).to(dtype), PARAMS)  # their squares are below the range of float16
    batch = fn.tree.map(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, BATCH)
    for penalty, formula in ((fn.l2(0.3), lambda p: 0.3 * squares(p)), (fn.l1(0.3), lambda p: 0.3 * sizes(p))):
        exact = formula(fn.tree.map(torch.Tensor.double, params))
        assert torch.isclose(penalty.value(params, batch).double(), exact, rtol=1e-5)
        value, grads = fn.explicit(fn.regularised(CLASSES, penalty))(params, batch)
        assert {value.dtype, *(leaf.dtype for leaf in fn.tree.leaves(grads))} == {dtype}


def test_a_sum_prints_its_terms_and_changes_nothing():
    objective, held = SUMS["l2"][0], fn.tree.clone((PARAMS, BATCH))
    loss = "supervised(serial(dense(4, 5), tempered(...), tanh(), dense(5, 3)), softmax_cross_entropy(), 'x', 'label')"
    assert repr(fn.explicit(objective)) == f"explicit(regularised({loss}, l2(0.3)))"
    assert repr(fn.func_grad(fn.regularised(fn.l1(1), fn.l2(1), 0.5))) == "func_grad(regularised(l1(1), l2(1), 0.5))"
    fn.explicit(objective)(PARAMS, BATCH)
    assert same_bits((PARAMS, BATCH), held)


def of(penalty):
    return lambda: fn.func_grad(fn.regularised(CLASSES, penalty))(PARAMS, BATCH)


def by_hand(grads, objective=CLASSES):
    penalty = fn.Objective(lambda params, batch: weights(params), lambda params, batch: grads(params))
    return lambda: fn.explicit(fn.regularised(objective, penalty))(PARAMS, BATCH)


# the call: (a function without arguments, the place, what was found, what is needed)
REFUSED = {
    "a step function": (
        lambda: fn.regularised(fn.explicit(CLASSES), fn.l2(1)),
        "regularised(objective)",
        "StepFn",
        "Objective",
    ),
    "a rate for the penalty": (lambda: fn.regularised(CLASSES, 1e-3), "regularised(penalty)", "0.001", "l2(1e-3)"),
    "the penalty not called": (
        lambda: fn.func_grad(fn.regularised(CLASSES, fn.l2))(PARAMS, BATCH),
        "rate",
        "a tuple",
        "a number",
    ),
    "a layer": (
        lambda: fn.regularised(CLASSES, fn.relu()),
        "regularised(penalty)",
        "a Layer",
        "a function of the parameters",
    ),
    "a negative weight": (lambda: fn.regularised(CLASSES, AIMS, -1.0), "weight", "-1.0", "at least 0"),
    "a negative rate": (lambda: fn.l2(-1.0), "rate", "-1.0", "at least 0"),
    "a rate that is no number": (lambda: fn.l1(float("nan")), "rate", "nan", "at least 0"),
    "a penalty that is no scalar": (of(lambda params: params[0]["b"]), "penalty(params)", "(5,)", "a scalar"),
    "a penalty that is a number": (of(lambda params: 0.5), "penalty(params)", "0.5", "a scalar"),
    "a penalty of two arguments": (
        of(lambda params, batch: weights(params)),
        "penalty(params)",
        "missing 1",
        "a function of 1 argument",
    ),
    "no gradient derived by hand": (
        lambda: fn.explicit(fn.regularised(CLASSES, weights)),
        "objective.value_and_grad",
        "None",
        "hand-derived",
    ),
    "gradients of one layer": (
        by_hand(lambda params: (weights(params), params[:1])),
        "grads of the penalty",
        "tree",
        "the tree of params",
    ),
    "gradients of another shape": (
        by_hand(lambda params: (weights(params), fn.tree.map(lambda leaf: leaf[None], params))),
        "grads of the penalty[0]['b']",
        "(1, 5)",
        "(5,)",
    ),
    "gradients of another dtype": (
        by_hand(lambda params: (weights(params), fn.tree.map(torch.Tensor.float, params))),
        "grads of the penalty[0]['b']",
        "float32",
        "float64",
    ),
    "gradients alone": (
        by_hand(fn.tree.zeros_like),
        "penalty.value_and_grad(params, batch)",
        "a tuple of 4",
        "(value, grads)",
    ),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_sum_is_refused_by_name(name):
    call, *message = REFUSED[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)
