from itertools import product

import pytest
import torch
import torchopt
from helpers import assert_close, classifier, normal, same_bits

import funcnn as fn

STEPS = 20
LR, BETA, ALPHA, EPS = [0.0, 1e-3, 0.1, 0.5], [0.0, 0.5, 0.9], [0.5, 0.9, 0.99], [0.0, 1e-8, 1e-2]
SGD, RMSprop, Adam = torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adam

# (name, ours, the same in torch.optim), for every combination of the hyperparameters that both have
AGAINST_TORCH = [
    *[(f"sgd {lr}", fn.sgd(lr), lambda w, lr=lr: SGD(w, lr)) for lr in LR],
    *[
        (f"momentum {lr} {beta}", fn.momentum(lr, beta), lambda w, lr=lr, beta=beta: SGD(w, lr, momentum=beta))
        for lr, beta in product(LR, BETA)
    ],
    *[
        (f"rmsprop {lr} {alpha} {eps}", fn.rmsprop(lr, alpha, eps), lambda w, h=(lr, alpha, eps): RMSprop(w, *h))
        for lr, alpha, eps in product(LR, ALPHA, EPS)
    ],
    *[
        (f"adam {lr} {b1} {b2} {eps}", fn.adam(lr, (b1, b2), eps), lambda w, h=(lr, (b1, b2), eps): Adam(w, *h))
        for lr, b1, b2, eps in product(LR, BETA, ALPHA, EPS)
    ],
    ("momentum, defaults", fn.momentum(0.1), lambda w: SGD(w, 0.1, momentum=0.9)),
    ("rmsprop, defaults", fn.rmsprop(0.01), lambda w: RMSprop(w, 0.01)),
    ("adam, defaults", fn.adam(0.01), lambda w: Adam(w, 0.01)),
    ("torchopt.sgd", torchopt.sgd(0.1), lambda w: SGD(w, 0.1)),
    ("torchopt.sgd, momentum", torchopt.sgd(0.1, momentum=0.8), lambda w: SGD(w, 0.1, momentum=0.8)),
    (
        "torchopt.sgd, nesterov",
        torchopt.sgd(0.1, momentum=0.8, nesterov=True),
        lambda w: SGD(w, 0.1, momentum=0.8, nesterov=True),
    ),
    ("torchopt.adam", torchopt.adam(0.01), lambda w: Adam(w, 0.01)),
    ("torchopt.rmsprop", torchopt.rmsprop(0.01), lambda w: RMSprop(w, 0.01)),
]
# Without a memory of the squares the path on a network is chaotic, so these are compared on given gradients only.
FORGETFUL = [
    *[
        (f"rmsprop {lr} 0 {eps}", fn.rmsprop(lr, 0.0, eps), lambda w, h=(lr, 0.0, eps): RMSprop(w, *h))
        for lr, eps in product(LR, EPS)
    ],
    *[
        (f"adam {lr} {b1} 0 {eps}", fn.adam(lr, (b1, 0.0), eps), lambda w, h=(lr, (b1, 0.0), eps): Adam(w, *h))
        for lr, b1, eps in product(LR, BETA, EPS)
    ],
]
OURS = {
    "sgd": fn.sgd(0.1),
    "momentum": fn.momentum(0.1),
    "nesterov": fn.nesterov(0.1),
    "rmsprop": fn.rmsprop(0.01),
    "adam": fn.adam(0.01),
    "line_search": fn.line_search(),
    "exact_line_search": fn.exact_line_search(),
}
FOREIGN = {name: optimizer for name, optimizer, _ in AGAINST_TORCH if name.startswith("torchopt")}


def against_torch(rows):
    return pytest.mark.parametrize(("optimizer", "make"), [row[1:] for row in rows], ids=[row[0] for row in rows])


every_optimizer = pytest.mark.parametrize("optimizer", [*OURS.values(), *FOREIGN.values()], ids=[*OURS, *FOREIGN])


def torch_walk(make, objective, params, batches):
    """The points that an optimizer of torch.optim visits, and the optimizer."""
    leaves, unflatten = fn.tree.flatten(fn.tree.map(lambda leaf: leaf.clone().requires_grad_(), params))
    optimizer, points = make(leaves), []
    for batch in batches:
        optimizer.zero_grad()
        objective.value(unflatten(leaves), batch).backward()
        optimizer.step()
        points.append(unflatten([leaf.detach().clone() for leaf in leaves]))
    return points, optimizer


def displacements(points, start):
    return [fn.tree.add_scaled(point, -1.0, start) for point in points]


