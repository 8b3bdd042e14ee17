import itertools

import pytest
import torch
from helpers import assert_close, classifier, labels, normal, same_bits, seeded

import funcnn as fn
from funcnn import kernels

OPTIMIZERS = {
    "sgd": fn.sgd(0.5),
    "momentum": fn.momentum(0.1),
    "nesterov": fn.nesterov(0.1),
    "adam": fn.adam(0.01),
}


def last_of_train(step_fn, optimizer, params, batches):
    return list(fn.train(step_fn, optimizer, params, batches))


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_numbers_are_those_of_train(optimizer):
    objective, params, batch = classifier()
    step_fn = fn.explicit(objective)
    expected = last_of_train(step_fn, optimizer, params, [batch] * 4)
    step, state = fn.fused(step_fn, optimizer), None
    for reference in expected:
        result = step(params, state, batch)
        params, state, _ = result
        assert_close(result, reference, 1e-13)


@pytest.mark.parametrize("provider", ["func_grad", "autograd", "central_difference"])
def test_any_provider_can_be_compiled(provider):
    objective, params, batch = classifier((2, 3, 2))
    step_fn, optimizer = fn.PROVIDERS[provider](objective), fn.sgd(0.5)
    (expected,) = last_of_train(step_fn, optimizer, params, [batch])
    assert_close(fn.fused(step_fn, optimizer)(params, (), batch), expected, 1e-9)


def test_several_steps_in_one_call_are_those_of_train():
    objective, params, _ = classifier()
    step_fn, optimizer = fn.explicit(objective), fn.momentum(0.1)
    batches = [(normal(5, 3, seed=k), labels(5, 2, seed=k)) for k in range(3)]
    stacked = tuple(torch.stack(leaves) for leaves in zip(*batches, strict=True))
    expected = last_of_train(step_fn, optimizer, params, batches)
    result = fn.fused(step_fn, optimizer, steps=3)(params, None, stacked)
    assert_close(result.params, expected[-1].params, 1e-13)
    assert_close(result.state, expected[-1].state, 1e-13)
    assert_close(result.value, torch.stack([step.value for step in expected]), 1e-13)


def test_inputs_stay_as_they_are_and_every_shape_and_layout_gets_its_own_code():
    objective, params, batch = classifier()
    step = fn.fused(fn.explicit(objective), fn.sgd(0.5))
    given = fn.tree.clone((params, batch))
    first, shorter = step(params, (), batch), tuple(leaf[:5] for leaf in batch)
    assert same_bits((params, batch), given)
    contiguous = fn.tree.map(torch.Tensor.contiguous, params)
    for case in ((params, shorter), (contiguous, batch), (params, (batch[0].T.contiguous().T, batch[1]))):
        (expected,) = last_of_train(fn.explicit(objective), fn.sgd(0.5), case[0], [case[1]])
        assert_close(step(case[0], (), case[1]), expected, 1e-13)
    assert same_bits(step(params, (), batch), first)


def test_large_products_in_float32_keep_their_accuracy(monkeypatch):
    monkeypatch.setattr(kernels, "onednn_is_faster", torch.backends.mkldnn.is_available)
    layer = fn.mlp((128, 128, 10))
    objective = fn.supervised(layer, fn.softmax_cross_entropy())
    params, batch = layer.init(seeded(), dtype=torch.float32), (normal(128, 128, dtype=torch.float32), labels(128, 10))
    exact = layer.init(seeded(), dtype=torch.float64), (batch[0].double(), batch[1])
    (expected,) = last_of_train(fn.explicit(objective), fn.sgd(0.5), exact[0], [exact[1]])
    result = fn.fused(fn.explicit(objective), fn.sgd(0.5))(params, (), batch)
    assert_close(fn.tree.map(torch.Tensor.double, result.params), expected.params, 1e-6)


