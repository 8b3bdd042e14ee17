import pytest
import torch
from helpers import EPS, assert_close, labels, normal, same_bits, seeded

import funcnn as fn

N = 6
ORDERS = {"forward": 1, "backward": 1, "central": 2}  # the order of the error of each scheme


def user_layer(forward, init=lambda generator, **where: ()):
    """A layer that nothing is known of, not even its derivative."""
    return fn.Layer(init, lambda params, x: (forward(params, x), ()), lambda residuals, dy: 1 / 0)


def scaled():
    return user_layer(lambda params, x: x * params["scale"] + params["shift"][0], lambda generator, **where: START)


START = {"scale": torch.tensor(1.2, dtype=torch.float64), "shift": (normal(1, seed=8),)}
POSITIVE = user_layer(lambda params, x: x.exp() / (1 + x.exp()))
MIXING = user_layer(lambda params, x: x - x.mean(0))  # every sample sees the whole batch
FLATTEN = user_layer(lambda params, x: x.reshape(len(x), -1))
SQUARE = user_layer(lambda params, x: x.reshape(len(x), 2, -1))

# name: a layer from 5 inputs to 4 outputs, which are logits
NETWORKS = {
    **{f"depth {len(sizes) - 1}": fn.mlp(sizes) for sizes in ([5, 4], [5, 6, 4], [5, 3, 6, 4], [5, 6, 5, 3, 4])},
    "depth 5": fn.mlp([5, 3, 4, 5, 3, 4], fn.tanh),
    "tanh": fn.mlp([5, 6, 4], fn.tanh),
    "relu": fn.mlp([5, 6, 4], fn.relu),
    "softmax in the middle": fn.mlp([5, 6, 3, 4], fn.softmax),
    "softmax at the end": fn.serial(fn.dense(5, 4), fn.softmax()),
    "no bias": fn.serial(fn.dense(5, 6, bias=False), fn.tanh(), fn.dense(6, 4, bias=False)),
    "no activation": fn.serial(fn.dense(5, 3), fn.dense(3, 4)),
    "two activations": fn.serial(fn.dense(5, 6), fn.tanh(), fn.sigmoid(), fn.dense(6, 4), fn.tanh(), fn.sigmoid()),
    "an activation first": fn.serial(fn.sigmoid(), fn.dense(5, 4)),
    "nested": fn.serial(fn.serial(fn.dense(5, 6)), fn.serial(fn.tanh(), fn.serial(fn.dense(6, 4), fn.tanh()))),
    "not in series": fn.dense(5, 4),
    "a user's layer first": fn.serial(scaled(), fn.dense(5, 6), fn.tanh(), fn.dense(6, 4)),
    "a user's layer between": fn.serial(fn.dense(5, 6), scaled(), fn.tanh(), fn.dense(6, 4)),
    "a user's layer last": fn.serial(fn.dense(5, 6), fn.tanh(), fn.dense(6, 4), scaled()),
    "only a user's layer": fn.serial(fn.dense(5, 4), POSITIVE),
    "a layer that mixes samples": fn.serial(fn.dense(5, 6), fn.tanh(), MIXING, fn.dense(6, 4)),
    "activations of three axes": fn.serial(fn.dense(5, 6), SQUARE, fn.tanh(), FLATTEN, fn.dense(6, 4)),
}


def from_forward(loss):
    """The same loss as a user would write it: a pair of functions and nothing else."""
    return fn.Loss(loss.forward, loss.backward)


# name: (a loss, its targets for 4 outputs, whether the outputs must be probabilities)
PROBABILITIES = torch.rand(N, 4, generator=seeded(3), dtype=torch.float64)
LOSSES = {
    "softmax_cross_entropy": (fn.softmax_cross_entropy(), labels(N, 4), False),
    "clipped": (fn.softmax_cross_entropy(clip=1e-3), labels(N, 4), False),
    "half_squared_error": (fn.half_squared_error(), normal(N, 4, seed=3), False),
    "mean_squared_error": (fn.mean_squared_error(3.0), normal(N, 4, seed=3), False),
    "binary_cross_entropy": (fn.binary_cross_entropy(), PROBABILITIES, True),
    "a user's": (from_forward(fn.softmax_cross_entropy()), labels(N, 4), False),
    "a user's sum": (fn.Loss(lambda y, t: ((y - t).square().sum(), ()), lambda _: 1 / 0), normal(N, 4, seed=3), False),
}


