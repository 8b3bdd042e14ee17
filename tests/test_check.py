import math

import pytest
import torch
from helpers import classifier, labels, normal, quadratic, says, seeded
from hypothesis import given
from hypothesis import strategies as st

import funcnn as fn


def scene(*arguments, **options):
    objective, params, batch = classifier(*arguments, **options)
    return objective, fn.tree.map(torch.Tensor.double, params), batch


OBJECTIVE, PARAMS, BATCH = scene((4, 5, 3))


def planted(change, objective=OBJECTIVE):
    """The explicit provider with its gradient changed by hand: change(grads) writes into a copy."""
    right = fn.explicit(objective)

    def value_and_grad(params, batch):
        value, grads = right(params, batch)
        grads = fn.tree.clone(grads)
        replaced = change(grads)
        return value, grads if replaced is None else replaced

    return fn.StepFn(right.value, value_and_grad)


def leaf(layer, name, change):
    """A change of one leaf: grads[layer][name] becomes change(grads[layer][name])."""

    def write(grads):
        grads[layer][name][...] = change(grads[layer][name])

    return write


def only(index, change):
    def changed(g):
        g = g.clone()
        g[index] = change(g[index])
        return g

    return changed


@pytest.mark.parametrize("provider", fn.PROVIDERS)
@pytest.mark.parametrize("reference", [None, "func_grad", "explicit"])
def test_every_provider_passes_with_every_reference(provider, reference):
    by = None if reference is None else fn.PROVIDERS[reference](OBJECTIVE)
    tolerance = 1e-5 if provider.startswith(("forward", "backward")) else 1e-7
    report = fn.check(fn.PROVIDERS[provider](OBJECTIVE), by, PARAMS, BATCH, tolerance=tolerance)
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
    report = fn.check(planted(change), reference, PARAMS, BATCH)
    assert not report.ok
    assert {p: finding.verdict for p, finding in report.leaves.items() if finding.verdict != "ok"} == {path: "wrong"}
    assert report.leaves[path].cause == cause, report
    assert path in str(report) and report.leaves[path].diagnosis in str(report)


def test_a_bias_that_is_not_summed_is_wrong_and_named():
    def unsummed(grads):
        rows = grads[2]["b"].expand(8, 3) / 8
        return (*grads[:2], grads[2] | {"b": rows})

    found = fn.check(planted(unsummed), None, PARAMS, BATCH).leaves["params[2]['b']"]
    assert found.verdict == "wrong" and found.cause == "bias reduction" and "(8, 3) in place of (3,)" in found.diagnosis


def test_a_bias_that_takes_one_sample_for_all_is_named():
    single = fn.per_sample(fn.explicit(OBJECTIVE))(PARAMS, BATCH)[1]
    report = fn.check(planted(leaf(0, "b", lambda g: single[0]["b"][3])), None, PARAMS, BATCH)
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
    leaves = fn.check(fn.explicit(objective), None, params, BATCH).leaves
    causes = {path: finding.cause for path, finding in leaves.items()}
    assert causes["params[0]['w']"] == causes["params[0]['b']"] == cause
    assert causes["params[3]['w']"] == causes["params[3]['b']"] == ""


@given(st.floats(-7.9, -5), st.sampled_from([None, "func_grad"]), st.booleans())
def test_the_tolerance_has_an_edge_and_mistakes_fall_on_its_right_side(exponent, reference, all_entries):
    tolerance = 10.0**exponent
    by = None if reference is None else fn.func_grad(OBJECTIVE)

    def error(size):
        def moved(g):
            direction = torch.ones_like(g) if all_entries else torch.zeros_like(g)
            direction[0, 0] = 1
            return g + size * g.norm() * direction / direction.norm()

        return fn.check(planted(leaf(0, "w", moved)), by, PARAMS, BATCH, tolerance=tolerance).leaves["params[0]['w']"]

    assert error(0.9 * tolerance).verdict == "ok"
    assert error(1.1 * tolerance).verdict == "wrong"


