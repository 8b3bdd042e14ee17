import math

import pytest
import torch
from helpers import normal, quadratic, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from planting import BATCH, OBJECTIVE, PARAMS, leaf, only, planted

import funcnn as fn
from funcnn import Finding, Report


@pytest.mark.parametrize("provider", fn.PROVIDERS)
@pytest.mark.parametrize("reference", [None, "func_grad", "explicit"])
def test_every_provider_passes_with_every_reference(provider, reference):
    by = None if reference is None else fn.PROVIDERS[reference](OBJECTIVE)
    tolerance = 1e-5 if provider.startswith(("forward", "backward")) else 1e-7
    report = fn.check(fn.PROVIDERS[provider](OBJECTIVE), PARAMS, BATCH, reference=by, tolerance=tolerance)
    assert report.ok and {finding.verdict for finding in report.leaves.values()} == {"ok"}
    assert list(report.leaves) == fn.tree.paths(PARAMS)
    assert report.samples is None


# name: (the change, the leaf, the cause)
PLANTED = {
    "sign": (leaf(0, "w", torch.neg), "params[0]['w']", "sign"),
    "sign of a bias": (leaf(2, "b", torch.neg), "params[2]['b']", "sign"),
    "a sum in place of a mean": (leaf(2, "w", lambda g: 8 * g), "params[2]['w']", "factor N"),
    "a mean twice": (leaf(0, "w", lambda g: g / 8), "params[0]['w']", "factor N"),
    "a mean of the bias": (leaf(0, "b", lambda g: g / 8), "params[0]['b']", "bias reduction"),
    "twice": (leaf(2, "b", lambda g: 2 * g), "params[2]['b']", "factor 2"),
    "half": (leaf(0, "w", lambda g: g / 2), "params[0]['w']", "factor 2"),
    "shifted": (leaf(2, "w", lambda g: g.roll(1, 0)), "params[2]['w']", "permuted"),
    "mirrored": (leaf(0, "b", lambda g: g.flip(0)), "params[0]['b']", "permuted"),
    "transposed in memory": (leaf(2, "w", lambda g: g.T.clone().reshape(g.shape)), "params[2]['w']", "transposed"),
    "one entry": (leaf(0, "w", only((1, 2), lambda g: 2 * g)), "params[0]['w']", "single entry"),
    "one row": (leaf(0, "w", only(2, torch.neg)), "params[0]['w']", "single row"),
    "one column": (leaf(0, "w", only((slice(None), 3), torch.zeros_like)), "params[0]['w']", "single column"),
    "detached": (leaf(0, "b", torch.zeros_like), "params[0]['b']", "zero"),
    "NaN": (leaf(2, "w", only((1, 1), lambda g: g * math.nan)), "params[2]['w']", "not finite"),
    "infinite": (leaf(2, "b", lambda g: g / 0), "params[2]['b']", "not finite"),
    "of no known kind": (leaf(0, "w", lambda g: g.sin() + 0.01 * g.exp()), "params[0]['w']", ""),
    "a factor of no known kind": (leaf(0, "w", lambda g: 1.001 * g), "params[0]['w']", ""),
}


@pytest.mark.parametrize("reference", [None, fn.func_grad(OBJECTIVE)], ids=["differences", "func_grad"])
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_found_where_it_is_and_named(name, reference):
    change, path, cause = PLANTED[name]
    report = fn.check(planted(change), PARAMS, BATCH, reference=reference)
    assert not report.ok
    assert {p: finding.verdict for p, finding in report.leaves.items() if finding.verdict != "ok"} == {path: "wrong"}
    assert report.leaves[path].cause == cause, report
    assert path in str(report) and report.leaves[path].diagnosis in str(report)


def test_a_bias_that_is_not_summed_is_wrong_and_named():
    def unsummed(grads):
        rows = grads[2]["b"].expand(8, 3) / 8
        return (*grads[:2], grads[2] | {"b": rows})

    found = fn.check(planted(unsummed), PARAMS, BATCH).leaves["params[2]['b']"]
    assert found.verdict == "wrong" and found.cause == "bias reduction" and "(8, 3) in place of (3,)" in found.diagnosis


