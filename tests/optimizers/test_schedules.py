import math

import pytest
import torch
from helpers import assert_close, normal, same_bits, says
from planting import scene
from torch.optim import SGD, Adam, RMSprop, lr_scheduler

import funcnn as fn
from funcnn.optimizers.hyperparameters import Scheduled

STEPS = 100
OBJECTIVE, PARAMS, BATCH = scene()
STEP_FN = fn.explicit(OBJECTIVE)


def cosine(optimizer, steps=STEPS, least=0.0):
    return lr_scheduler.CosineAnnealingLR(optimizer, steps, least)


def rising(optimizer, steps):
    return lr_scheduler.LinearLR(optimizer, 1 / (steps + 1), total_iters=steps)


# name: (a schedule, the same as a scheduler of torch's for an optimizer with an lr of 0.1)
SCHEDULES = {
    "cosine": (fn.cosine(0.1, STEPS), cosine),
    "cosine to a least": (fn.cosine(0.1, STEPS, 0.02), lambda it: cosine(it, least=0.02)),
    "piecewise": (
        fn.piecewise(0.1, {60: 0.001, 30: 0.01}),
        lambda it: lr_scheduler.MultiStepLR(it, [30, 60], gamma=0.1),
    ),
    "one piece": (fn.piecewise(0.1, {}), lambda it: lr_scheduler.ConstantLR(it, 1.0)),
    "warmup": (fn.warmup(0.1, 7), lambda it: rising(it, 7)),
    "warmup to a cosine": (
        fn.warmup(fn.cosine(0.1, STEPS - 10), 10),
        lambda it: lr_scheduler.SequentialLR(it, [rising(it, 10), cosine(it, STEPS - 10)], [10]),
    ),
    "a function": (lambda k: 0.1 * 0.9**k, lambda it: lr_scheduler.ExponentialLR(it, 0.9)),
}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


def stepped(optimizer, scheduler, w, gradients):
    """Where one of torch's optimizers takes w along gradients, followed by a scheduler."""
    for gradient in gradients:
        w.grad = gradient[0].clone()
        optimizer.step()
        scheduler.step()
        yield w.detach().clone()


def along(optimizer, start, gradients):
    """Where one of ours does."""
    return list(fn.train(lambda w, batch: ((w * batch[0]).sum(), batch[0]), optimizer, start, gradients))


@every_schedule
def test_a_schedule_has_the_rates_of_torch(name):
    ours, scheduler = SCHEDULES[name]
    optimizer = SGD([torch.zeros(1, requires_grad=True)], 0.1)
    theirs = scheduler(optimizer)
    for k in range(STEPS):
        assert ours(k) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12, abs=1e-16)
        optimizer.step()
        theirs.step()


@every_schedule
def test_a_schedule_of_tensors_is_that_of_numbers(name):
    schedule, k = SCHEDULES[name][0], torch.arange(float(STEPS))
    together = torch.func.vmap(schedule)(k)
    assert_close(together, torch.tensor([schedule(int(each)) for each in k]), 1e-15)
    whole = torch.tensor(30)
    assert schedule(whole).item() == pytest.approx(schedule(30), rel=1e-15)


@pytest.mark.parametrize("schedule", [fn.cosine(0.1, 9, 0.03), fn.warmup(0.03, 9), fn.piecewise(0.1, {9: 0.03})])
def test_after_its_last_step_a_schedule_is_constant(schedule):
    assert [schedule(k) for k in (9, 10, 10**9)] == [pytest.approx(0.03)] * 3