@given(st.floats(1e-6, 1e-3), st.sampled_from(fn.tree.paths(PARAMS)))
def test_every_relative_error_of_a_millionth_is_found_in_every_leaf(size, path):
    position = fn.tree.paths(PARAMS).index(path)

    def change(grads):
        g = fn.tree.leaves(grads)[position]
        g += size * g.norm() * torch.nn.functional.normalize(normal(*g.shape, seed=1).flatten(), dim=0).reshape(g.shape)

    found = fn.check(planted(change), None, PARAMS, BATCH).leaves[path]
    assert found.verdict == "wrong" and found.error == pytest.approx(size, rel=0.01)


def test_the_worst_index_is_where_the_mistake_is():
    found = fn.check(planted(leaf(0, "w", only((3, 1), lambda g: g + 1))), None, PARAMS, BATCH).leaves["params[0]['w']"]
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
    report = fn.check(fn.StepFn(right.value, value_and_grad), reference, PARAMS, BATCH)
    assert report.samples.shape == (8, 4)
    assert (report.samples.amax(1) > 0.5).tolist() == (BATCH[1] == 1).tolist()
    guilty = [str(n) for n in range(8) if BATCH[1][n] == 1]
    assert f"{len(guilty)} of 8 samples disagree: {', '.join(guilty)}." in str(report)


def test_samples_that_are_right_alone_are_wrongly_put_together():
    right = fn.explicit(OBJECTIVE)

    def summed(params, batch):
        value, grads = right(params, batch)
        return value, fn.tree.map(lambda g: g * len(batch[0]), grads)

    report = fn.check(fn.StepFn(right.value, summed), None, PARAMS, BATCH)
    assert {finding.cause for finding in report.leaves.values()} == {"factor N"}
    assert report.samples.max() < 1e-6 and "how samples are put together" in str(report)


ZERO_ROW = torch.cat([torch.zeros(1, 4), normal(7, 4)]), BATCH[1]
NO_BIAS = tuple(own and own | {"b": torch.zeros_like(own["b"])} for own in PARAMS)


@pytest.mark.parametrize(
    ("at_zero", "verdict"), [(0.0, "kink"), (0.5, "ok"), (1.0, "kink"), (0.3, "kink"), (1.5, "wrong"), (-0.5, "wrong")]
)
def test_at_a_kink_what_lies_between_both_sides_is_excused(at_zero, verdict):
    # With x = 0 and b = 0 the whole first layer of one sample stands at ReLU's kink. Differences see 1/2 there.
    relu = fn.relu()._replace(
        forward=lambda params, x: (torch.relu(x), x),
        backward=lambda x, dy: ((), torch.where(x == 0, at_zero * dy, torch.where(x > 0, dy, 0))),
    )
    objective = fn.supervised(fn.serial(fn.dense(4, 5), relu, fn.dense(5, 3)), fn.softmax_cross_entropy())
    report = fn.check(fn.explicit(objective), None, NO_BIAS, ZERO_ROW)
    assert report.leaves["params[0]['b']"].verdict == verdict, report
    assert report.leaves["params[0]['w']"].verdict == "ok" == report.leaves["params[2]['w']"].verdict
    assert report.ok == (verdict != "wrong")


def test_a_mistake_beside_a_kink_is_not_excused():
    objective = fn.supervised(fn.mlp((4, 5, 3), fn.relu), fn.softmax_cross_entropy())
    report = fn.check(planted(leaf(0, "b", lambda g: 1.01 * g), objective), None, NO_BIAS, ZERO_ROW)
    assert report.leaves["params[0]['b']"].verdict == "wrong"


def test_samples_with_kinks_in_opposite_directions_are_excused():
    # |w x| at w = 0: sample by sample the derivative lies in [-|x|, |x|], the one-sided ones of the batch are +-mean |x|.
    objective = fn.Objective(lambda w, x: (torch.relu(w * x)).mean())
    x = torch.tensor([1.0, -1.0, 2.0])
    for g, verdict in ((0.0, "kink"), (1.0, "kink"), (-1 / 3, "kink"), (1.1, "wrong"), (-0.4, "wrong")):
        step_fn = fn.StepFn(objective.value, lambda w, x, g=g: (objective.value(w, x), torch.tensor(g)))
        assert fn.check(step_fn, None, torch.tensor(0.0), x).leaves["params"].verdict == verdict, g


