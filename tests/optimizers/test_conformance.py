"""Every optimizer keeps the same laws: a new one is a row of the table."""

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torchopt
from helpers import assert_close, classifier, labels, normal, same_bits
from planting import scene
from torch.optim import lr_scheduler

import funcnn as fn

SGD, RMSprop, Adam, AdamW = torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adam, torch.optim.AdamW


class Row(NamedTuple):
    """An optimizer by its constructor and a learning rate, and what is particular to it."""

    make: Callable[[float], Any]
    lr: float
    like: Callable[..., torch.optim.Optimizer] | None = None  # (leaves, lr): the same in torch.optim
    point: Callable[[fn.Step], Any] = lambda step: step.params  # what torch.optim calls the parameters
    decays: bool = False  # its updates depend on the parameters too
    eager: bool = False  # it looks at numbers or writes in place, so it is neither compiled nor vmapped


def followed(make, scheduler):
    """One of torch's optimizers that is followed by one of its schedulers, which then says the rate of the next step."""

    def like(leaves, lr):
        optimizer = make(leaves, lr)
        following = scheduler(optimizer)
        optimizer.register_step_post_hook(lambda *_: following.step())
        return optimizer

    return like


def clipped(make, max_norm):
    """One of torch's optimizers before whose step the gradient is clipped."""

    def like(leaves, lr):
        optimizer = make(leaves, lr)
        optimizer.register_step_pre_hook(lambda *_: torch.nn.utils.clip_grad_norm_(leaves, max_norm) and None)
        return optimizer

    return like


def ahead(step):
    return fn.tree.add_scaled(step.params, 0.9, step.state)


OPTIMIZERS = {
    "sgd": Row(fn.sgd, 0.1, SGD),
    "momentum": Row(fn.momentum, 0.1, lambda w, lr: SGD(w, lr, momentum=0.9)),
    "nesterov": Row(fn.nesterov, 0.1, lambda w, lr: SGD(w, lr, momentum=0.9, nesterov=True), ahead),
    "rmsprop": Row(fn.rmsprop, 0.01, RMSprop),
    "adam": Row(fn.adam, 0.01, Adam),
    "adamw": Row(fn.adamw, 0.01, AdamW, decays=True),
    "clip_by_norm, momentum": Row(
        lambda lr: fn.chain(fn.clip_by_norm(0.1), fn.momentum(lr)),
        0.1,
        clipped(lambda w, lr: SGD(w, lr, momentum=0.9), 0.1),
    ),
    "clip_by_norm, adamw, all of the step": Row(
        lambda lr: fn.chain(fn.clip_by_norm(lambda k: 0.1), fn.adamw(fn.warmup(lr, 9), weight_decay=fn.cosine(0.01, 10**9))),
        0.01,
        clipped(followed(AdamW, lambda it: lr_scheduler.LinearLR(it, 0.1, total_iters=9)), 0.1),
        decays=True,
    ),
    "averaged": Row(lambda lr: fn.averaged(fn.sgd(lr), 0.9), 0.1, SGD),
    "masked, nothing frozen": Row(lambda lr: fn.masked(fn.adam(lr), True), 0.01, Adam),
    "sgd, cosine": Row(
        lambda lr: fn.sgd(fn.cosine(lr, 150)), 0.1, followed(SGD, lambda it: lr_scheduler.CosineAnnealingLR(it, 150))
    ),
    "adam, warmup": Row(
        lambda lr: fn.adam(fn.warmup(lr, 9)), 0.01, followed(Adam, lambda it: lr_scheduler.LinearLR(it, 0.1, total_iters=9))
    ),
    "nesterov, a piece with momentum": Row(lambda lr: fn.nesterov(lr, fn.piecewise(0.0, {2: 0.9})), 0.1),
    "line_search": Row(fn.line_search, 1.0, eager=True),
    "exact_line_search": Row(fn.exact_line_search, 1.0, eager=True),
    "bfgs": Row(fn.bfgs, 1.0, eager=True),
    "torchopt.sgd": Row(torchopt.sgd, 0.1, SGD),
    "torchopt.sgd, nesterov": Row(
        lambda lr: torchopt.sgd(lr, momentum=0.8, nesterov=True),
        0.1,
        lambda w, lr: SGD(w, lr, momentum=0.8, nesterov=True),
        eager=True,
    ),
    "torchopt.adam": Row(torchopt.adam, 0.01, Adam, eager=True),
    "torchopt.rmsprop": Row(torchopt.rmsprop, 0.01, RMSprop, eager=True),
}
OURS = {name: row for name, row in OPTIMIZERS.items() if not name.startswith("torchopt")}
TRANSFORMATIONS = {name: row for name, row in OURS.items() if isinstance(row.make(row.lr), fn.Transformation)}

OBJECTIVE, PARAMS, BATCH = scene()
BATCHES = [(normal(5, 3, seed=k), labels(5, 2, seed=k)) for k in range(6)]
STEP_FN = fn.explicit(OBJECTIVE)
TREE = {"w": normal(3), "b": normal()}


