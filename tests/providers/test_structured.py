import pytest
import torch
from helpers import EPS, assert_close, labels, normal, same_bits, seeded
from tables import LAYERS, LOSSES, N, centred, layer_scene, loss_scene, nothing_known, quiet, scale, tempered
from torch.utils._python_dispatch import TorchDispatchMode

import funcnn as fn

ORDERS = {"forward": 1, "backward": 1, "central": 2}  # the order of the error of each scheme


def rounding(scheme, dtype=torch.float64):
    """Of values, over the step."""
    eps = torch.finfo(dtype).eps
    return 10 * eps / eps ** (1 / (1 + ORDERS[scheme]))


def problem(name, dtype=torch.float64):
    layer, params, *batch = layer_scene(name, dtype)
    return fn.supervised(layer, fn.half_squared_error()), params, tuple(batch)


def plain(objective):
    """The same function, of which nothing is known."""
    return fn.Objective(lambda params, batch: objective.value(params, batch))


def relative_error(grads, truth):
    error = fn.tree.add_scaled(grads, -1.0, truth)
    return (fn.tree.dot(error, error) / fn.tree.dot(truth, truth)).sqrt().item()


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_known_of_a_layer_does_not_change_its_differences(name):
    objective, params, batch = problem(name, torch.float32)
    for scheme in ("forward", "central"):
        known, unknown = (fn.finite_difference(f, scheme)(params, batch) for f in (objective, plain(objective)))
        assert same_bits(known[0], unknown[0])
        assert_close(known[1], unknown[1], max(1.0, known[0].item()) * rounding(scheme, torch.float32))