def test_where_rounding_hides_everything_the_reference_is_called_unreliable():
    # The slope of relu is 1e-12 beside a value of 1: differences see nothing, and complex steps refuse relu.
    objective = fn.Objective(lambda w, batch: 1 + 1e-18 * torch.relu(w).sum())
    step_fn = fn.StepFn(objective.value, lambda w, batch: (objective.value(w, batch), torch.full_like(w, 3e-18)))
    report = fn.check(step_fn, None, torch.ones(3))
    assert report.leaves["params"].verdict == "unreliable" and "rounding" in report.leaves["params"].diagnosis
    assert not report.ok


def test_an_analytic_function_is_seen_through_its_rounding():
    objective = fn.Objective(lambda w, batch: 1 + 1e-18 * torch.sin(w).sum())
    right, wrong = (
        fn.StepFn(objective.value, lambda w, batch, c=c: (objective.value(w, batch), c * 1e-18 * torch.cos(w)))
        for c in (1, 1.01)
    )
    assert fn.check(right, None, torch.ones(3)).ok
    assert not fn.check(wrong, None, torch.ones(3)).ok


def test_a_wrong_reference_is_not_believed():
    report = fn.check(fn.explicit(OBJECTIVE), planted(leaf(0, "w", torch.neg)), PARAMS, BATCH)
    found = report.leaves["params[0]['w']"]
    assert found.verdict == "unreliable" and "side with this gradient" in found.diagnosis and not report.ok


def test_a_function_that_is_not_deterministic_is_told_before_anything_else():
    generator = seeded()

    def noisy(params, batch):
        value, grads = fn.explicit(OBJECTIVE)(params, batch)
        return value, fn.tree.map(lambda g: g * (1 + 0.01 * torch.randn((), generator=generator)), grads)

    report = fn.check(fn.StepFn(OBJECTIVE.value, noisy), None, PARAMS, BATCH)
    assert report.trials["repeated call"].cause == "nondeterministic"
    assert 1e-4 < report.trials["repeated call"].error < 0.1
    assert {finding.verdict for finding in report.leaves.values()} == {"unreliable"}


def test_residuals_kept_from_another_point_are_found():
    kept = []

    def value_and_grad(params, batch):
        result = fn.explicit(OBJECTIVE)(params, batch)
        kept.append(result[1])
        return result[0], kept[0]

    assert not fn.check(fn.StepFn(OBJECTIVE.value, value_and_grad), None, PARAMS, BATCH).ok


def test_writing_into_the_parameters_is_told():
    def writes(params, batch):
        result = fn.explicit(OBJECTIVE)(params, batch)
        params[0]["w"].mul_(1.0 + 1e-9)
        return result

    report = fn.check(fn.StepFn(OBJECTIVE.value, writes), None, fn.tree.clone(PARAMS), BATCH)
    assert report.trials["untouched inputs"].cause == "mutation" and "params[0]['w']" in str(report)


def test_a_value_that_is_another_functions_is_told():
    other = fn.StepFn(lambda params, batch: 1.01 * OBJECTIVE.value(params, batch), fn.explicit(OBJECTIVE).value_and_grad)
    report = fn.check(other, fn.func_grad(OBJECTIVE), PARAMS, BATCH)
    assert report.trials["value"].cause == "value" and not report.ok


def test_a_value_that_is_not_finite_leaves_nothing_to_compare():
    objective = fn.Objective(lambda w, batch: w.log().sum(), lambda w, batch: (w.log().sum(), 1 / w))
    report = fn.check(fn.explicit(objective), None, torch.tensor([-1.0, 2.0]))
    assert report.trials["value"].cause == "not finite" and report.leaves["params"].verdict == "unreliable"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", [fn.tanh, fn.sigmoid, fn.relu])
