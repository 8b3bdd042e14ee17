from itertools import product

import pytest
import torch
from helpers import assert_close, classifier, normal, same_bits

import funcnn as fn

STEPS = 10
LR, BETA, ALPHA, EPS = [0.0, 1e-3, 0.5], [0.0, 0.5, 0.9], [0.0, 0.5, 0.99], [0.0, 1e-8, 1e-2]
SGD, RMSprop, Adam = torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adam

# (name, ours, the same in torch.optim), for every combination of the hyperparameters that both have
FAMILIES = {
    "sgd": [(fn.sgd(lr), lambda w, lr=lr: SGD(w, lr)) for lr in LR],
    "momentum": [(fn.momentum(*h), lambda w, h=h: SGD(w, h[0], momentum=h[1])) for h in product(LR, BETA)],
    "rmsprop": [(fn.rmsprop(*h), lambda w, h=h: RMSprop(w, *h)) for h in product(LR, ALPHA, EPS)],
    "adam": [
        (fn.adam(lr, (b1, b2), eps), lambda w, h=(lr, (b1, b2), eps): Adam(w, *h))
        for lr, b1, b2, eps in product(LR, BETA, ALPHA, EPS)
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
