import pytest
import torch
import torchopt
from helpers import assert_close, normal, same_bits, says
from planting import scene
from torch.nn.utils import clip_grad_norm_

import funcnn as fn

OBJECTIVE, PARAMS, BATCH = scene()
STEP_FN = fn.explicit(OBJECTIVE)
GRADS = {"w": normal(4, 3), "b": normal(3, seed=1), "s": normal(seed=2)}


def walk(optimizer, steps=5, params=PARAMS):
    return list(fn.train(STEP_FN, optimizer, params, [BATCH] * steps))


def clipped(grads, max_norm):
    updates, state = fn.clip_by_norm(max_norm).update(grads)
    assert state == ()
    return updates


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-8, 0.01, 1.0, 1e10])
@pytest.mark.parametrize("max_norm", [1e-12, 1e-3, 1.0, 100.0])
def test_a_gradient_is_clipped_as_torch_clips_it(max_norm, scale, dtype):
    grads = fn.tree.map(lambda g: (scale * g).to(dtype), GRADS)
    leaves = [torch.zeros_like(g).requires_grad_() for g in fn.tree.leaves(grads)]
    for leaf, gradient in zip(leaves, fn.tree.leaves(grads), strict=True):
        leaf.grad = gradient.clone()
    clip_grad_norm_(leaves, max_norm)
    for ours, theirs in zip(fn.tree.leaves(clipped(grads, max_norm)), leaves, strict=True):
        assert ours.dtype == dtype and torch.equal(ours, theirs.grad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_the_length_is_a_float32(dtype):
    g = torch.full((4096,), 30.0).to(dtype)  # its squares add up to 3.7e6, beyond float16
    assert_close(clipped(g, 1.0).double(), g.double() / 1920, torch.finfo(dtype).eps / 64)


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, 1e200])
def test_a_gradient_whose_length_is_not_finite_becomes_nan(odd):
    assert all(leaf.isnan().all() for leaf in fn.tree.leaves(clipped({**GRADS, "s": torch.tensor(odd)}, 1.0)))


def test_a_short_gradient_keeps_its_bits_and_none_stays_none():
    assert same_bits(clipped(GRADS, 100.0), GRADS)
    assert clipped((), 1.0) == ()
    assert same_bits(clipped({"w": torch.zeros(0, 3)}, 1.0), {"w": torch.zeros(0, 3)})


# name: (a chain, what it comes to)
EQUAL = {
    "of one": (fn.chain(fn.adam(0.1)), lambda state: state[0], fn.adam(0.1)),
    "within a chain": (
        fn.chain(fn.chain(fn.clip_by_norm(0.1), fn.clip_by_norm(0.05)), fn.chain(fn.adamw(0.1))),
        lambda state: (*state[0], state[1][0]),
        fn.chain(fn.clip_by_norm(0.1), fn.clip_by_norm(0.05), fn.adamw(0.1)),
    ),
    "behind a wide bound": (
        fn.chain(fn.clip_by_norm(1e6), fn.momentum(0.1)),
        lambda state: state[1],
        fn.momentum(0.1),
    ),
    "of rates, which multiply": (
        fn.chain(fn.sgd(0.5), fn.sgd(0.5)),
        lambda state: state[0],
        fn.Transformation(lambda params: (), lambda grads, state, params: (fn.tree.map(lambda g: 0.25 * g, grads), ())),
    ),
}


@pytest.mark.parametrize("name", EQUAL)
def test_a_chain_is_one_after_the_other(name):
    chained, state, alone = EQUAL[name]
    for step, expected in zip(walk(chained), walk(alone), strict=True):
        assert same_bits(step._replace(state=state(step.state)), expected)


def test_foreign_transformations_are_links_of_a_chain():
    theirs, ours = torchopt.clip.clip_grad_norm(0.1), fn.clip_by_norm(0.1)
    expected = walk(fn.chain(ours, fn.adam(0.1)))
    for links in ((theirs, fn.adam(0.1)), (ours, torchopt.adam(0.1)), (theirs, torchopt.adam(0.1))):
        for step, reference in zip(walk(fn.chain(*links)), expected, strict=True):
            assert_close(step.params, reference.params, 1e-12)


# name: (ours, the same of torchopt), over 100 steps along given gradients
TORCHOPT = {
    "adamw": (fn.adamw(0.01, weight_decay=0.1), torchopt.adamw(0.01, weight_decay=0.1)),
    "chain": (
        fn.chain(fn.clip_by_norm(0.5), fn.adam(0.01)),
        torchopt.chain(torchopt.clip.clip_grad_norm(0.5), torchopt.adam(0.01)),
    ),
    "a schedule": (fn.sgd(lambda k: 0.1 / (1 + k)), torchopt.sgd(lambda k: 0.1 / (1 + k))),
}


@pytest.mark.parametrize("name", TORCHOPT)
def test_over_a_hundred_steps_it_goes_where_torchopt_goes(name):
    gradients, start = [normal(1, 50, seed=seed) for seed in range(100)], normal(50)
    paths = (fn.train(lambda w, batch: ((w * batch[0]).sum(), batch[0]), it, start, gradients) for it in TORCHOPT[name])
    for ours, theirs in zip(*paths, strict=True):
        assert_close(ours.params - start, theirs.params - start, 50 * torch.finfo(torch.float64).eps)  # a rounding a step


BAD = {
    "an empty chain": (lambda: fn.chain(), "chain(*transformations)", "none", "at least one"),
    "a list": (lambda: fn.chain([fn.sgd(0.1)]), "chain(*transformations)[0]", "a list", ".init and .update"),
    "a constructor": (lambda: fn.chain(fn.sgd(0.1), fn.adam), "chain(*transformations)[1]", "a function", ".init"),
    "an optimizer": (lambda: fn.chain(fn.nesterov(0.1)), "chain(*transformations)[0]", "an Optimizer", "Transformation"),
    "no bound": (lambda: fn.clip_by_norm(0.0), "max_norm", "0.0", "a number of at least"),
    "a negative bound": (lambda: fn.clip_by_norm(-1.0), "max_norm", "-1.0", "a number of at least"),
    "a bound that falls to 0": (lambda: fn.clip_by_norm(lambda k: 0), "max_norm at step 0", "0", "at least"),
    "no gradients": (lambda: fn.clip_by_norm(1.0).update({"w": None}), "params['w']", "None", "a floating tensor"),
    "a state of another length": (
        lambda: fn.chain(fn.sgd(0.1), fn.sgd(0.1)).update(GRADS, ((),), GRADS),
        "state",
        "a tuple",
        "a tuple of 2",
    ),
    "a foreign pair that returns no pair": (
        lambda: walk(fn.chain(fn.Transformation(lambda params: (), lambda grads, state, params: grads), fn.sgd(0.1))),
        "optimizer_fn.update(grads, state, params=...)",
        "tuple of 3",
        "(updates, state)",
    ),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", BAD)
def test_the_error_names_the_place(name):
    call, *message = BAD[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)