@every_schedule
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_along_given_gradients_an_optimizer_with_a_schedule_goes_where_torch_goes(name, dtype):
    ours, scheduler = SCHEDULES[name]
    gradients, start = [normal(1, 50, seed=seed, dtype=dtype) for seed in range(STEPS)], normal(50, dtype=dtype)
    for make, like, ulps in ((fn.sgd, SGD, 4), (fn.rmsprop, RMSprop, 4), (fn.adam, Adam, 4)):
        w = start.clone().requires_grad_()
        optimizer = like([w], 0.1)
        steps = along(make(ours), start, gradients)
        for step, expected in zip(steps, stepped(optimizer, scheduler(optimizer), w, gradients), strict=True):
            ulp = torch.finfo(dtype).eps * expected.abs().max()
            assert (step.params - expected).abs().max() <= ulps * ulp, (make, (step.params - expected).abs().max() / ulp)


# name: (with a function, with the number that it always is)
CONSTANT = {
    "sgd": (fn.sgd(lambda k: 0.1), fn.sgd(0.1)),
    "momentum": (fn.momentum(lambda k: 0.1, lambda k: 0.8), fn.momentum(0.1, 0.8)),
    "nesterov": (fn.nesterov(lambda k: 0.1, lambda k: 0.8), fn.nesterov(0.1, 0.8)),
    "rmsprop": (fn.rmsprop(0.1, lambda k: 0.9, lambda k: 1e-3), fn.rmsprop(0.1, 0.9, 1e-3)),
    "adam": (fn.adam(0.1, (0.8, lambda k: 0.9), lambda k: 1e-3), fn.adam(0.1, (0.8, 0.9), 1e-3)),
    "a tensor": (fn.sgd(lambda k: torch.tensor(0.1)), fn.sgd(0.1)),
    "line_search": (fn.line_search(lambda k: 2.0, shrink=lambda k: 0.4), fn.line_search(2.0, 0.4)),
    "exact_line_search": (fn.exact_line_search(lambda k: 0.5), fn.exact_line_search(0.5)),
    "bfgs": (fn.bfgs(curvature=lambda k: 0.8), fn.bfgs(curvature=0.8)),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_a_function_that_is_constant_is_the_number(name):
    changing, constant = (list(fn.train(STEP_FN, each, PARAMS, [BATCH] * 4)) for each in CONSTANT[name])
    for k, (step, expected) in enumerate(zip(changing, constant, strict=True), start=1):
        assert isinstance(step.state, Scheduled) and step.state.steps == k
        assert same_bits((step.params, step.state.state, step.value), (expected.params, expected.state, expected.value))


def test_a_schedule_is_asked_once_a_step_with_the_number_of_steps_taken():
    asked = []

    def rate(k):
        asked.append(k)
        return 0.1

    optimizer = fn.sgd(rate)
    assert asked == [0]  # what is no schedule is found at once
    list(fn.train(STEP_FN, optimizer, PARAMS, [BATCH] * 3))
    assert asked == [0, 0, 1, 2] and all(isinstance(k, int) for k in asked)


@pytest.mark.parametrize(
    "optimizer", [fn.sgd(fn.cosine(0.1, 4)), fn.nesterov(fn.warmup(0.1, 3))], ids=["transformation", "optimizer"]
)
def test_a_compiled_step_is_compiled_once_whatever_the_rate(optimizer, monkeypatch):
    graphs = []
    monkeypatch.setattr(torch._inductor, "compile", lambda graph, inputs, options=None: graphs.append(graph) or graph)
    steps, fast = (list(fn.train(STEP_FN, each, PARAMS, [BATCH] * 6)) for each in (optimizer, fn.compiled(optimizer)))
    assert len(graphs) == 1
    for step, expected in zip(fast, steps, strict=True):
        assert_close(step, expected, 1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(), (5,)], ids=["a scalar", "a vector"])
