from itertools import product

import pytest
import torch
from helpers import assert_close, classifier, normal, same_bits

import funcnn as fn
from funcnn.optimizers.transformations import AdamState

STEPS = 10
LR, BETA, ALPHA, EPS = [0.0, 1e-3, 0.5], [0.0, 0.5, 0.9], [0.0, 0.5, 0.99], [0.0, 1e-8, 1e-2]
SGD, RMSprop, Adam, AdamW = torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adam, torch.optim.AdamW

# (name, ours, the same in torch.optim), for every combination of the hyperparameters that both have
FAMILIES = {
    "sgd": [(fn.sgd(lr), lambda w, lr=lr: SGD(w, lr)) for lr in LR],
    "momentum": [(fn.momentum(*h), lambda w, h=h: SGD(w, h[0], momentum=h[1])) for h in product(LR, BETA)],
    "rmsprop": [(fn.rmsprop(*h), lambda w, h=h: RMSprop(w, *h)) for h in product(LR, ALPHA, EPS)],
    "adam": [
        (fn.adam(lr, (b1, b2), eps), lambda w, h=(lr, (b1, b2), eps): Adam(w, *h))
        for lr, b1, b2, eps in product(LR, BETA, ALPHA, EPS)
    ],
    "adamw": [
        (fn.adamw(lr, (b1, 0.99), 1e-8, decay), lambda w, h=(lr, (b1, 0.99), 1e-8, decay): AdamW(w, *h))
        for lr, b1, decay in product(LR, BETA, [0.0, 1e-2, 0.5])
    ],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_along_given_gradients_every_choice_of_hyperparameters_goes_where_torch_goes(family):
    # On a network the path without a memory of the squares is chaotic, and could be compared for a few steps only.
    gradients, start = [normal(1, 5, seed=seed) for seed in range(STEPS)], normal(5)
    for ours, make in FAMILIES[family]:
        w = start.clone().requires_grad_()
        theirs = make([w])
        steps = fn.train(lambda w, batch: ((w * batch[0]).sum(), batch[0]), ours, start, gradients)
        for step, gradient in zip(steps, gradients, strict=True):
            w.grad = gradient[0].clone()
            theirs.step()
            assert_close(step.params - start, w.detach() - start, 1e-13)


def of_adam(w, state):
    zero = torch.zeros_like(w)
    m, v, steps = (state.get(name, other) for name, other in (("exp_avg", zero), ("exp_avg_sq", zero), ("step", zero.sum())))
    return AdamState(m.clone(), v.clone(), steps.double())


# name: (ours, the same in torch.optim, our state for one of its parameters)
STATES = {
    "sgd": (fn.sgd(0.1), lambda w: SGD(w, 0.1), lambda w, state: ()),
    "momentum": (
        fn.momentum(0.1),
        lambda w: SGD(w, 0.1, momentum=0.9),
        lambda w, state: -0.1 * state.get("momentum_buffer", torch.zeros_like(w)),
    ),
    "rmsprop": (
        fn.rmsprop(0.01),
        lambda w: RMSprop(w, 0.01),
        lambda w, state: state.get("square_avg", torch.zeros_like(w)).clone(),
    ),
    "adam": (fn.adam(0.01), lambda w: Adam(w, 0.01), of_adam),
    "adamw": (fn.adamw(0.01), lambda w: AdamW(w, 0.01), of_adam),
    "adamw, a large decay": (fn.adamw(0.01, weight_decay=0.5), lambda w: AdamW(w, 0.01, weight_decay=0.5), of_adam),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", STATES)
def test_each_of_a_hundred_steps_of_torch_is_one_of_ours_to_one_unit_in_the_last_place_of_the_largest_entry(name, dtype):
    ours, make, state_of = STATES[name]
    w = normal(50, dtype=dtype).requires_grad_()
    theirs = make([w])
    for seed in range(100):
        gradient, before = normal(1, 50, seed=seed, dtype=dtype), w.detach().clone()
        state = state_of(before, theirs.state[w])
        (step,) = fn.train(lambda w, batch: ((w * batch[0]).sum(), batch[0]), ours, before, [gradient], state=state)
        w.grad = gradient[0].clone()
        theirs.step()
        largest = torch.maximum(before.abs(), w.detach().abs()).max()
        assert (step.params - w.detach()).abs().max() <= torch.nextafter(largest, 2 * largest) - largest


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", STATES)
def test_over_a_hundred_steps_the_roundings_do_not_add_up_to_more_than_a_few_units(name, dtype):
    ours, make, _ = STATES[name]
    gradients, start = [normal(1, 50, seed=seed, dtype=dtype) for seed in range(100)], normal(50, dtype=dtype)
    w = start.clone().requires_grad_()
    theirs = make([w])
    steps = fn.train(lambda w, batch: ((w * batch[0]).sum(), batch[0]), ours, start, gradients)
    for step, gradient in zip(steps, gradients, strict=True):
        w.grad = gradient[0].clone()
        theirs.step()
        units = (step.params - w.detach()).abs().max() / (torch.finfo(dtype).eps * w.detach().abs().max())
        assert units <= 4, units


def test_adamw_without_decay_is_adam():
    objective, params, batch = classifier()
    for plain, decoupled in zip(
        *(fn.train(fn.explicit(objective), it, params, [batch] * 5) for it in (fn.adam(0.1), fn.adamw(0.1, weight_decay=0))),
        strict=True,
    ):
        assert same_bits(plain, decoupled)


@pytest.mark.parametrize("prefix", [False, True], ids=["leaf by leaf", "a prefix"])
def test_decays_may_be_a_tree_as_groups_of_parameters_have_their_own(prefix):
    params = {"body": {"w": normal(3, 3), "b": normal(3)}, "head": {"w": normal(3), "b": normal()}}
    decays = {"body": 0.3, "head": 0.0} if prefix else fn.tree.map(lambda w: 0.3 if w.ndim > 1 else 0.0, params)
    leaves, unflatten = fn.tree.flatten(fn.tree.map(lambda leaf: leaf.clone().requires_grad_(), params))
    decaying = fn.tree.leaves({"body": {"w": True, "b": prefix}, "head": {"w": False, "b": False}})
    groups = [
        {"params": [leaf for leaf, own in zip(leaves, decaying, strict=True) if own], "weight_decay": 0.3},
        {"params": [leaf for leaf, own in zip(leaves, decaying, strict=True) if not own], "weight_decay": 0.0},
    ]
    theirs = AdamW(groups, 0.01)
    for step in fn.train(lambda p, b: (b.sum(), p), fn.adamw(0.01, weight_decay=decays), params, [torch.ones(1)] * 20):
        for leaf in leaves:
            leaf.grad = leaf.detach().clone()
        theirs.step()
        assert_close(step.params, unflatten([leaf.detach() for leaf in leaves]), 1e-14)


# name: (decays, the place and what is said of it)
NO_DECAYS = {
    "negative": (-0.1, r"^weight_decay: got -0.1, needs a number of at least 0"),
    "nothing": (None, r"^weight_decay: got None"),
    "one negative": ({"w": 0.1, "b": -0.1}, r"^weight_decay\['b'\]: got -0.1"),
    "of other parameters": ({"w": 0.1}, r"(?s)^weight_decay: got the tree .*needs the tree of params.*or a prefix"),
    "deeper": ({"w": {"x": 0.1}, "b": 0.1}, r"(?s)^weight_decay: got the tree"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", NO_DECAYS)
def test_what_is_no_decay_of_the_parameters_is_refused(name):
    decays, message = NO_DECAYS[name]
    params = {"w": normal(3), "b": normal()}
    with pytest.raises(fn.InputError, match=message):
        list(fn.train(lambda p, b: (b.sum(), p), fn.adamw(0.1, weight_decay=decays), params, [torch.ones(1)]))


@pytest.mark.parametrize(("lr", "beta"), list(product([0.01, 0.3], [0.1, 0.9])))
def test_the_velocity_is_minus_the_learning_rate_times_the_buffer_of_torch(lr, beta):
    gradients, start = [normal(1, 5, seed=seed) for seed in range(STEPS)], normal(5)
    w = start.clone().requires_grad_()
    theirs = SGD([w], lr, momentum=beta)
    *_, last = fn.train(lambda w, batch: ((w * batch[0]).sum(), batch[0]), fn.momentum(lr, beta), start, gradients)
    for gradient in gradients:
        w.grad = gradient[0].clone()
        theirs.step()
    assert_close(last.state, -lr * theirs.state[w]["momentum_buffer"], 1e-13)


def test_nesterov_without_momentum_is_gradient_descent():
    objective, params, batch = classifier()
    ahead, plain = (
        list(fn.train(fn.explicit(objective), optimizer, params, [batch] * STEPS))
        for optimizer in (fn.nesterov(0.3, 0.0), fn.sgd(0.3))
    )
    assert_close(ahead[-1].params, plain[-1].params, 1e-14)


def test_a_lifted_transformation_is_the_transformation():
    objective, params, batch = classifier()
    plain, lifted = (
        list(fn.train(fn.explicit(objective), optimizer, params, [batch] * 5))
        for optimizer in (fn.adam(0.1), fn.descend(fn.adam(0.1)))
    )
    assert all(same_bits(step, again) for step, again in zip(plain, lifted, strict=True))


class Vandal:
    """A foreign optimizer that does gradient descent and overwrites everything that it is given."""

    def init(self, params):
        return fn.tree.zeros_like(params)

    def update(self, grads, state, *, params):
        for leaf in fn.tree.leaves((state, params)):
            leaf.fill_(13.0)
        return fn.tree.map(lambda g: g.mul_(-0.1), grads), state


def test_a_foreign_optimizer_that_overwrites_all_it_is_given_harms_nobody():
    objective, params, batch = classifier()
    given = fn.tree.clone(params)
    step_fn = fn.explicit(objective)
    vandal, sgd = (list(fn.train(step_fn, optimizer, params, [batch] * 5)) for optimizer in (Vandal(), fn.sgd(0.1)))
    assert same_bits(params, given)
    for ours, theirs in zip(sgd, vandal, strict=True):
        assert_close(theirs.params, ours.params, 1e-15)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("eps", [0.0, 1e-300, 1e-50, 1e-8])
@pytest.mark.parametrize("make", [fn.rmsprop, fn.adam])
def test_zero_stays_zero_where_eps_is_none_or_underflows(make, eps, dtype):
    transformation, zero = make(0.1, eps=eps), torch.zeros(3, dtype=dtype)
    state = transformation.init(zero)
    for _ in range(3):
        update, state = transformation.update(zero, state, zero)
        assert same_bits(update.abs(), zero)


@pytest.mark.parametrize("make", [fn.rmsprop, fn.adam])
def test_without_eps_a_gradient_that_is_not_zero_is_as_in_torch(make):
    # eps is then the least positive number, which is far below any square root of a square.
    w = torch.ones(1, dtype=torch.float32)
    (update, _) = make(0.1, eps=0.0).update(1e-10 * w, make(0.1, eps=0.0).init(w), w)
    assert_close(update, torch.full_like(w, -0.1 if make is fn.adam else -1.0), 1e-6)