def test_a_bias_that_takes_one_sample_for_all_is_named():
    single = fn.per_sample(fn.explicit(OBJECTIVE))(PARAMS, BATCH)[1]
    report = fn.check(planted(leaf(0, "b", lambda g: single[0]["b"][3])), PARAMS, BATCH)
    found = report.leaves["params[0]['b']"]
    assert found.cause == "bias reduction" and "sample 3 alone" in found.diagnosis


# What a mistake in one layer does to the leaves before it: (the layer, the cause)
TANH, DENSE = fn.tanh(), fn.dense(5, 5)
SPOILED = {
    "no derivative": (TANH._replace(backward=lambda y, dy: ((), dy)), "activation derivative"),
    "derivative at the output": (
        TANH._replace(backward=lambda y, dy: ((), dy * (1 - y.tanh() ** 2))),
        "activation derivative",
    ),
    "W for W^T": (DENSE._replace(backward=lambda kept, dy: (DENSE.backward(kept, dy)[0], dy @ kept[1])), "transposed"),
    "wrong sign": (TANH._replace(backward=lambda y, dy: ((), -TANH.backward(y, dy)[1])), "sign"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_mistake_inside_a_network_is_named_in_every_leaf_before_it(name):
    layer, cause = SPOILED[name]
    network = fn.serial(fn.dense(4, 5), fn.tanh(), layer, fn.dense(5, 3))
    objective, params = fn.supervised(network, fn.softmax_cross_entropy()), network.init(seeded())
    leaves = fn.check(fn.explicit(objective), params, BATCH).leaves
    causes = {path: finding.cause for path, finding in leaves.items()}
    assert causes["params[0]['w']"] == causes["params[0]['b']"] == cause
    assert causes["params[3]['w']"] == causes["params[3]['b']"] == ""


@settings(max_examples=8)
@given(st.floats(-7.9, -5), st.sampled_from([None, "func_grad"]), st.booleans())
def test_the_tolerance_has_an_edge_and_mistakes_fall_on_its_right_side(exponent, reference, all_entries):
    tolerance = 10.0**exponent
    by = None if reference is None else fn.func_grad(OBJECTIVE)

    def error(size):
        def moved(g):
            direction = torch.ones_like(g) if all_entries else torch.zeros_like(g)
            direction[0, 0] = 1
            return g + size * g.norm() * direction / direction.norm()

        report = fn.check(planted(leaf(0, "w", moved)), PARAMS, BATCH, reference=by, tolerance=tolerance)
        return report.leaves["params[0]['w']"]

    assert error(0.9 * tolerance).verdict == "ok"
    assert error(1.1 * tolerance).verdict == "wrong"


@settings(max_examples=8)
@given(st.floats(1e-6, 1e-3), st.sampled_from(fn.tree.paths(PARAMS)))
def test_every_relative_error_of_a_millionth_is_found_in_every_leaf(size, path):
    position = fn.tree.paths(PARAMS).index(path)

    def change(grads):
        g = fn.tree.leaves(grads)[position]
        g += size * g.norm() * torch.nn.functional.normalize(normal(*g.shape, seed=1).flatten(), dim=0).reshape(g.shape)

    found = fn.check(planted(change), PARAMS, BATCH).leaves[path]
    assert found.verdict == "wrong" and found.error == pytest.approx(size, rel=0.01)


def test_the_worst_index_is_where_the_mistake_is():
    found = fn.check(planted(leaf(0, "w", only((3, 1), lambda g: g + 1))), PARAMS, BATCH).leaves["params[0]['w']"]
    assert found.worst_index == (3, 1)


@pytest.mark.parametrize("reference", [None, fn.func_grad(OBJECTIVE)], ids=["differences", "func_grad"])
def test_the_samples_that_disagree_are_found(reference):
    right = fn.explicit(OBJECTIVE)

    def value_and_grad(params, batch):
        # The rule forgets class 1: as if its samples had no part in the gradient.
        inputs, targets = batch
        value, _ = right(params, batch)
        kept = (targets != 1).double()[:, None]
        outputs, residuals = NETWORK.forward(params, inputs)
        doutputs = kept * LOSS.backward(LOSS.forward(outputs, targets)[1])
        return value, NETWORK.backward(residuals, doutputs)[0]

    NETWORK, LOSS = fn.mlp((4, 5, 3), fn.tanh), fn.softmax_cross_entropy()
    report = fn.check(fn.StepFn(right.value, value_and_grad), PARAMS, BATCH, reference=reference)
    assert report.samples.shape == (8, 4)
    assert (report.samples.amax(1) > 0.5).tolist() == (BATCH[1] == 1).tolist()
    guilty = [str(n) for n in range(8) if BATCH[1][n] == 1]
    assert f"{len(guilty)} of 8 samples disagree: {', '.join(guilty)}." in str(report)


def test_samples_that_are_right_alone_are_wrongly_put_together():
    right = fn.explicit(OBJECTIVE)

    def summed(params, batch):
        value, grads = right(params, batch)
        return value, fn.tree.map(lambda g: g * len(batch[0]), grads)

    report = fn.check(fn.StepFn(right.value, summed), PARAMS, BATCH)
    assert {finding.cause for finding in report.leaves.values()} == {"factor N"}
    assert report.samples.max() < 1e-6 and "how samples are put together" in str(report)


def test_a_function_that_does_not_run_under_vmap_is_checked_all_the_same():
    def value(params, batch):
        assert batch[0].mean().item() < 10  # which no vmap allows
        return OBJECTIVE.value(params, batch)

    step_fn = fn.func_grad(OBJECTIVE)
    assert fn.check(fn.StepFn(value, step_fn.value_and_grad), PARAMS, BATCH).ok
    wrong = fn.check(fn.StepFn(value, planted(leaf(0, "w", torch.neg)).value_and_grad), PARAMS, BATCH)
    assert wrong.leaves["params[0]['w']"].cause == "sign" and wrong.samples is not None


def test_a_plain_callable_is_a_provider_and_needs_no_batch():
    objective = quadratic(torch.tensor([1.0, 3.0]))
    assert fn.check(lambda w, batch: (objective.value(w, batch), torch.tensor([1.0, 3.0]) * w), params=torch.ones(2))
    assert not fn.check(lambda w, batch: (objective.value(w, batch), w), params=torch.ones(2))


def test_two_zeros_agree():
    objective = fn.Objective(lambda params, batch: (params["used"] ** 2).sum())
    params = {"used": torch.ones(2), "unused": torch.ones(3)}
    assert fn.check(fn.func_grad(objective), params).leaves["params['unused']"].error == 0.0


def test_assert_gradients_passes_and_fails_with_the_report():
    fn.assert_gradients(fn.explicit(OBJECTIVE), PARAMS, BATCH)
    fn.assert_gradients(fn.explicit(OBJECTIVE), PARAMS, BATCH, reference=fn.func_grad(OBJECTIVE))
    with pytest.raises(AssertionError, match="negative of the reference: a sign"):
        fn.assert_gradients(planted(leaf(0, "w", torch.neg)), PARAMS, BATCH)


@pytest.mark.parametrize(("verdict", "right"), [("ok", True), ("kink", True), ("wrong", False), ("unreliable", False)])
def test_a_report_is_false_where_anything_in_it_is_not_right(verdict, right):
    found, fine = Finding(verdict, 0.5), Finding("ok", 0.0)
    for report in (Report({"w": fine, "b": found}), Report({"w": fine}, {"value": found})):
        assert bool(report) == report.ok == right


def test_a_report_of_trials_alone_draws_these_and_one_of_nothing_says_so():
    (axis,) = Report({}, {"sign": Finding("ok", 2.0), "NaN": Finding("wrong", math.inf)}).plot().axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["sign", "NaN"]
    with pytest.raises(fn.InputError, match="^report: got neither leaves nor trials"):
        Report({}, remarks=("The layer claims nothing.",)).plot()


def test_the_report_draws_the_leaves_and_the_samples():
    right = fn.check(fn.explicit(OBJECTIVE), PARAMS, BATCH).plot()
    assert len(right.axes) == 1 and [text.get_text() for text in right.axes[0].get_yticklabels()] == fn.tree.paths(PARAMS)
    wrong = fn.check(planted(leaf(0, "w", torch.neg)), PARAMS, BATCH).plot()
    assert wrong.axes[1].get_ylabel() == "sample" and wrong.axes[0].get_xscale() == "log"
