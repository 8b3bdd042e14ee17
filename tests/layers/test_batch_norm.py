import pytest
import torch
from helpers import assert_close, labels, normal, same_bits, says, seeded

import funcnn as fn

ENTROPY = fn.softmax_cross_entropy()


def drawn(layer, seed=0):
    """Parameters of a network, none of them 1 or 0."""
    params = layer.init(seeded(seed), dtype=torch.float64)
    leaves, unflatten = fn.tree.flatten(params)
    return unflatten([leaf + 0.3 * normal(*leaf.shape, seed=place) for place, leaf in enumerate(leaves)])


def twice():
    return fn.serial(fn.dense(3, 4), fn.batch_norm(4), fn.tanh(), fn.serial(fn.dense(4, 5), fn.batch_norm(5, 0.1)))


def pixelwise():
    return fn.serial(fn.batch_norm(4), fn.dense(3, 3), fn.batch_norm(4))


# name: (a network, its inputs)
NETWORKS = {
    "alone": (fn.batch_norm(3), normal(12, 3)),
    "on images": (fn.batch_norm(3), normal(12, 3, 2, 2)),
    "two of them": (twice(), normal(12, 3)),
    "channels of sequences": (pixelwise(), normal(12, 4, 3)),
    "in a residual": (fn.serial(fn.residual(fn.serial(fn.dense(3, 3), fn.batch_norm(3))), fn.batch_norm(3)), normal(12, 3)),
    "side by side": (fn.parallel(fn.batch_norm(3), fn.serial(fn.gelu(), fn.batch_norm(3))), normal(12, 3)),
    "rematerialised": (fn.rematerialised(twice()), normal(12, 3)),
    "none": (fn.mlp([3, 4, 2]), normal(12, 3)),
}
NORMALISED = [name for name in NETWORKS if name != "none"]
every_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("call", [fn.per_sample, fn.per_sample_norms, lambda step: fn.per_sample_clip(step, 1.0)])
@pytest.mark.parametrize("provider", [fn.explicit, fn.func_grad])
@pytest.mark.parametrize("name", NORMALISED)
def test_there_are_no_gradients_per_sample_and_it_says_why(name, provider, call):
    network, x = NETWORKS[name]
    step_fn = provider(fn.supervised(network, fn.half_squared_error()))
    with pytest.raises(fn.InputError) as caught:
        call(step_fn)(drawn(network), (x, network(drawn(network), x)))
    assert "batch_norm(" in caught.value.place and says(caught.value, caught.value.place, "(1, ", "no gradients per sample")


@every_network
def test_a_calibrated_network_does_with_all_the_data_what_the_network_does_with_them_as_one_batch(name):
    network, x = NETWORKS[name]
    params = drawn(network)
    before = fn.tree.clone((params, x))
    for sizes in (12, 5, [1, 9, 2], 1):
        calibrated = fn.calibrate(network, params, x.split(sizes))
        assert_close(calibrated(params, x), network(params, x), 1e-12)
    assert same_bits((params, x), before)
    assert fn.tree.paths(calibrated.init(seeded())) == fn.tree.paths(params)


@pytest.mark.parametrize("name", NORMALISED)
def test_its_outputs_no_longer_depend_on_the_batch(name):
    network, x = NETWORKS[name]
    params = drawn(network)
    calibrated = fn.calibrate(network, params, [x])
    y = calibrated(params, x)
    assert_close(torch.cat([calibrated(params, row[None]) for row in x]), y, 1e-12)
    assert calibrated.forward.rowwise and not network.forward.rowwise
    assert (calibrated(params, 3 * x + 1) - network(params, 3 * x + 1)).abs().max() > 0.1


@pytest.mark.parametrize("name", NORMALISED)
def test_it_has_gradients_per_sample_and_all_that_it_claims_is_so(name):
    network, x = NETWORKS[name]
    params = drawn(network)
    calibrated = fn.calibrate(network, params, [x])
    report = fn.laws(calibrated, params, x)
    assert report, report
    objective, batch = fn.supervised(calibrated, fn.half_squared_error()), (x, network(params, x).sin())
    found, expected = (fn.per_sample(provider(objective))(params, batch) for provider in (fn.explicit, fn.func_grad))
    assert_close(found, expected, 1e-11)