def every(rows):
    return pytest.mark.parametrize("row", rows.values(), ids=rows)


def walk(row, batches, step_fn=STEP_FN, params=PARAMS, **options):
    return list(fn.train(step_fn, row.make(row.lr), params, batches, **options))


def floating(tree):
    return [leaf for leaf in fn.tree.leaves(tree) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]


@every({name: row for name, row in OPTIMIZERS.items() if row.like})
def test_every_step_goes_where_torch_goes(row):
    leaves, unflatten = fn.tree.flatten(fn.tree.map(lambda leaf: leaf.clone().requires_grad_(), PARAMS))
    theirs, ours = row.like(leaves, row.lr), walk(row, [BATCH] * 100)
    for step in ours:
        theirs.zero_grad()
        OBJECTIVE.value(unflatten(leaves), BATCH).backward()
        theirs.step()
        there = unflatten([leaf.detach() for leaf in leaves])
        moved, expected = (fn.tree.add_scaled(point, -1.0, PARAMS) for point in (row.point(step), there))
        assert_close(moved, expected, 1e-10)


@every(OPTIMIZERS)
def test_resuming_with_the_state_is_never_having_stopped(row):
    optimizer = row.make(row.lr)
    whole = list(fn.train(STEP_FN, optimizer, PARAMS, BATCHES))
    rest = list(fn.train(STEP_FN, optimizer, whole[2].params, BATCHES[3:], state=whole[2].state))
    assert all(same_bits(step, again) for step, again in zip(whole[3:], rest, strict=True))


@every(OURS)
def test_a_step_that_torch_has_saved_loads_by_its_safe_default(row):
    *_, step = walk(row, BATCHES)
    file = io.BytesIO()
    torch.save(step, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert same_bits(loaded, step) and type(loaded) is fn.Step and type(loaded.state) is type(step.state)


@every(OPTIMIZERS)
def test_neither_the_trees_of_the_caller_nor_earlier_steps_are_overwritten(row):
    given, steps, copies = fn.tree.clone((PARAMS, BATCHES)), [], []
    for step in fn.train(STEP_FN, row.make(row.lr), PARAMS, BATCHES):
        steps.append(step)
        copies.append(fn.tree.clone(step))
    assert same_bits((PARAMS, BATCHES), given)
    assert all(same_bits(step, copy) for step, copy in zip(steps, copies, strict=True))


@every(OPTIMIZERS)
def test_the_loss_of_one_batch_falls(row):
    steps = walk(row, [BATCH] * 20)
    assert steps[-1].value < steps[0].value


@every(OPTIMIZERS)
def test_any_callable_that_returns_value_and_gradient_will_do(row):
    ours, theirs = (walk(row, [BATCH] * 3, step_fn) for step_fn in (STEP_FN, lambda p, b: OBJECTIVE.value_and_grad(p, b)))
    assert all(same_bits(step, again) for step, again in zip(ours, theirs, strict=True))


@every(OPTIMIZERS)
def test_parameters_that_require_gradients_become_plain_tensors(row):
    wanting = fn.tree.map(lambda leaf: leaf.clone().requires_grad_(), PARAMS)
    steps = walk(row, BATCHES[:2], fn.func_grad(OBJECTIVE), wanting)
    assert not any(leaf.requires_grad for leaf in floating(steps))
    assert all(leaf.requires_grad and leaf.grad is None for leaf in fn.tree.leaves(wanting))
    assert all(map(same_bits, steps, walk(row, BATCHES[:2], fn.func_grad(OBJECTIVE))))


@every(OURS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (3,)], ids=["a scalar", "a vector"])
def test_parameters_keep_their_dtype_and_shape(row, dtype, shape):
    objective = fn.Objective(lambda w, batch: (w - batch.mean()).square().sum())
    w, batch = normal(*shape, dtype=dtype), torch.ones(2, dtype=dtype)
    for step in walk(row, [batch] * 3, fn.func_grad(objective), w):
        assert step.params.dtype == step.value.dtype == dtype and step.params.shape == shape


@every(OPTIMIZERS)
def test_without_parameters_nothing_happens(row):
    objective = fn.Objective(lambda params, batch: batch.mean())
    for step in walk(row, [torch.ones(2)] * 2, fn.autograd(objective), ()):
        assert step.params == () and step.value == 1


@every({name: row for name, row in OURS.items() if not row.decays})
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_where_the_gradient_is_zero_the_parameters_stay(row, dtype):
    w = torch.ones(3, dtype=dtype)
    for step in walk(row, [torch.ones(1)] * 2, lambda w, batch: (w.sum(), torch.zeros_like(w)), w):
        assert same_bits(step.params, w)


@every({name: row for name, row in OPTIMIZERS.items() if not row.eager})
def test_an_ensemble_is_stepped_under_vmap(row):
    optimizer, members = row.make(row.lr), [classifier(seed=seed)[1] for seed in range(2)]
    starts = [walk(row, BATCHES[:1], params=params)[-1] for params in members]

    def step(params, state):
        return optimizer_step(fn.At(STEP_FN, BATCH), params, state)

    optimizer_step = fn.descend(optimizer).step if hasattr(optimizer, "update") else optimizer.step
    stacked = fn.tree.map(lambda *leaves: torch.stack(leaves), *[(start.params, start.state) for start in starts])
    together = torch.func.vmap(step)(*stacked)
    for index, start in enumerate(starts):
        alone = step(start.params, start.state)
        assert_close(fn.tree.map(lambda leaf, index=index: leaf[index], together), alone, 1e-14)