@pytest.mark.parametrize("name", LAYERS)
def test_a_large_step_is_taken_whole(name):
    # Far from the limit a quotient shows where it was evaluated: one that had linearised anything would differ.
    objective, params, batch = problem(name)
    for scheme, step in (("backward", 10.0), ("central", 1e-1)):
        known, unknown = (
            fn.finite_difference(f, scheme, step=step)(params, batch)[1] for f in (objective, plain(objective))
        )
        assert_close(known, unknown, 1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("between", [fn.softmax(), tempered(), centred(4)], ids=["softmax", "tempered", "centred"])
def test_every_loss_behind_every_kind_of_layer_has_its_differences(loss, between):
    features = LOSSES[loss].outputs.shape[-1]
    layer = fn.serial(fn.dense(4, 4), between, fn.dense(4, features), fn.sigmoid())
    objective, params, batch, formula = loss_scene(loss, layer)
    grads, truth = fn.finite_difference(objective)(params, batch)[1], torch.func.grad(formula)(params, batch)
    assert relative_error(grads, truth) < 1e-8


@pytest.mark.parametrize("chunk_size", [1, 7])
@pytest.mark.parametrize("name", ["mlp on tokens, softmax", "a user's between"])
def test_the_chunk_size_does_not_change_the_gradient(name, chunk_size):
    objective, params, batch = problem(name)
    whole, chunked = (fn.finite_difference(objective, chunk_size=size) for size in (None, chunk_size))
    assert_close(chunked(params, batch)[1], whole(params, batch)[1], rounding("central"))


def test_an_autoencoder_and_its_inputs_as_targets():
    layer, x = fn.autoencoder([5, 4, 2], fn.tanh), normal(N, 5)
    objective, params = fn.supervised(layer, fn.half_squared_error()), layer.init(seeded())
    grads, truth = (provider(objective)(params, (x, x))[1] for provider in (fn.finite_difference, fn.func_grad))
    assert relative_error(grads, truth) < 1e-8


def counting(seen, name):
    """A layer that does nothing but say so."""

    def forward(params, x):
        seen[name] = seen.get(name, 0) + 1
        return x, ()

    return fn.Layer(lambda generator, **where: (), forward, lambda residuals, dy: ((), dy))


@pytest.mark.parametrize("chunk_size", [1, 7, None])
def test_a_layer_runs_no_more_often_than_its_inputs_change(chunk_size):
    seen = {}
    layer = fn.serial(counting(seen, "first"), fn.dense(5, 6), fn.tanh(), fn.dense(6, 4), counting(seen, "last"))
    objective = fn.supervised(layer, fn.softmax_cross_entropy())
    fn.finite_difference(objective, chunk_size=chunk_size)(layer.init(seeded()), (normal(N, 5), labels(N, 4)))
    chunks = sum(-(-count // (chunk_size or count)) for count in (6, 30, 4, 24))  # both points of an entry in one call
    assert seen == {"first": 2, "last": 2 + chunks}


class Elements(TorchDispatchMode):
    """Counts the numbers that all operations return, and the products."""

    def __init__(self):
        super().__init__()
        self.elements, self.products = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.elements += sum(leaf.numel() for leaf in fn.tree.leaves(result) if isinstance(leaf, torch.Tensor))
        self.products += func.overloadpacket.__name__ in ("mm", "addmm", "bmm")
        return result


def work(layer, call):
    """What a gradient of an objective of this layer computes."""
    objective, params = fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(seeded())
    with Elements() as count:
        call(objective)(params, (normal(40, 12), labels(40, 4)))
    return count.elements, count.products


CALLS = {"differences": fn.finite_difference, "per sample": lambda objective: fn.per_sample(fn.explicit(objective))}


def test_a_replaced_backward_leaves_the_differences_of_a_network_as_they_were():
    def replaced(layer):
        return layer._replace(backward=lambda residuals, dy: 1 / 0)

    network = fn.mlp([12, 10, 8, 4], fn.tanh)
    within = fn.serial(replaced(fn.dense(12, 10)), replaced(fn.tanh()), fn.dense(10, 8), fn.tanh(), replaced(fn.dense(8, 4)))
    expected = work(network, fn.finite_difference)
    assert work(replaced(network), fn.finite_difference) == work(within, fn.finite_difference) == expected
    unknown = work(quiet(network), fn.finite_difference)
    assert unknown[0] > 2 * expected[0]


@pytest.mark.parametrize("call", CALLS)
def test_softmax_in_the_middle_of_a_network_costs_what_tanh_costs_there(call):
    softmax, tanh = (work(fn.mlp([12, 10, 8, 4], activation), CALLS[call]) for activation in (fn.softmax, fn.tanh))
    assert softmax[0] <= 1.5 * tanh[0] and softmax[1] <= tanh[1] + 2


def test_a_newcomers_layer_costs_what_tanh_costs_in_its_place():
    first, last = fn.dense(12, 10), fn.dense(10, 4)
    for call in CALLS.values():
        ours, theirs = (work(fn.serial(first, between, last), call) for between in (scale(10), fn.tanh()))
        assert ours[0] <= 1.5 * theirs[0]


def test_the_largest_chunk_is_independent_of_the_number_of_parameters():
    def largest(hidden):
        seen = []

        def terms(outputs, targets):
            seen.append(outputs.numel())
            return (outputs - targets).square().sum(1), ()

        loss = fn.half_squared_error()
        layer, spied = fn.mlp([50, hidden, 4]), loss._replace(forward=loss.forward._replace(terms=terms))
        fn.finite_difference(fn.supervised(layer, spied))(layer.init(seeded()), (normal(N, 50), normal(N, 4)))
        return max(seen)

    assert largest(300) == largest(900) < 200_000


def test_small_slopes_survive_beside_a_large_loss():
    # A mean of about 10 is known to 1e-15, its difference over 1e-5 to 1e-10: per sample that is averaged away.
    count = 4096
    layer, loss = fn.mlp([3, 2, 5], fn.tanh), fn.softmax_cross_entropy()
    params, batch = layer.init(seeded()), (normal(count, 3), labels(count, 5))
    params = fn.tree.map(lambda leaf: 4 * leaf, params)
    truth = fn.func_grad(fn.supervised(layer, loss))(params, batch)[1]
    errors = [
        fn.tree.max_difference(fn.finite_difference(fn.supervised(layer, form))(params, batch)[1], truth)
        for form in (loss, nothing_known(loss))
    ]
    assert errors[0] < errors[1] / 3


def test_the_complex_step_takes_the_same_short_cuts_to_the_last_digit():
    for name in ("mlp on tokens, softmax", "serial, activations first and twice"):
        objective, params, batch = problem(name)
        known, unknown = (fn.complex_step(f)(params, batch)[1] for f in (objective, plain(objective)))
        assert_close(known, unknown, 10 * EPS)