def assert_same_walk(optimizer, make, objective, params, batches, tolerance):
    ours = [step.params for step in fn.train(fn.func_grad(objective), optimizer, params, batches)]
    theirs, _ = torch_walk(make, objective, params, batches)
    for step, expected in zip(displacements(ours, params), displacements(theirs, params), strict=True):
        assert_close(step, expected, tolerance)


@against_torch(AGAINST_TORCH)
def test_every_step_on_a_network_goes_where_torch_goes(optimizer, make):
    objective, params, batch = classifier()
    assert_same_walk(optimizer, make, objective, params, [batch] * STEPS, 1e-10)


@against_torch([*AGAINST_TORCH, *FORGETFUL])
def test_every_step_along_given_gradients_goes_where_torch_goes(optimizer, make):
    slope = fn.Objective(lambda w, gradient: (w * gradient[0]).sum())
    gradients = [normal(1, 5, seed=seed) for seed in range(STEPS)]
    assert_same_walk(optimizer, make, slope, normal(5), gradients, 1e-13)


@pytest.mark.parametrize(("lr", "beta"), list(product([0.01, 0.3], [0.1, 0.5, 0.9])))
def test_the_look_ahead_points_of_nesterov_are_the_iterates_of_torch(lr, beta):
    objective, params, batch = classifier()
    steps = fn.train(fn.explicit(objective), fn.nesterov(lr, beta), params, [batch] * STEPS)
    ours = [fn.tree.add_scaled(step.params, beta, step.state) for step in steps]
    theirs, _ = torch_walk(lambda w: SGD(w, lr, momentum=beta, nesterov=True), objective, params, [batch] * STEPS)
    for step, expected in zip(displacements(ours, params), displacements(theirs, params), strict=True):
        assert_close(step, expected, 1e-13)


def test_nesterov_without_momentum_is_gradient_descent():
    objective, params, batch = classifier()
    ahead, plain = (
        list(fn.train(fn.explicit(objective), optimizer, params, [batch] * STEPS))
        for optimizer in (fn.nesterov(0.3, 0.0), fn.sgd(0.3))
    )
    assert_close(ahead[-1].params, plain[-1].params, 1e-14)


@pytest.mark.parametrize(("lr", "beta"), list(product([0.01, 0.3], [0.1, 0.9])))
def test_the_velocity_is_minus_the_learning_rate_times_the_buffer_of_torch(lr, beta):
    objective, params, batch = classifier()
    *_, last = fn.train(fn.explicit(objective), fn.momentum(lr, beta), params, [batch] * STEPS)
    _, theirs = torch_walk(lambda w: SGD(w, lr, momentum=beta), objective, params, [batch] * STEPS)
    buffers = [theirs.state[leaf]["momentum_buffer"] for leaf in theirs.param_groups[0]["params"]]
    assert_close(fn.tree.leaves(last.state), [-lr * buffer for buffer in buffers], 1e-13)


@every_optimizer
def test_neither_the_trees_of_the_caller_nor_earlier_steps_are_overwritten(optimizer):
    objective, params, batch = classifier()
    given = fn.tree.clone(params)
    steps, copies = [], []
    for step in fn.train(fn.explicit(objective), optimizer, params, [batch] * 6):
        steps.append(step)
        copies.append(fn.tree.clone(step))
    resumed = list(fn.train(fn.explicit(objective), optimizer, steps[2].params, [batch] * 3, state=steps[2].state))
    assert same_bits(params, given)
    assert all(same_bits(step, copy) for step, copy in zip(steps, copies, strict=True))
    assert all(same_bits(step, again) for step, again in zip(steps[3:], resumed, strict=True))


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


@pytest.mark.parametrize("optimizer", OURS.values(), ids=OURS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (3,)], ids=["a scalar", "a vector"])
def test_parameters_keep_their_dtype_and_shape(optimizer, dtype, shape):
    objective = fn.Objective(lambda w, batch: (w - batch.mean()).square().sum())
    w, batch = normal(*shape, dtype=dtype), torch.ones(2, dtype=dtype)
    for step in fn.train(fn.func_grad(objective), optimizer, w, [batch] * 3):
        assert step.params.dtype == step.value.dtype == dtype and step.params.shape == shape


@every_optimizer
def test_without_parameters_nothing_happens(optimizer):
    objective = fn.Objective(lambda params, batch: batch.mean())
    for step in fn.train(fn.autograd(objective), optimizer, (), [torch.ones(2)] * 2):
        assert step.params == () and step.value == 1