@every({name: row for name, row in OURS.items() if not row.eager})
def test_a_compiled_step_has_the_numbers_of_the_step(row):
    expected, batches = walk(row, BATCHES[:3]), BATCHES[:3]
    for step, reference in zip(fn.train(STEP_FN, fn.compiled(row.make(row.lr)), PARAMS, batches), expected, strict=True):
        assert_close(step, reference, 1e-13)


@every({name: row for name, row in OURS.items() if row.eager})
def test_what_looks_at_numbers_is_not_compiled(row):
    with pytest.raises(fn.InputError, match=r"tensors alone|without looking at values"):
        list(fn.train(STEP_FN, fn.compiled(row.make(row.lr)), PARAMS, [BATCH]))


@every(OPTIMIZERS)
def test_the_state_of_another_optimizer_is_refused(row):
    with pytest.raises(fn.InputError, match="(?s)^state: got .*needs that of this optimizer"):
        fn.train(STEP_FN, row.make(row.lr), PARAMS, [BATCH], state=({"somebody": torch.ones(2)}, "else"))


@every(TRANSFORMATIONS)
def test_an_update_by_hand_takes_its_arguments_by_position_and_by_name(row):
    transformation, (_, grads) = row.make(row.lr), STEP_FN(PARAMS, BATCH)
    state = transformation.init(PARAMS)
    updates = [
        transformation.update(grads, state, PARAMS),
        transformation.update(grads, state, params=PARAMS),
        transformation.update(grads=grads, state=state, params=PARAMS),
    ]
    if row.decays:
        with pytest.raises(fn.InputError, match="^params: got None, needs the parameters"):
            transformation.update(grads, state)
    else:
        updates.append(transformation.update(grads, state))
    assert all(same_bits(update, updates[0]) for update in updates)
    (step,) = walk(row, [BATCH])
    assert_close((fn.tree.add(PARAMS, updates[0][0]), updates[0][1]), (step.params, step.state), 1e-15)


ALIEN = {
    "another tree": {"w": normal(3)},
    "another kind of tree": (normal(3), normal()),
    "another shape": {"w": normal(2), "b": normal()},
    "another dtype": {"w": normal(3), "b": normal(dtype=torch.float32)},
    "None": {"w": normal(3), "b": None},
    "numbers": {"w": 1.0, "b": 2.0},
    "nothing": None,
}


@every(TRANSFORMATIONS)
@pytest.mark.parametrize("alien", ALIEN)
def test_an_update_by_hand_refuses_the_gradients_of_other_parameters(row, alien):
    transformation = row.make(row.lr)
    state = transformation.init(TREE)
    if state == () and alien.startswith("another"):
        return  # what keeps no state knows no parameters
    with pytest.raises(fn.InputError, match="^(grads|params)"):
        transformation.update(ALIEN[alien], state, TREE)


@every(OURS)
@pytest.mark.parametrize("number", [np.float64, np.float32, np.int64])
def test_numbers_of_numpy_are_numbers(row, number, as_users_run_it):
    (step,) = list(fn.train(STEP_FN, row.make(number(1.0)), PARAMS, [BATCH]))
    (expected,) = list(fn.train(STEP_FN, row.make(1.0), PARAMS, [BATCH]))
    assert same_bits(step, expected)


@every({name: row for name, row in OURS.items() if not row.eager})
def test_a_step_beyond_the_range_of_the_dtype_is_infinite(row):
    w = torch.ones(2, dtype=torch.float32)
    (step,) = fn.train(lambda w, batch: (w.sum(), torch.ones_like(w)), row.make(1e300), w, [torch.ones(1)])
    assert torch.equal(step.params, torch.full_like(w, -torch.inf))


@every({name: row for name, row in OURS.items() if row.eager})
def test_a_search_that_begins_beyond_the_range_of_the_dtype_ends(row):
    w = torch.ones(2, dtype=torch.float32)
    (step,) = fn.train(lambda w, batch: ((w * w).sum(), 2 * w), row.make(1e300), w, [torch.ones(1)])
    assert step.params.isfinite().all() and (step.params * step.params).sum() <= 2


NO_RATE = {"negative": -0.1, "NaN": torch.nan, "infinite": torch.inf, "a string": "0.1", "None": None, "True": True}
NO_RATE |= {"beyond every float": 10**400, "an array": np.ones(2), "a complex number": 1j}


@every(OURS)
@pytest.mark.parametrize("name", NO_RATE)
def test_what_is_no_learning_rate_is_refused(row, name, as_users_run_it):
    with pytest.raises(fn.InputError, match="^lr: got .*, needs a number of at least"):
        row.make(NO_RATE[name])