def test_low_precision_is_judged_by_its_own_noise(dtype, activation):
    objective, params, batch = classifier((6, 10, 4), activation, count=16)
    low = fn.tree.map(lambda x: x.to(dtype) if x.is_floating_point() else x, (params, batch))
    report = fn.check(fn.explicit(objective), None, *low)
    assert report.ok, report
    ratios = [20 * finding.error / finding.allowed for finding in report.leaves.values()]
    assert max(ratios) < 5  # noise floors; the line is drawn at 20
    for path, change in (("params[0]['w']", torch.neg), ("params[0]['w']", lambda g: 2 * g)):
        wrong = fn.check(planted(leaf(0, "w", change), objective), None, *low)
        assert wrong.leaves[path].verdict == "wrong" and not wrong.ok


def test_in_float32_an_error_of_a_thousandth_is_found():
    low = fn.tree.map(lambda x: x.float() if x.is_floating_point() else x, (PARAMS, BATCH))
    assert fn.check(planted(leaf(0, "w", lambda g: 1.001 * g)), None, *low).leaves["params[0]['w']"].verdict == "wrong"


LARGE, LARGE_PARAMS, LARGE_BATCH = scene((100, 120, 3), fn.tanh, count=4)


def test_a_large_model_is_probed_and_the_guilty_entry_is_found():
    assert fn.check(fn.explicit(LARGE), None, LARGE_PARAMS, LARGE_BATCH).ok
    report = fn.check(planted(leaf(0, "w", only((17, 93), lambda g: g + 0.01)), LARGE), None, LARGE_PARAMS, LARGE_BATCH)
    found = report.leaves["params[0]['w']"]
    assert found.verdict == "wrong" and found.worst_index == (17, 93) and found.cause == "single entry"
    assert "only [17, 93] is wrong" in found.diagnosis and "is missed with probability 2e-04" in str(report)


@pytest.mark.parametrize(
    ("change", "cause"), [(torch.neg, "sign"), (lambda g: 2 * g, "factor 2"), (torch.zeros_like, "zero")]
)
def test_a_large_leaf_that_is_wrong_everywhere_is_named(change, cause):
    found = fn.check(planted(leaf(0, "w", change), LARGE), None, LARGE_PARAMS, LARGE_BATCH).leaves["params[0]['w']"]
    assert found.verdict == "wrong" and found.cause == cause


def test_a_large_model_against_func_grad_is_compared_entry_by_entry():
    step_fn = planted(leaf(0, "w", only((17, 93), lambda g: g * (1 + 1e-3))), LARGE)
    found = fn.check(step_fn, fn.func_grad(LARGE), LARGE_PARAMS, LARGE_BATCH).leaves["params[0]['w']"]
    assert found.worst_index == (17, 93) and found.cause == "single entry"


def test_a_function_that_does_not_run_under_vmap_is_checked_all_the_same():
    def value(params, batch):
        assert batch[0].mean().item() < 10  # which no vmap allows
        return OBJECTIVE.value(params, batch)

    step_fn = fn.func_grad(OBJECTIVE)
    assert fn.check(fn.StepFn(value, step_fn.value_and_grad), None, PARAMS, BATCH).ok
    wrong = fn.check(fn.StepFn(value, planted(leaf(0, "w", torch.neg)).value_and_grad), None, PARAMS, BATCH)
    assert wrong.leaves["params[0]['w']"].cause == "sign" and wrong.samples is not None


def test_a_plain_callable_is_a_provider_and_needs_no_batch():
    objective = quadratic(torch.tensor([1.0, 3.0]))
    assert fn.check(lambda w, batch: (objective.value(w, batch), torch.tensor([1.0, 3.0]) * w), params=torch.ones(2)).ok
    assert not fn.check(lambda w, batch: (objective.value(w, batch), w), params=torch.ones(2)).ok


def test_two_zeros_agree():
    objective = fn.Objective(lambda params, batch: (params["used"] ** 2).sum())
    params = {"used": torch.ones(2), "unused": torch.ones(3)}
    assert fn.check(fn.func_grad(objective), None, params).leaves["params['unused']"].error == 0.0


def test_assert_gradients_passes_and_fails_with_the_report():
    fn.assert_gradients(fn.explicit(OBJECTIVE), PARAMS, BATCH)
    fn.assert_gradients(fn.explicit(OBJECTIVE), PARAMS, BATCH, fn.func_grad(OBJECTIVE))
    with pytest.raises(AssertionError, match="negative of the reference: a sign"):
        fn.assert_gradients(planted(leaf(0, "w", torch.neg)), PARAMS, BATCH)


