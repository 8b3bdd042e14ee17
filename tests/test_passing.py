"""What a batch has beside its tensors: names of the samples, the number of an epoch, a switch."""

import pytest
import torch
from helpers import TOLERANCES, assert_close, normal, same_bits, seeded
from torch.utils.data import DataLoader

import funcnn as fn

N = 6
X, T = normal(N, 3), normal(N, seed=1)
NAMES, WORTH = list("abcabc"), {"a": 1.0, "b": 0.5, "c": 0.25}
OF_NAMES = torch.tensor([1.0, 0.5, 0.25, 1.0, 0.5, 0.25], dtype=torch.float64)
PARAMS = {"w": normal(3, seed=2)}


def loss(params, x, t, weight):
    return (weight * (x @ params["w"] - t) ** 2).mean()


def of_names(params, batch):
    worth = torch.tensor([WORTH[name] for name in batch["name"]], dtype=torch.float64)
    return loss(params, batch["x"], batch["t"], worth)


def of_epoch(params, batch):
    return loss(params, batch["x"], batch["t"], 0.5 ** batch["epoch"])


def of_numbers(params, batch):
    x, t = batch
    return loss(params, x, torch.tensor(t, dtype=torch.float64), 1.0)


def of_switches(params, batch):
    x, (t, how) = batch
    return loss(params, x, t, {"half": 0.5}[how["kind"]] if how["on"] and how["by"] == b"us" else 2.0)


def of_all(params, batch):
    return of_names(params, batch) * 0.5 ** batch["epoch"]


DICT = {"x": X, "t": T}
SWITCHES = {"on": True, "kind": "half", "by": b"us"}

# name: (the objective, a batch, that of sample n alone, the weights of the samples)
BATCHES = {
    "names": (of_names, DICT | {"name": NAMES}, lambda n: {"name": NAMES[n : n + 1]}, OF_NAMES),
    "a tuple of names": (of_names, DICT | {"name": (*NAMES,)}, lambda n: {"name": (NAMES[n],)}, OF_NAMES),
    "the number of an epoch": (of_epoch, DICT | {"epoch": 3}, lambda n: {"epoch": 3}, 0.125),
    "names and an epoch": (
        of_all,
        DICT | {"name": NAMES, "epoch": 1},
        lambda n: {"name": NAMES[n : n + 1], "epoch": 1},
        0.5 * OF_NAMES,
    ),
    "a list of numbers": (of_numbers, (X, T.tolist()), lambda n: (X[n : n + 1], [T[n].item()]), 1.0),
    "switches": (of_switches, (X, (T, SWITCHES)), lambda n: (X[n : n + 1], (T[n : n + 1], SWITCHES)), 0.5),
}
every_batch = pytest.mark.parametrize("name", BATCHES)


def scene(name):
    """(objective, batch, n -> that of sample n, parameters -> the value of the batch, or of the samples chosen)"""
    value, batch, alone, weight = BATCHES[name]
    objective = fn.Objective(value, lambda p, b: torch.func.grad_and_value(value)(p, b)[::-1])

    def formula(params, chosen=slice(None)):
        return loss(params, X[chosen], T[chosen], weight[chosen] if isinstance(weight, torch.Tensor) else weight)

    def of_sample(n):
        return DICT | {"x": X[n : n + 1], "t": T[n : n + 1]} | alone(n) if isinstance(batch, dict) else alone(n)

    return objective, batch, of_sample, formula


@every_batch
@pytest.mark.parametrize("provider", fn.PROVIDERS)
def test_every_provider_hands_it_to_the_objective(name, provider):
    objective, batch, _, formula = scene(name)
    step_fn, (grads, value) = fn.PROVIDERS[provider](objective), torch.func.grad_and_value(formula)(PARAMS)
    assert_close(step_fn(PARAMS, batch), (value, grads), TOLERANCES[provider])
    assert torch.equal(step_fn.value(PARAMS, batch), objective.value(PARAMS, batch))


@every_batch
@pytest.mark.parametrize("provider", fn.PROVIDERS)
def test_every_sample_has_its_own(name, provider):
    objective, batch, of_sample, _ = scene(name)
    step_fn = fn.PROVIDERS[provider](objective)
    each = [step_fn(PARAMS, of_sample(n)) for n in range(N)]
    values, grads = fn.tree.map(lambda *leaves: torch.stack(leaves), *each)
    assert_close(fn.per_sample(step_fn)(PARAMS, batch), (values, grads), TOLERANCES[provider])
    assert_close(fn.per_sample_norms(step_fn)(PARAMS, batch), grads["w"].norm(dim=1), TOLERANCES[provider])
    assert_close(fn.per_sample_clip(step_fn, 1e9)(PARAMS, batch), step_fn(PARAMS, batch), TOLERANCES[provider])


