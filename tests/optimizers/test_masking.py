import numpy as np
import pytest
import torch
import torchopt
from helpers import TOLERANCES, assert_close, labels, normal, same_bits, says, seeded
from torch.nn.utils import clip_grad_norm_

import funcnn as fn
from funcnn.objectives import of_some

LAYER = fn.serial(fn.dense(3, 4), fn.tanh(), fn.dense(4, 2))
OBJECTIVE = fn.supervised(LAYER, fn.softmax_cross_entropy())
STEP_FN = fn.explicit(OBJECTIVE)
PARAMS, BATCH = LAYER.init(seeded(), dtype=torch.float64), (normal(5, 3), labels(5, 2))
MASKS = {
    "the head": (False, (), True),
    "the body": (True, (), False),
    "biases": ({"w": False, "b": True}, (), {"w": False, "b": True}),
    "all": True,
    "none": False,
}
every_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)


def walk(optimizer, steps=4, step_fn=STEP_FN, params=PARAMS):
    return list(fn.train(step_fn, optimizer, params, [BATCH] * steps))


def which(mask, params=PARAMS):
    return fn.tree.leaves(fn.tree.spread("mask", mask, params))


@every_mask
@pytest.mark.parametrize("provider", fn.PROVIDERS)
def test_every_provider_gives_the_gradients_of_some_parameters(provider, mask):
    step_fn = fn.PROVIDERS[provider](OBJECTIVE)
    value, grads = of_some(step_fn.value_and_grad, PARAMS, BATCH, which(mask))
    expected, all_of_them = STEP_FN(PARAMS, BATCH)
    assert_close(value, expected, 1e-14)
    assert_close(grads, fn.tree.parted(fn.tree.leaves(all_of_them), which(mask))[0], TOLERANCES[provider])


# name: (an optimizer, the same in torch.optim for what is trained, a bound on the gradient)
THERE = {
    "sgd": (fn.sgd(0.1), lambda w: torch.optim.SGD(w, 0.1), None),
    "adamw": (fn.adamw(0.01), lambda w: torch.optim.AdamW(w, 0.01), None),
    "a chain": (fn.chain(fn.clip_by_norm(0.1), fn.adam(0.01)), lambda w: torch.optim.Adam(w, 0.01), 0.1),
    "a foreign one": (torchopt.adam(0.01), lambda w: torch.optim.Adam(w, 0.01), None),
}


@pytest.mark.parametrize("name", THERE)
@pytest.mark.parametrize("mask", [MASKS[name] for name in ("the head", "the body", "biases")])
def test_over_a_hundred_steps_it_goes_where_torch_goes_with_parameters_that_require_no_gradient(name, mask):
    ours, make, bound = THERE[name]
    leaves, unflatten = fn.tree.flatten(fn.tree.clone(PARAMS))
    own, _ = fn.tree.parted(leaves, which(mask))
    for leaf in own:
        leaf.requires_grad_()
    theirs = make(own)
    for step in walk(fn.masked(ours, mask), 100):
        theirs.zero_grad()
        OBJECTIVE.value(unflatten(leaves), BATCH).backward()
        if bound is not None:
            clip_grad_norm_(own, bound)
        theirs.step()
        there = unflatten([leaf.detach() for leaf in leaves])
        moved, expected = (fn.tree.add_scaled(point, -1.0, PARAMS) for point in (step.params, there))
        assert_close(moved, expected, 1e-12)


OPTIMIZERS = {
    "sgd": fn.sgd(0.1),
    "adamw, a schedule": fn.adamw(fn.cosine(0.1, 9)),
    "a chain": fn.chain(fn.clip_by_norm(0.1), fn.momentum(0.1)),
    "in a chain": fn.adam(0.1),
    "nesterov": fn.nesterov(0.1),
    "line_search": fn.line_search(),
    "bfgs": fn.bfgs(),
    "torchopt": torchopt.adam(0.1),
}


@every_mask
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_frozen_keeps_its_bits_and_the_rest_moves(name, mask):
    optimizer = fn.masked(OPTIMIZERS[name], mask)
    assert isinstance(optimizer, type(OPTIMIZERS[name]) if name != "torchopt" else fn.Transformation)
    optimizer = fn.chain(fn.clip_by_norm(1.0), optimizer) if name == "in a chain" else optimizer
    params = fn.tree.clone(PARAMS)
    params[0]["b"][0], params[2]["b"][0] = -0.0, 1e-310
    before = fn.tree.clone(params)
    *_, last = walk(optimizer, params=params)
    for leaf, start, own in zip(fn.tree.leaves(last.params), fn.tree.leaves(params), which(mask), strict=True):
        assert (not torch.equal(leaf, start)) if own else torch.equal(leaf.view(torch.int64), start.view(torch.int64))
    assert same_bits(params, before)


def test_the_state_is_that_of_the_part():
    *_, last = walk(fn.masked(fn.adam(0.1), MASKS["biases"]))
    assert fn.tree.paths(last.state.m) == ["params[0]['b']", "params[2]['b']"]
    assert same_bits(walk(fn.masked(fn.adam(0.1), True)), walk(fn.adam(0.1)))


@pytest.mark.parametrize("name", ["adamw, a schedule", "nesterov"])
def test_a_compiled_step_has_the_numbers_of_the_step(name, monkeypatch):
    graphs = []
    monkeypatch.setattr(torch._inductor, "compile", lambda graph, inputs, options=None: graphs.append(graph) or graph)
    optimizer = fn.masked(OPTIMIZERS[name], MASKS["the head"])
    for step, expected in zip(walk(fn.compiled(optimizer)), walk(optimizer), strict=True):
        assert_close(step, expected, 1e-14)
    assert len(graphs) == 1