def problem(network="depth 2", loss="softmax_cross_entropy", dtype=torch.float64):
    """(objective, parameters, batch)"""
    layer = NETWORKS[network]
    rule, targets, of_probabilities = LOSSES[loss]
    layer = fn.serial(layer, fn.sigmoid()) if of_probabilities else layer
    params = fn.tree.map(lambda leaf: leaf.to(dtype), layer.init(seeded()))
    targets = targets.to(dtype) if targets.is_floating_point() else targets
    return fn.supervised(layer, rule), params, (normal(N, 5, seed=1, dtype=dtype), targets)


def plain(objective):
    """The same function, of which nothing is known."""
    return fn.Objective(objective.value)


def relative_error(grads, truth):
    error = fn.tree.add_scaled(grads, -1.0, truth)
    return (fn.tree.dot(error, error) / fn.tree.dot(truth, truth)).sqrt().item()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("network", NETWORKS)
def test_central_differences_agree_with_func_grad(network, loss):
    objective, params, batch = problem(network, loss)
    value, grads = fn.finite_difference(objective)(params, batch)
    expected, truth = fn.func_grad(objective)(params, batch)
    assert relative_error(grads, truth) < 1e-8
    assert fn.tree.paths(grads) == fn.tree.paths(truth)
    assert torch.allclose(value, expected, rtol=0, atol=10 * EPS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scheme", ORDERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_what_is_known_of_a_network_does_not_change_its_differences(network, scheme, dtype):
    objective, params, batch = problem(network, dtype=dtype)
    known, unknown = (fn.finite_difference(f, scheme)(params, batch) for f in (objective, plain(objective)))
    assert same_bits(known[0], unknown[0])
    eps = torch.finfo(dtype).eps
    assert_close(known[1], unknown[1], 10 * eps / eps ** (1 / (1 + ORDERS[scheme])))  # rounding of values, over the step


@pytest.mark.parametrize("chunk_size", [1, 7, 10**9])
@pytest.mark.parametrize("scheme", ORDERS)
@pytest.mark.parametrize("network", ["depth 3", "softmax in the middle", "a user's layer between"])
def test_the_chunk_size_does_not_change_the_gradient(network, scheme, chunk_size):
    objective, params, batch = problem(network)
    whole, chunked = (fn.finite_difference(objective, scheme, chunk_size=size) for size in (None, chunk_size))
    assert_close(chunked(params, batch)[1], whole(params, batch)[1], 10 * EPS / EPS ** (1 / (1 + ORDERS[scheme])))


@pytest.mark.parametrize("step", [1e-2, 10.0])
@pytest.mark.parametrize("scheme", ORDERS)
def test_a_large_step_is_taken_whole(scheme, step):
    # Far from the limit a quotient shows where it was evaluated: one that had linearised anything would differ.
    objective, params, batch = problem("depth 3")
    known, unknown = (fn.finite_difference(f, scheme, step=step)(params, batch)[1] for f in (objective, plain(objective)))
    assert_close(known, unknown, 1e-12)
    assert relative_error(known, fn.func_grad(objective)(params, batch)[1]) > 1e-6


def test_an_autoencoder_and_its_inputs_as_targets():
    layer, x = fn.autoencoder([5, 4, 2], fn.tanh), normal(N, 5)
    objective, params = fn.supervised(layer, fn.half_squared_error()), layer.init(seeded())
    grads, truth = (provider(objective)(params, (x, x))[1] for provider in (fn.finite_difference, fn.func_grad))
    assert relative_error(grads, truth) < 1e-8


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "a layer that mixes samples"])
def test_each_sample_has_differences_of_its_own(network, loss):
    objective, params, batch = problem(network, loss)
    values, grads = fn.per_sample(fn.finite_difference(objective))(params, batch)
    expected, truth = fn.per_sample(fn.func_grad(objective))(params, batch)
    assert relative_error(grads, truth) < 1e-8
    assert torch.allclose(values, expected, rtol=0, atol=10 * EPS)