@pytest.mark.parametrize("make", [fn.sgd, fn.momentum, fn.nesterov, fn.rmsprop, fn.adam])
def test_in_every_dtype_a_mapped_step_has_the_numbers_of_the_step(make, shape, dtype):
    optimizer = make(lambda k: 0.1 / (1 + k))
    step = optimizer.step if isinstance(optimizer, fn.Optimizer) else fn.descend(optimizer).step
    at = fn.At(fn.StepFn(lambda w, batch: w.sum(), lambda w, batch: (w.sum(), 0.3 * w)), ())
    w = normal(*shape, dtype=dtype)
    _, state, _ = step(at, w, optimizer.init(w))
    stacked = fn.tree.map(lambda leaf: leaf[None], (w, state))
    together = torch.func.vmap(lambda w, state: step(at, w, state))(*stacked)
    assert_close(fn.tree.map(lambda leaf: leaf[0], together), step(at, w, state), 2 * torch.finfo(dtype).eps)


BAD = {
    "no number": (lambda: fn.sgd(lambda k: "0.1"), "lr at step 0", "'0.1'", "at least 0"),
    "nothing": (lambda: fn.adam(lambda k: None), "lr at step 0", "None", "a number"),
    "a vector": (lambda: fn.sgd(lambda k: torch.ones(2)), "lr at step 0", "shape (2,)", "a number"),
    "negative": (lambda: fn.momentum(lambda k: -0.1), "lr at step 0", "-0.1", "at least 0"),
    "another hyperparameter": (lambda: fn.adam(0.1, (0.9, lambda k: 1.0)), "betas[1] at step 0", "1.0", "below 1"),
    "a function of nothing": (lambda: fn.sgd(lambda: 0.1), "lr(step)", "takes 0", "a function of 1 argument"),
    "another number": (lambda: fn.momentum(lambda k: 0.1, 1.0), "beta", "1.0", "below 1"),
    "negative in the end": (
        lambda: list(fn.train(STEP_FN, fn.sgd(lambda k: 0.1 - 0.1 * k), PARAMS, [BATCH] * 3)),
        "lr at step 2",
        "-0.1",
        "at least 0",
    ),
    "a negative start": (lambda: fn.cosine(-0.1, 5), "lr", "-0.1", "at least 0"),
    "a negative end": (lambda: fn.cosine(0.1, 5, -1.0), "least", "-1.0", "at least 0"),
    "no steps": (lambda: fn.cosine(0.1, 0), "steps", "0", "positive integer"),
    "half a step": (lambda: fn.warmup(0.1, 2.5), "steps", "2.5", "positive integer"),
    "a rise to nothing": (lambda: fn.warmup(None, 3), "lr", "None", "a number"),
    "pieces in a list": (lambda: fn.piecewise(0.1, [(3, 0.2)]), "values", "a list", "mapping"),
    "a piece from the start": (lambda: fn.piecewise(0.1, {0: 0.2}), "values", "0", "positive integer"),
    "a negative piece": (lambda: fn.piecewise(0.1, {3: -0.2}), "values[3]", "-0.2", "at least 0"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.usefixtures("as_users_run_it")
def test_the_error_names_the_hyperparameter_and_the_step(name):
    call, *message = BAD[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)


def test_in_a_compiled_step_a_rate_out_of_range_is_nan_and_one_that_looks_at_the_step_is_refused(monkeypatch):
    monkeypatch.setattr(torch._inductor, "compile", lambda graph, inputs, options=None: graph)
    first, second = fn.train(STEP_FN, fn.compiled(fn.sgd(lambda k: 0.1 - 0.2 * k)), PARAMS, [BATCH] * 2)
    assert all(leaf.isfinite().all() for leaf in fn.tree.leaves(first))
    assert all(leaf.isnan().all() for leaf in fn.tree.leaves(second.params))
    for looking in (lambda k: 0.1 if k < 10 else 0.01, lambda k: 0.1 * math.cos(k)):
        assert len(list(fn.train(STEP_FN, fn.sgd(looking), PARAMS, [BATCH]))) == 1
        with pytest.raises(fn.InputError, match="without looking at values"):
            list(fn.train(STEP_FN, fn.compiled(fn.sgd(looking)), PARAMS, [BATCH]))