def test_a_compiled_step_leaves_the_frozen_ones_as_they_are():
    optimizer = fn.masked(fn.sgd(0.1), MASKS["the head"])
    for step, expected in zip(walk(fn.compiled(optimizer), 2), walk(optimizer, 2), strict=True):
        assert_close(step, expected, 1e-14)
        assert same_bits(step.params[0], PARAMS[0])


def test_an_ensemble_is_stepped_under_vmap():
    optimizer = fn.descend(fn.masked(fn.momentum(0.1), MASKS["the head"]))
    step = optimizer.step
    for provider in ("explicit", "func_grad", "autograd"):
        at = fn.At(fn.PROVIDERS[provider](OBJECTIVE), BATCH)
        members = [LAYER.init(seeded(seed)) for seed in range(2)]
        states = [
            fn.tree.zeros_like(((), (), member[2]) if False else ({"b": (), "w": ()}, (), member[2])) for member in members
        ]
        stacked = fn.tree.map(lambda *leaves: torch.stack(leaves), *zip(members, states, strict=True))
        together = torch.func.vmap(lambda params, state, at=at: step(at, params, state))(*stacked)
        for index, (params, state) in enumerate(zip(members, states, strict=True)):
            assert_close(fn.tree.map(lambda leaf, index=index: leaf[index], together), step(at, params, state), 1e-14)


@every_mask
def test_an_update_by_hand_is_zero_where_it_is_frozen(mask):
    transformation = fn.masked(fn.adam(0.1), mask)
    _, grads = STEP_FN(PARAMS, BATCH)
    updates, state = transformation.update(grads, transformation.init(PARAMS), PARAMS)
    step = walk(transformation, 1)[0]
    assert_close((fn.tree.add(PARAMS, updates), state), (step.params, step.state), 1e-15)
    _, frozen = fn.tree.parted(fn.tree.leaves(updates), which(mask))
    assert not any(leaf.any() for leaf in frozen)
    assert same_bits(transformation.update(grads, transformation.init(PARAMS)), (updates, state))


def test_of_a_sum_each_term_leaves_out_what_it_can():
    objective = fn.regularised(OBJECTIVE, fn.l2(0.1), 3.0)
    for trained in (which(mask) for mask in MASKS.values()):
        found = of_some(fn.explicit(objective).value_and_grad, PARAMS, BATCH, trained)
        value, grads = fn.func_grad(objective)(PARAMS, BATCH)
        assert_close(found, (value, fn.tree.parted(fn.tree.leaves(grads), trained)[0]), 1e-14)


@pytest.mark.parametrize("provider", ["func_grad", "autograd"])
def test_a_tape_is_recorded_for_trained_parameters_alone(provider):
    seen = []

    def value(params, batch):
        seen.append([leaf.requires_grad for leaf in fn.tree.leaves(params)])
        return OBJECTIVE.value(params, batch)

    walk(fn.masked(fn.sgd(0.1), MASKS["biases"]), 2, fn.PROVIDERS[provider](fn.Objective(value)))
    assert seen == [which(MASKS["biases"])] * 2


@pytest.mark.parametrize(("provider", "points"), [("forward_difference", 1), ("central_difference", 2)])
def test_differences_move_trained_entries_alone(provider, points):
    count = 0

    def value(params, batch):
        nonlocal count
        count += 1
        assert (params["w"].sum() + params["b"].sum()) > 0  # what looks at values is evaluated one by one
        return (params["w"] * params["w"]).sum() + params["b"].sum()

    params, batch = {"w": torch.ones(4), "b": torch.ones(7)}, torch.ones(1)
    step_fn = fn.PROVIDERS[provider](fn.Objective(value))
    counts = {}
    for name, mask in {"all": True, "w": {"w": True, "b": False}, "none": False}.items():
        count = 0
        of_some(step_fn.value_and_grad, params, batch, which(mask, params))
        counts[name] = count
    tries = counts["w"] - counts["none"] - 4 * points  # vmap was tried, once for the leaf
    assert counts["none"] == 1 and tries == 1 and counts["all"] == 1 + 2 * tries + 11 * points


BAD = {
    "another tree": (lambda: walk(fn.masked(fn.sgd(0.1), (True, False))), "mask", "the tree", "or a prefix"),
    "a deeper tree": (
        lambda: walk(fn.masked(fn.sgd(0.1), (True, (), {"w": (True,), "b": True}))),
        "mask",
        "the tree",
        "prefix",
    ),
    "a number": (lambda: fn.masked(fn.sgd(0.1), (True, (), 1)), "mask[2]", "1", "True or False"),
    "None": (lambda: fn.masked(fn.sgd(0.1), {"w": None}), "mask['w']", "None", "True or False"),
    "a tensor": (lambda: fn.masked(fn.sgd(0.1), torch.tensor(True)), "mask", "shape () of bool", "True or False"),
    "of NumPy": (lambda: fn.masked(fn.sgd(0.1), np.ones(2)), "mask", "a ndarray", "True or False"),
    "no optimizer": (lambda: fn.masked("sgd", True), "optimizer_fn", "'sgd'", ".init and .update"),
    "no point": (
        lambda: fn.descend(fn.masked(fn.sgd(0.1), True)).step(lambda params: STEP_FN(params, BATCH), PARAMS, ()),
        "at",
        "a function",
        "At(step_fn, batch)",
    ),
    "no gradients": (
        lambda: fn.masked(fn.sgd(0.1), True).update({"w": None}, ()),
        "params['w']",
        "None",
        "a floating tensor",
    ),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", BAD)
def test_the_error_names_the_place(name):
    call, *message = BAD[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)
