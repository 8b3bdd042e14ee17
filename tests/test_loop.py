import re
from itertools import count, islice, repeat

import pytest
import torch
from helpers import classifier, normal, same_bits

import funcnn as fn


def shuffled(batch, steps, size=5):
    """That many different batches of a few samples each."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randperm(len(batch[0]), generator=generator)[:size] for _ in range(steps)]
    return [tuple(leaf[chosen] for leaf in batch) for chosen in rows]


def test_no_batch_is_taken_before_its_step_is_asked_for():
    objective, params, batch = classifier()
    taken = count()
    steps = fn.train(fn.explicit(objective), fn.sgd(0.1), params, (batch for _ in iter(lambda: next(taken), -1)))
    assert next(taken) == 0
    next(steps)
    next(steps)
    assert next(taken) == 3


def test_an_endless_iterable_of_batches_may_be_sliced():
    objective, params, batch = classifier()
    steps = list(islice(fn.train(fn.explicit(objective), fn.sgd(0.1), params, repeat(batch)), 3))
    assert len(steps) == 3 and all(isinstance(step, fn.Step) for step in steps)


def test_without_batches_there_are_no_steps():
    objective, params, _ = classifier()
    assert list(fn.train(fn.explicit(objective), fn.sgd(0.1), params, [])) == []


def test_the_value_is_that_before_the_step():
    objective, params, batch = classifier()
    first, second = fn.train(fn.explicit(objective), fn.sgd(0.1), params, [batch] * 2)
    assert torch.equal(first.value, objective.value(params, batch))
    assert torch.equal(second.value, objective.value(first.params, batch)) and second.value < first.value


@pytest.mark.parametrize("provider", fn.PROVIDERS)
@pytest.mark.parametrize("enabled", [True, False])
def test_the_grad_mode_is_that_of_the_caller_between_steps(provider, enabled):
    objective, params, batch = classifier()
    with torch.set_grad_enabled(enabled):
        for _ in fn.train(fn.PROVIDERS[provider](objective), fn.nesterov(0.1), params, [batch] * 3):
            assert torch.is_grad_enabled() == enabled
        assert torch.is_grad_enabled() == enabled


def test_the_grad_mode_survives_a_step_that_fails():
    with pytest.raises(ZeroDivisionError):
        list(fn.train(lambda params, batch: 1 / 0, fn.sgd(0.1), torch.ones(1), [torch.ones(1)]))
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("provider", fn.PROVIDERS)
def test_parameters_that_require_gradients_become_plain_tensors(provider):
    objective, params, batch = classifier((2, 2))
    wanting, step_fn = fn.tree.map(lambda leaf: leaf.clone().requires_grad_(), params), fn.PROVIDERS[provider](objective)
    steps = list(fn.train(step_fn, fn.adam(0.1), wanting, [batch] * 2))
    assert not any(leaf.requires_grad or leaf.grad_fn for leaf in fn.tree.leaves(steps))
    assert all(leaf.requires_grad and leaf.grad is None for leaf in fn.tree.leaves(wanting))
    assert all(map(same_bits, steps, fn.train(step_fn, fn.adam(0.1), params, [batch] * 2)))


@pytest.mark.parametrize("provider", fn.PROVIDERS)
def test_data_that_require_gradients_leave_no_graph_behind(provider):
    objective, params, (inputs, targets) = classifier()
    batch = inputs.clone().requires_grad_(), targets
    for step in fn.train(fn.PROVIDERS[provider](objective), fn.sgd(0.1), params, [batch] * 2):
        assert not any(leaf.requires_grad for leaf in fn.tree.leaves((step.params, step.value)))


@pytest.mark.parametrize(
    "search", [fn.line_search(), fn.exact_line_search(), fn.bfgs()], ids=["backtracking", "exact", "bfgs"]
)
def test_parameters_that_stay_where_they_are_become_plain_tensors_too(search):
    w = torch.zeros(2, requires_grad=True)
    (step,) = fn.train(fn.func_grad(fn.Objective(lambda w, x: (w * w).sum())), search, w, [torch.ones(1)])
    assert torch.equal(step.params, w) and not step.params.requires_grad


# provider: how far its trajectory may be from the explicit one, over the whole run
APART = {
    "func_grad": 1e-10,
    "autograd": 1e-10,
    "complex_step": 1e-10,
    "central_difference": 1e-6,
    "forward_difference": 1e-3,
}


@pytest.mark.parametrize("provider", APART)
def test_whole_trajectories_coincide_whatever_the_gradient_comes_from(provider):
    objective, params, batch = classifier((4, 6, 3), fn.tanh, count=40)
    batches = shuffled(batch, 30, size=10)
    walks = [
        fn.train(step_fn, fn.momentum(0.1), params, batches)
        for step_fn in (fn.explicit(objective), fn.PROVIDERS[provider](objective))
    ]
    for explicit, other in zip(*walks, strict=True):
        assert fn.tree.max_difference(explicit.params, other.params) < APART[provider]


def by_hand(w, x):
    error = x - w
    return 0.5 * (error * error).mean(), -error.mean(0)


# name: (arguments of train, the place that the error names)
REFUSED = {
    "integer parameters": ((by_hand, fn.sgd(0.1), {"w": torch.ones(2, dtype=torch.int64)}), r"params\['w'\]"),
    "None among the parameters": ((by_hand, fn.sgd(0.1), (torch.ones(1), None)), r"params\[1\]"),
    "no step function": (("explicit", fn.sgd(0.1), torch.ones(2)), "step_fn"),
    "an optimizer by name": ((by_hand, "sgd", torch.ones(2)), "optimizer_fn"),
    "a constructor for an optimizer": ((by_hand, fn.sgd, torch.ones(2)), "optimizer_fn"),
    "no optimizer": ((by_hand, None, torch.ones(2)), "optimizer_fn"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_errors_come_at_the_call_and_not_at_the_first_step(name, as_users_run_it):
    arguments, place = REFUSED[name]
    with pytest.raises(fn.InputError, match=f"^{place}: got .*needs"):
        fn.train(*arguments, [normal(3, 2)])


GARBAGE = {
    "one value": (lambda params, batch: torch.ones(()), fn.sgd(0.1), None, "step_fn"),
    "three values": (lambda params, batch: (1, 2, 3), fn.sgd(0.1), None, "step_fn"),
    "complex gradients": (
        lambda p, b: (torch.ones(()), fn.tree.map(lambda x: x.to(torch.complex128), p)),
        fn.sgd(0.1),
        None,
        "grads",
    ),
    "updates alone": (
        None,
        fn.Transformation(lambda params: (), lambda grads, state, params=None: grads),
        None,
        "optimizer_fn.update",
    ),
    "numbers for updates": (
        None,
        fn.Transformation(lambda p: (), lambda g, state, params=None: (fn.tree.map(lambda x: 1.0, g), ())),
        None,
        "updates",
    ),
    "no step": (None, fn.Optimizer(lambda params: (), lambda at, params, state: params), None, "optimizer_fn.step"),
    "a state of scalars": (None, fn.momentum(0.1), "scalars", "state"),
    "the state of another": (None, fn.adam(0.1), (), "state"),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_what_a_user_returns_is_looked_at(as_users_run_it, case):
    step_fn, optimizer, state, place = GARBAGE[case]
    objective, params, batch = classifier()
    if state == "scalars":
        state = fn.tree.map(lambda leaf: torch.ones(()), params)
    with pytest.raises(fn.InputError, match=f"^{re.escape(place)}"):
        list(fn.train(step_fn or fn.explicit(objective), optimizer, params, [batch], state=state))


def test_batches_must_be_iterable(as_users_run_it):
    objective, params, _ = classifier()
    with pytest.raises(fn.InputError, match="^batches"):
        fn.train(fn.explicit(objective), fn.sgd(0.1), params, None)


def test_an_optimizer_is_handed_a_step_function_at_a_batch():
    objective, params, batch = classifier()
    step_fn, seen = fn.explicit(objective), []

    def step(at, params, state):
        seen.append(at)
        value, grads = at(params)
        assert torch.equal(at.value(params), value) and same_bits(at.value_and_grad(params), (value, grads))
        return fn.Step(params, (), value)

    (result,) = fn.train(step_fn, fn.Optimizer(lambda params: (), step), params, [batch])
    assert isinstance(seen[0], fn.At) and seen[0].step_fn is step_fn and seen[0].batch is batch
    assert same_bits(seen[0](params), step_fn(params, batch))


@pytest.mark.parametrize(
    ("batch", "shown"),
    [
        ((torch.zeros(8, 3), torch.zeros(8)), "((8, 3), (8,))"),
        ({"x": torch.zeros(2, 1), "more": [torch.zeros(2)]}, "{'x': (2, 1), 'more': ((2,))}"),
        (torch.zeros(4, 5), "(4, 5)"),
        ((), "()"),
    ],
)
def test_what_an_optimizer_is_handed_prints_itself_and_no_numbers(batch, shown):
    step_fn = fn.func_grad(fn.supervised(fn.dense(3, 2), fn.half_squared_error()))
    assert repr(fn.At(step_fn, batch)) == f"At(func_grad(supervised(dense(3, 2), half_squared_error())), batch={shown})"
