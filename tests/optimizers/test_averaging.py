import pytest
import torch
from helpers import assert_close, normal, same_bits, says
from planting import scene
from torch.optim import swa_utils

import funcnn as fn

OBJECTIVE, PARAMS, BATCH = scene()
STEP_FN = fn.explicit(OBJECTIVE)
OPTIMIZERS = {"adam": fn.adam(0.01), "nesterov": fn.nesterov(0.1), "line_search": fn.line_search()}


def walk(optimizer, steps=6):
    return list(fn.train(STEP_FN, optimizer, PARAMS, [BATCH] * steps))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("beta", [None, 0.0, 0.9, 0.999])
def test_the_average_is_that_of_torch(beta, dtype):
    gradients, start = [normal(1, 50, seed=seed, dtype=dtype) for seed in range(100)], normal(50, dtype=dtype)
    module = torch.nn.Linear(50, 1, bias=False, dtype=dtype)
    average = swa_utils.get_swa_multi_avg_fn() if beta is None else swa_utils.get_ema_multi_avg_fn(beta)
    theirs = swa_utils.AveragedModel(module, multi_avg_fn=average)
    for step in fn.train(
        lambda w, batch: ((w * batch[0]).sum(), batch[0]), fn.averaged(fn.sgd(0.1), beta), start, gradients
    ):
        module.weight.data.copy_(step.params[None])
        theirs.update_parameters(module)
        expected = theirs.module.weight.detach()[0]
        largest = expected.abs().max()
        assert (step.state.average - expected).abs().max() <= torch.nextafter(largest, 2 * largest) - largest


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_points_are_those_of_the_optimizer_and_the_average_is_their_mean(name):
    plain, steps = walk(OPTIMIZERS[name]), walk(fn.averaged(OPTIMIZERS[name]))
    for count, (step, expected) in enumerate(zip(steps, plain, strict=True), start=1):
        assert same_bits(step._replace(state=step.state.state), expected)
        mean = fn.tree.map(lambda *leaves: torch.stack(leaves).mean(0), *[one.params for one in plain[:count]])
        assert_close(step.state.average, mean, 1e-14)
        assert step.state.steps == count


def test_of_noisy_points_around_a_minimum_the_mean_is_nearer_to_it():
    objective = fn.Objective(lambda w, batch: 0.5 * ((w - batch[0]) ** 2).sum())
    noise = [normal(1, 20, seed=seed) for seed in range(400)]
    *_, last = fn.train(fn.func_grad(objective), fn.averaged(fn.sgd(0.5)), torch.zeros(20), noise)
    assert last.state.average.norm() < 0.2 * last.params.norm()


def test_a_beta_that_changes_is_that_of_the_step():
    betas, (first, second, third) = [0.5, 0.25, 0.75], walk(fn.averaged(fn.sgd(0.1), lambda k: [0.5, 0.25, 0.75][k]), 3)
    assert same_bits(first.state.average, first.params)
    for before, after, beta in ((first, second, betas[1]), (second, third, betas[2])):
        expected = fn.tree.map(lambda a, w, beta=beta: beta * a + (1 - beta) * w, before.state.average, after.params)
        assert_close(after.state.average, expected, 1e-15)


@pytest.mark.parametrize("beta", [None, 0.9, fn.piecewise(0.0, {2: 0.9})], ids=["mean", "exponential", "schedule"])
def test_a_compiled_step_has_the_numbers_of_the_step(beta, monkeypatch):
    graphs = []
    monkeypatch.setattr(torch._inductor, "compile", lambda graph, inputs, options=None: graphs.append(graph) or graph)
    optimizer = fn.averaged(fn.adam(0.05), beta)
    for step, expected in zip(walk(fn.compiled(optimizer)), walk(optimizer), strict=True):
        assert_close(step, expected, 1e-14)
    assert len(graphs) == 1


BAD = {
    "beta of 1": (lambda: fn.averaged(fn.sgd(0.1), 1.0), "beta", "1.0", "below 1"),
    "a negative beta": (lambda: fn.averaged(fn.sgd(0.1), -0.5), "beta", "-0.5", "at least 0"),
    "a beta that comes to 1": (lambda: walk(fn.averaged(fn.sgd(0.1), lambda k: k / 2), 3), "beta", "1.0", "below 1"),
    "a beta that says nothing": (lambda: fn.averaged(fn.sgd(0.1), lambda k: None), "beta", "None", "a number"),
    "a constructor": (lambda: fn.averaged(fn.sgd), "optimizer_fn", "a function", ".init and .update"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", BAD)
def test_the_error_names_the_place(name):
    call, *message = BAD[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)