def test_the_statistics_are_those_of_torchs_evaluation():
    x, params = normal(20, 4, 3, seed=5), drawn(fn.batch_norm(4))
    calibrated, other = fn.calibrate(fn.batch_norm(4), params, x.split(6)), normal(7, 4, 3, seed=6)
    mean, variance = x.mean((0, 2)), x.var((0, 2), correction=0)
    expected = torch.nn.functional.batch_norm(other, mean, variance, params["w"], params["b"])
    assert_close(calibrated(params, other), expected, 1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_it_keeps_the_dtype_and_its_statistics_the_digits(dtype):
    network, x = fn.batch_norm(3), (normal(4000, 3) + torch.tensor([0.0, 1.0, -3.0])).to(dtype)
    params = network.init(seeded(), dtype=dtype)
    y = fn.calibrate(network, params, x.split(7))(params, x)
    assert y.dtype == dtype
    assert_close(
        y.double(),
        network(drawn(network) | {"w": torch.ones(3), "b": torch.zeros(3)}, x.double()),
        20 * torch.finfo(dtype).eps,
    )


def test_training_lowers_the_loss_and_what_was_calibrated_predicts():
    network = fn.serial(fn.dense(2, 16), fn.batch_norm(16), fn.tanh(), fn.dense(16, 2))
    x = normal(60, 2)
    batch = x, (x[:, 0] * x[:, 1] > 0).long()
    steps = list(
        fn.train(fn.explicit(fn.supervised(network, ENTROPY)), fn.adam(0.05), network.init(seeded()), [batch] * 150)
    )
    calibrated = fn.calibrate(network, steps[-1].params, x.split(25))
    assert steps[-1].value < 0.2 * steps[0].value
    assert fn.accuracy(calibrated, steps[-1].params, batch) > 0.9


# name: (a call without arguments, the place, what was found, what is needed)
PARAMS = drawn(fn.batch_norm(3))
BAD = {
    "a constructor": (lambda: fn.calibrate(fn.batch_norm, PARAMS, [normal(4, 3)]), "calibrate(layer)", "function", "Layer"),
    "no data": (lambda: fn.calibrate(fn.batch_norm(3), PARAMS, []), "batches", "none", "at least one"),
    "targets too": (
        lambda: fn.calibrate(fn.batch_norm(3), PARAMS, [(normal(4, 3), labels(4, 2))]),
        "batches[0]",
        "tuple",
        "tensor",
    ),
    "an empty batch": (
        lambda: fn.calibrate(fn.batch_norm(3), PARAMS, [normal(4, 3), normal(0, 3)]),
        "batches[1]",
        "(0, 3)",
        "at least one sample",
    ),
    "inputs too wide": (
        lambda: fn.calibrate(twice(), drawn(twice()), [normal(4, 5)]),
        "inputs of params[0]",
        "(4, 5)",
        "(N, ..., 3)",
    ),
    "a batch of one": (
        lambda: fn.batch_norm(3).forward(PARAMS, normal(1, 3, 8)),
        "inputs of batch_norm(3)",
        "(1, 3, 8)",
        "two samples at least",
    ),
    "calibrated, channels last": (
        lambda: fn.calibrate(fn.batch_norm(3), PARAMS, [normal(4, 3)])(PARAMS, normal(4, 2, 3)),
        "inputs of calibrated(batch_norm(3))",
        "(4, 2, 3)",
        "(N, 3, ...)",
    ),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused(name):
    call, *message = BAD[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)


def test_a_compiled_step_knows_the_fixed_statistics():
    network, x, t = fn.serial(fn.dense(4, 3), fn.batch_norm(3)), normal(6, 4), labels(6, 3)
    params = network.init(seeded())
    step_fn = fn.explicit(fn.supervised(fn.calibrate(network, params, [x]), fn.softmax_cross_entropy()))
    eager, quick = (next(fn.train(step_fn, way(fn.sgd(0.1)), params, [(x, t)])) for way in (fn.descend, fn.compiled))
    assert_close((quick.params, quick.value), (eager.params, eager.value), 1e-14)