@pytest.mark.parametrize("provider", fn.PROVIDERS)
def test_a_network_does_not_mind_it(provider):
    layer = fn.dense(3, 1)
    step_fn = fn.PROVIDERS[provider](fn.supervised(layer, fn.half_squared_error(), "x", "t"))
    params, batch = layer.init(seeded(), dtype=torch.float64), {"x": X, "t": T[:, None]}
    more = batch | {"name": NAMES, "epoch": 3}
    assert same_bits(step_fn(params, more), step_fn(params, batch))
    for call in (fn.per_sample(step_fn), fn.per_sample_norms(step_fn)):  # with strings in turn, which rounds otherwise
        assert_close(call(params, more), call(params, batch), 1e-15)
    assert fn.accuracy(fn.dense(3, 1), params, more | {"t": T[:, None] > 0}, "x", "t") <= 1


@every_batch
def test_minibatches_have_what_belongs_to_their_samples(name):
    objective, batch, _, formula = scene(name)
    held = fn.tree.clone(batch)
    order = torch.randperm(N, generator=seeded(3)).split(4)
    for part, chosen in zip(fn.minibatches(batch, 4, generator=seeded(3)), order, strict=True):
        assert_close(objective.value(PARAMS, part), formula(PARAMS, chosen), 1e-15)
    assert same_bits(batch, held)


@every_batch
def test_so_do_steps_of_training_and_the_check(name):
    objective, batch, _, formula = scene(name)
    step_fn = fn.func_grad(objective)
    fitted = fn.fit(step_fn, fn.sgd(0.1), PARAMS, batch, epochs=2, batch_size=4, generator=seeded(3))
    generator, params = seeded(3), PARAMS
    for _ in range(2):
        for chosen in torch.randperm(N, generator=generator).split(4):
            grads = torch.func.grad(formula)(params, chosen)
            params = {"w": params["w"] - 0.1 * grads["w"]}
    assert_close(fitted.params, params, 1e-14)
    assert fn.check(step_fn, PARAMS, batch)
    twice = fn.StepFn(step_fn.value, lambda p, b: (step_fn.value(p, b), {"w": 2 * step_fn(p, b)[1]["w"]}))
    assert fn.check(twice, PARAMS, batch).leaves["params['w']"].cause == "factor 2"


@every_batch
def test_a_compiled_step_has_it_inside(name):
    objective, batch, _, _ = scene(name)
    step_fn = fn.func_grad(objective)
    steps = [list(fn.train(step_fn, way(fn.sgd(0.1)), PARAMS, [batch] * 2)) for way in (fn.descend, fn.compiled)]
    assert_close(*([(step.params, step.value) for step in each] for each in steps), 1e-13)


def test_a_compiled_step_is_compiled_anew_for_another_number_and_says_so():
    step_fn, batches = fn.func_grad(fn.Objective(of_epoch)), [DICT | {"epoch": epoch} for epoch in (1, 2, 1)]
    with pytest.warns(UserWarning, match="compiled anew for other strings or numbers in the batch"):
        steps = list(fn.train(step_fn, fn.compiled(fn.sgd(0.1)), PARAMS, batches))
    plain = list(fn.train(step_fn, fn.sgd(0.1), PARAMS, batches))
    assert_close(*([(step.params, step.value) for step in each] for each in (steps, plain)), 1e-13)


def test_a_loader_hands_on_what_it_collates():
    samples = [{"x": x, "t": t, "name": name, "epoch": 2} for x, t, name in zip(X, T, NAMES, strict=True)]
    loader = DataLoader(samples, batch_size=4, shuffle=True, generator=seeded())
    values = [step.value for step in fn.train(fn.autograd(fn.Objective(of_names)), fn.sgd(0.0), PARAMS, loader)]
    order = torch.cat(list(DataLoader(range(N), 4, shuffle=True, generator=seeded())))
    assert_close(values, [loss(PARAMS, X[chosen], T[chosen], OF_NAMES[chosen]) for chosen in order.split(4)], 1e-15)