def test_the_report_draws_the_leaves_and_the_samples():
    right = fn.check(fn.explicit(OBJECTIVE), None, PARAMS, BATCH).plot()
    assert len(right.axes) == 1 and [text.get_text() for text in right.axes[0].get_yticklabels()] == fn.tree.paths(PARAMS)
    wrong = fn.check(planted(leaf(0, "w", torch.neg)), None, PARAMS, BATCH).plot()
    assert wrong.axes[1].get_ylabel() == "sample" and wrong.axes[0].get_xscale() == "log"


def test_the_same_seed_gives_the_same_report():
    step_fn = planted(leaf(0, "w", lambda g: 1.001 * g), LARGE)
    first, second, third = (fn.check(step_fn, None, LARGE_PARAMS, LARGE_BATCH, seed=seed) for seed in (1, 1, 2))
    assert str(first) == str(second) != str(third)


STEP_FN, GOOD = fn.explicit(OBJECTIVE), (PARAMS, BATCH)
INFINITE = tuple(own and own | {"w": only((0, 1), lambda w: w / 0)(own["w"])} for own in PARAMS)


def missing(params, batch):
    value, grads = STEP_FN(params, batch)
    return value, (*grads[:2], {"w": grads[2]["w"]})


def extra(params, batch):
    value, grads = STEP_FN(params, batch)
    return value, (*grads[:2], grads[2] | {"scale": torch.ones(1)})


def only_single(params, batch):
    return OBJECTIVE.value(fn.tree.map(torch.Tensor.float, params), (batch[0].float(), batch[1]))


# name: (the call, the place, what was found, what is needed)
BAD = {
    "nothing to check": (lambda: fn.check(STEP_FN, None, (), BATCH), "params", "no numbers", "nothing to check"),
    "empty leaves": (lambda: fn.check(STEP_FN, None, torch.ones(0)), "params", "no numbers", "nothing to check"),
    "infinite parameters": (lambda: fn.check(STEP_FN, None, INFINITE, BATCH), "params[0]['w']", "at [0, 1]", "finite"),
    "NaN in the data": (
        lambda: fn.check(STEP_FN, None, PARAMS, (BATCH[0] * math.nan, BATCH[1])),
        "batch[0]",
        "nan at [0, 0]",
        "finite numbers",
    ),
    "an objective": (lambda: fn.check(OBJECTIVE, None, *GOOD), "step_fn", "Objective", "StepFn"),
    "no function": (lambda: fn.check(3, None, *GOOD), "step_fn", "3", "StepFn or a callable"),
    "a reference that is none": (lambda: fn.check(STEP_FN, "func_grad", *GOOD), "reference", "'func_grad'", "StepFn"),
    "a leaf missing": (lambda: fn.check(missing, None, *GOOD), "step_fn: grads[2]['b']", "no such leaf", "parameters"),
    "a leaf too many": (
        lambda: fn.check(extra, None, *GOOD),
        "step_fn: grads[2]['scale']",
        "a leaf that params has not",
        "parameters",
    ),
    "no pair": (lambda: fn.check(lambda p, b: p, None, *GOOD), "step_fn(params, batch)", "tuple of 3", "(value, grads)"),
    "a vector value": (
        lambda: fn.check(lambda p, b: (torch.ones(2), p), None, *GOOD),
        "step_fn(params, batch)[0]",
        "(2,)",
        "scalar",
    ),
    "a negative tolerance": (lambda: fn.check(STEP_FN, None, *GOOD, tolerance=-1.0), "tolerance", "-1.0", "at least 0"),
    "a seed that is none": (lambda: fn.check(STEP_FN, None, *GOOD, seed="0"), "seed", "'0'", "an integer"),
    "a batch of unequal lengths": (
        lambda: fn.check(STEP_FN, None, PARAMS, (BATCH[0], labels(3, 3))),
        "batch[1]",
        "(3,)",
        "8",
    ),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_clearly(name):
    call, *message = BAD[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)
