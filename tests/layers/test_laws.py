import pytest
import torch
from helpers import assert_close, labels, normal, says, seeded
from tables import X, centred, quiet, tempered

import funcnn as fn

DENSE, TANH = fn.dense(4, 3), fn.tanh()


def lying(layer, half, **claims):
    return layer._replace(**{half: getattr(layer, half)._replace(**claims)})


def twice(params, x):
    """What claims to be dense computes 2 x w + b."""
    return 2 * x @ params["w"] + params["b"], (2 * x, params["w"])


def no_moves(params, x):
    raise ZeroDivisionError("a bug of the claim")


def of_rows(change):
    """The summands of dense with those of the bias changed."""
    right = DENSE.backward.summands
    return lambda residuals, dy: right(residuals, dy) | {"b": fn.Rows(change(dy))}


class Doubled(fn.Rows):
    def total(self):
        return 2 * super().total()


def narrow(params, x, y):
    return lambda column: column.copies(y)[..., :2]


# name: (a layer, the claims that are false, a claim beside it that is true)
LIES = {
    "a forward rule that computes something else": (
        lying(DENSE, "forward", run=twice),
        {"forward.moves['w']", "forward.carry", "forward.carry of a scaled column"},
        "forward.moves['b']",
    ),
    "rowwise": (
        fn.Layer(centred(4).init, fn.Forward(centred(4).forward, True), centred(4).backward),
        {"forward.rowwise"},
        None,
    ),
    "carry": (
        lying(TANH, "forward", carry=fn.sigmoid().forward.carry),
        {"forward.carry", "forward.carry of a scaled column"},
        "forward.rowwise",
    ),
    "carry of a scaled column alone": (
        lying(
            TANH,
            "forward",
            carry=lambda params, x, y: lambda column: TANH.forward.carry((), x, y)(column._replace(scale=None)),
        ),
        {"forward.carry of a scaled column"},
        "forward.carry",
    ),
    "carry, of another shape": (
        lying(TANH, "forward", carry=narrow),
        {"forward.carry", "forward.carry of a scaled column"},
        "forward.rowwise",
    ),
    "moves that raise": (lying(DENSE, "forward", moves=no_moves), {"forward.moves"}, "forward.carry"),
    "moves of another tree": (
        lying(DENSE, "forward", moves=lambda params, x: {"w": None}),
        {"forward.moves"},
        "forward.carry",
    ),
    "summands of other samples": (
        lying(DENSE, "backward", summands=of_rows(lambda dy: dy.roll(1, 0))),
        {"backward.summands['b']"},
        "backward.summands['b'], their total",
    ),
    "summands that mix samples": (
        lying(DENSE, "backward", summands=of_rows(lambda dy: dy - 0.5 * dy.mean(0))),
        {"backward.summands['b']"},
        "backward.summands['w']",
    ),
    "summands whose total is another": (
        lying(
            DENSE,
            "backward",
            summands=lambda residuals, dy: DENSE.backward.summands(residuals, dy) | {"b": Doubled(dy)},
        ),
        {"backward.summands['b']"},
        "backward.summands['w']",
    ),
    "inputs that mix samples": (
        lying(TANH, "backward", inputs=lambda y, dy: dy * (1 - y * y) - dy.mean(0)),
        {"backward.inputs"},
        None,
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_claim_that_is_not_so_is_named_and_no_other(name):
    layer, false, true = LIES[name]
    report = fn.laws(layer, layer.init(seeded()), X)
    assert not report
    assert {claim for claim, found in report.leaves.items() if found.verdict == "wrong"} == false
    assert true is None or report.leaves[true].verdict == "ok"
    assert all(claim in str(report) for claim in false)


@pytest.mark.parametrize("name", LIES)
def test_so_it_is_within_a_network(name):
    layer, false, _ = LIES[name]
    network = fn.serial(fn.sigmoid(), fn.serial(layer, fn.tanh()))
    report = fn.laws(network, network.init(seeded()), X)
    expected = {claim.replace("ward", "ward[1][0]", 1) for claim in false}
    assert {claim for claim, found in report.leaves.items() if found.verdict == "wrong"} == expected


def test_what_the_claim_gives_stands_beside_what_is_so():
    layer = LIES["a forward rule that computes something else"][0]
    found = fn.laws(layer, layer.init(seeded()), X).leaves["forward.moves['w']"]
    assert found.cause == "claim" and 0.4 < found.error < 0.6 and len(found.worst_index) == 3
    assert "the claim gives" in found.diagnosis and "its definition" in found.diagnosis


def test_what_a_claim_raises_is_said():
    layer = LIES["moves that raise"][0]
    found = fn.laws(layer, layer.init(seeded()), X).leaves["forward.moves"]
    assert found.cause == "raises" and "ZeroDivisionError: a bug of the claim" in found.diagnosis


def test_differences_believe_a_claim_and_so_laws_are_needed():
    layer, batch = LIES["a forward rule that computes something else"][0], (X, labels(5, 3))
    objective, params = fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(seeded())
    believed, truth = (provider(objective)(params, batch)[1] for provider in (fn.finite_difference, fn.func_grad))
    assert fn.tree.max_difference(believed, truth) > 0.1 * fn.tree.max_difference(truth, fn.tree.zeros_like(truth))
    plain = fn.supervised(quiet(layer), fn.softmax_cross_entropy())
    assert_close(fn.finite_difference(plain)(params, batch)[1], truth, 1e-8)


@pytest.mark.parametrize("layer", [tempered(), centred(4)], ids=["tempered", "centred"])
def test_three_plain_functions_claim_nothing(layer):
    report = fn.laws(layer, layer.init(seeded()), X)
    assert report and not report.leaves and "claims nothing" in str(report)


@pytest.mark.usefixtures("as_users_run_it")
def test_what_cannot_be_tried_is_refused():
    params = DENSE.init(seeded(), dtype=torch.float64)
    for call, message in (
        (lambda: fn.laws(fn.dense, params, X), ("layer", "function", "a Layer")),
        (lambda: fn.laws(DENSE, params, X[:1]), ("x", "(1, 4)", "two samples")),
        (lambda: fn.laws(DENSE, params, X[:0]), ("x", "(0, 4)", "at least one sample")),
        (lambda: fn.laws(DENSE, params | {"b": None}, X), ("params['b']", "None", "floating tensor")),
        (lambda: fn.laws(DENSE, params, normal(5, 3)), ("inputs of params", "(5, 3)", "(N, ..., 4)")),
        (lambda: fn.laws(DENSE, params, X, seed=-1), ("seed", "-1", "from 0 to")),
        (lambda: fn.laws(DENSE, params, X, seed=2**70), ("seed", "", "from 0 to")),
    ):
        with pytest.raises(fn.InputError) as caught:
            call()
        assert says(caught.value, *message)