@pytest.mark.parametrize("chunk_size", [1, 7, None])
def test_a_layer_runs_no_more_often_than_its_inputs_change(chunk_size):
    seen = {"first": 0, "last": 0}

    def counting(name):
        def forward(params, x):
            seen[name] += 1
            return x

        return user_layer(forward)

    layer = fn.serial(counting("first"), fn.dense(5, 6), fn.tanh(), fn.dense(6, 4), counting("last"))
    objective = fn.supervised(layer, fn.softmax_cross_entropy())
    fn.finite_difference(objective, chunk_size=chunk_size)(layer.init(seeded()), (normal(N, 5), labels(N, 4)))
    chunks = sum(-(-count // (chunk_size or count)) for count in (6, 30, 4, 24))
    assert seen == {"first": 2, "last": 2 + 2 * chunks}


def test_the_largest_chunk_is_independent_of_the_number_of_parameters():
    def largest(hidden):
        seen = []

        def terms(outputs, targets):
            seen.append(outputs.numel())
            return (outputs - targets).square().sum(1), ()

        loss = fn.half_squared_error()
        spied = loss._replace(known=fn.Known((loss.forward, loss.backward), {"terms": terms}))
        objective = fn.supervised(fn.mlp([50, hidden, 4]), spied)
        params = objective.parts[0].init(seeded())
        fn.finite_difference(objective)(params, (normal(N, 50), normal(N, 4)))
        return max(seen)

    assert largest(300) == largest(900) < 100_000


def test_small_slopes_survive_beside_a_large_loss():
    # A mean of about 10 is known to 1e-15, its difference over 1e-5 to 1e-10: per sample that is averaged away.
    count = 4096
    layer, loss = fn.mlp([3, 2, 5], fn.tanh), fn.softmax_cross_entropy()
    params, batch = layer.init(seeded()), (normal(count, 3), labels(count, 5))
    params = fn.tree.map(lambda leaf: 4 * leaf, params)
    truth = fn.func_grad(fn.supervised(layer, loss))(params, batch)[1]
    errors = [
        fn.tree.max_difference(fn.finite_difference(fn.supervised(layer, form))(params, batch)[1], truth)
        for form in (loss, from_forward(loss))
    ]
    assert errors[0] < errors[1] / 3


@pytest.mark.parametrize("loss", [name for name in LOSSES if not name.startswith("a user's")])
def test_the_terms_of_a_loss_are_its_values_on_batches_of_one(loss):
    rule, targets, of_probabilities = LOSSES[loss]
    outputs = torch.rand(N, 4, generator=seeded(5), dtype=torch.float64) if of_probabilities else normal(N, 4, seed=5)
    terms, _ = rule.terms(outputs, targets)
    alone = torch.stack([rule.forward(outputs[n : n + 1], targets[n : n + 1])[0] for n in range(N)])
    assert terms.shape == (N,) and torch.allclose(terms, alone, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("params", "batch", "place"),
    [
        (({"w": normal(5, 6)}, (), {"w": normal(6, 4), "b": normal(4)}), (normal(N, 5), labels(N, 4)), "params"),
        (({"w": normal(4, 6), "b": normal(6)},), (normal(N, 5), labels(N, 4)), "params"),
        (fn.mlp([5, 6, 4]).init(seeded(), dtype=torch.float64), (normal(N, 3), labels(N, 4)), "inputs of params"),
        (fn.mlp([5, 6, 4]).init(seeded(), dtype=torch.float64), (normal(N, 5), normal(N, 4)), "targets"),
        (fn.mlp([5, 6, 4]).init(seeded(), dtype=torch.float64), normal(N, 5), "batch"),
    ],
)
def test_bad_input_is_refused_as_by_every_provider(params, batch, place, as_users_run_it):
    with pytest.raises(fn.InputError, match=f"^{place}"):
        fn.finite_difference(fn.supervised(fn.mlp([5, 6, 4]), fn.softmax_cross_entropy()))(params, batch)