def test_without_a_compiler_a_warning_says_so_and_the_numbers_are_the_same():
    objective, params, batch = classifier((3, 5, 2))
    step_fn, optimizer = fn.explicit(objective), fn.sgd(0.5)
    (expected,) = last_of_train(step_fn, optimizer, params, [batch])
    step = fn.fused(step_fn, optimizer)
    without = {"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}
    with torch._inductor.config.patch(without), pytest.warns(UserWarning, match=r"no C\+\+ compiler"):
        result = step(params, (), batch)
    assert_close(result, expected, 1e-15)
    assert same_bits(step(params, (), batch), result)


def test_a_label_out_of_range_never_gives_a_number():
    objective, params, batch = classifier()
    step = fn.fused(fn.explicit(objective), fn.sgd(0.5))
    step(params, (), batch)
    for label in (2, -1, -100):
        with pytest.raises(fn.InputError, match="labels in range"):
            step(params, (), (batch[0], torch.full_like(batch[1], label)))


@pytest.mark.parametrize("steps", [0, -1, 1.5, "3", True])
def test_the_number_of_steps_must_be_positive(as_users_run_it, steps):
    objective, _, _ = classifier()
    with pytest.raises(fn.InputError, match="steps"):
        fn.fused(fn.explicit(objective), fn.sgd(0.5), steps=steps)


def test_what_cannot_be_compiled_is_refused(as_users_run_it):
    objective, params, batch = classifier()
    step_fn = fn.explicit(objective)
    with pytest.raises(fn.InputError, match="tensors alone"):
        fn.fused(step_fn, fn.line_search())(params, None, batch)

    def descend_if_large(at, params, state):
        value, grads = at(params)
        return fn.Step(fn.tree.add(params, grads) if value > 1 else params, (), value)

    looking = fn.Optimizer(lambda params: (), descend_if_large)
    with pytest.raises(fn.InputError, match="without looking at values"):
        fn.fused(step_fn, looking)(params, None, batch)
    with pytest.raises(fn.InputError, match="3 batches stacked along a leading axis"):
        fn.fused(step_fn, fn.sgd(0.5), steps=3)(params, None, batch)
    with pytest.raises(fn.InputError, match=r"params\[0\]\['w'\].*floating tensor"):
        fn.fused(step_fn, fn.sgd(0.5))(({**params[0], "w": None}, *params[1:]), None, batch)
    with pytest.raises(fn.InputError, match="optimizer_fn"):
        fn.fused(step_fn, 3)


def test_a_fused_step_is_a_loop_away_from_training():
    objective, params, batch = classifier()
    step, state, values = fn.fused(fn.explicit(objective), fn.adam(0.05)), None, []
    for _ in itertools.repeat(None, 50):
        params, state, value = step(params, state, batch)
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]


def test_a_check_of_values_compiles_to_nan():
    layer = fn.perceptron(3)
    step_fn = fn.explicit(fn.supervised(layer, fn.binary_cross_entropy()))
    params, inputs, targets = layer.init(seeded()), normal(4, 3), torch.ones(4, 1)
    (expected,) = last_of_train(step_fn, fn.sgd(0.5), params, [(inputs, targets)])
    step = fn.fused(step_fn, fn.sgd(0.5))
    assert_close(step(params, (), (inputs, targets)), expected, 1e-13)
    assert step(params, (), (inputs, 2 * targets)).value.isnan()


def test_tracked_parameters_give_plain_results():
    objective, params, batch = classifier()
    tracked = fn.tree.map(lambda leaf: leaf.clone().requires_grad_(), params)
    step = fn.fused(fn.explicit(objective), fn.sgd(0.5))
    result = step(tracked, (), batch)
    assert not any(leaf.requires_grad for leaf in fn.tree.leaves(result))
    assert_close(result, step(params, (), batch), 1e-14)


def test_what_compiled_code_would_freeze_is_refused(as_users_run_it):
    objective, params, batch = classifier()
    weights = torch.ones(4)
    closing = fn.Objective(lambda params, batch: (params["w"] * weights).sum())
    with pytest.raises(fn.InputError, match="takes every tensor as an argument"):
        fn.fused(fn.func_grad(closing), fn.sgd(0.5))({"w": torch.ones(4)}, (), batch)

    counting = fn.Transformation(lambda params: 0, lambda grads, state, *, params: (grads, state + 1))
    scalars = fn.tree.map(lambda leaf: torch.ones(()), params)
    with pytest.raises(fn.InputError, match="^state"):
        fn.fused(fn.explicit(objective), fn.momentum(0.1))(params, scalars, batch)
    with pytest.raises(fn.InputError, match="state: got 0, needs tensors alone"):
        fn.fused(fn.explicit(objective), counting)(params, None, batch)
