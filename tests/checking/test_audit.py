import random

import numpy as np
import pytest
import torch
from helpers import labels, normal, says, seeded

import funcnn as fn

pytestmark = pytest.mark.usefixtures("as_users_run_it")

X, W = normal(3, 2), normal(2, 2, seed=1)
U, V = normal(3, 2, seed=2), normal(3, 2, seed=4)


def forward(x, w):
    return torch.tanh(x @ w), (x, w)


def backward(residuals, dy):
    x, w = residuals
    dz = dy * (1 - torch.tanh(x @ w) ** 2)
    return dz @ w.T, x.T @ dz


def reference(u):
    """By torch's own tape."""
    leaves = [X.clone().requires_grad_(), W.clone().requires_grad_()]
    return torch.autograd.grad(forward(*leaves)[0], leaves, u)


def relative(g, r):
    return ((g - r).norm() / r.norm()).item()


def builds_a_check_and_never_calls_it(rule):
    def check():
        fn.assert_vjp(forward, (X, W), backward=rule)

    assert check


def compares_by_zip(rule):
    for u in (U, U.T.contiguous().T, U + 1):
        grads = rule((X, W), u)
        assert all(relative(g, r) <= 1e-9 for g, r in zip(grads, reference(u)))  # noqa: B905  that is its mistake


def compares_a_thing_with_itself(rule):
    y, residuals = forward(X, W)
    grads = rule(residuals, torch.ones_like(y))
    same = grads
    assert not any((g - s).abs().max() > 1e-9 for g, s in zip(same, grads, strict=True))


def compares_the_forward_alone(rule):
    y, residuals = forward(X, W)
    rule(residuals, U)
    assert torch.equal(y, torch.tanh(X @ W))


def pins_a_wrong_sign(rule):
    for g, r in zip(rule((X, W), U), reference(U), strict=True):
        assert relative(g, -r) <= 1e-9


def correlates(rule):
    for g, r in zip(rule((X, W), U), reference(U), strict=True):
        assert torch.nn.functional.cosine_similarity(g.flatten(), r.flatten(), dim=0) > 0.99


def sends_ones(rule):
    for g, r in zip(rule((X, W), torch.ones(3, 2)), reference(torch.ones(3, 2)), strict=True):
        assert relative(g, r) <= 1e-9


def looks_at_shapes(rule):
    assert [g.shape for g in rule((X, W), U)] == [X.shape, W.shape]


def asks_whether_an_error_is_large(rule):
    for u in (U, U.T.contiguous().T, U + 1):
        grads, expected = rule((X, W), u), reference(u)
        if any((g - r).abs().max() > 1e-9 for g, r in zip(grads, expected, strict=True)):
            raise ValueError("wrong")


def looks_at_the_input_alone(rule):
    for u in (U, U.T.contiguous().T, U + 1):
        assert relative(rule((X, W), u)[0], reference(u)[0]) <= 1e-9


def compares_norms(rule):
    for u in (U, U.T.contiguous().T, U + 1):
        for g, r in zip(rule((X, W), u), reference(u), strict=True):
            assert abs(g.norm() - r.norm()) <= 1e-9 * r.norm()


def has_a_wide_tolerance(rule):
    for u in (U, U.T.contiguous().T, U + 1):
        for g, r in zip(rule((X, W), u), reference(u), strict=True):
            assert relative(g, r) <= 0.1


def is_good(rule):
    for u in (U, U.T.contiguous().T, U + 1):
        for g, r in zip(rule((X, W), u), reference(u), strict=True):
            assert relative(g, r) <= 1e-9


EVERY = {
    *("sign", "factor 2", "zero", "one entry", "1e-3", "NaN", "permuted", "missing", "factor N", "second call"),
    *("cotangent ignored", "cotangent squared", "cotangent's layout", "sign of grads[0]", "sign of grads[1]"),
}
ONCE = {"second call", "cotangent's layout"}

# a test: the mistakes that it is said to pass
LIES = {
    builds_a_check_and_never_calls_it: {"called"},
    compares_by_zip: {"missing"},
    compares_a_thing_with_itself: EVERY,
    compares_the_forward_alone: EVERY,
    pins_a_wrong_sign: {"right rule"},
    correlates: {"factor 2", "factor N", "1e-3", "one entry", "cotangent squared"} | ONCE,
    sends_ones: {"cotangent ignored", "cotangent squared"} | ONCE,
    looks_at_shapes: EVERY - {"missing"},
    asks_whether_an_error_is_large: {"NaN"},
    looks_at_the_input_alone: {"missing", "sign of grads[1]"},
    compares_norms: {"sign", "permuted", "sign of grads[0]", "sign of grads[1]"},
    has_a_wide_tolerance: {"1e-3", "one entry"},
    is_good: set(),
}


def left_out(report):
    return {remark.partition(":")[0] for remark in report.remarks}


def passed(report):
    return {name for name, trial in report.trials.items() if trial.verdict != "ok"}


def product(x, w):
    return x * w, (x, w)


def of_product(residuals, dy):
    return dy * residuals[1], dy * residuals[0]


@pytest.mark.parametrize("test", LIES)
def test_it_is_said_what_a_test_lets_pass(test):
    report = fn.audit(test, backward)
    assert passed(report) == LIES[test], report
    assert bool(report) == (not LIES[test])
    for name in LIES[test]:
        assert report.trials[name].diagnosis in str(report) and report.trials[name].diagnosis


def test_the_check_of_this_library_lets_nothing_pass():
    def passes(rule):
        report = fn.check_vjp(lambda x: (x.sin(), x), (X,), backward=rule)
        return report and not report.remarks

    report = fn.audit(passes, lambda x, dy: dy * x.cos())
    assert report and str(report).startswith(f"nothing is wrong in {len(report.trials)} trials\n")
    assert left_out(report) == {"exchanged", "missing"}


def test_the_check_objects_to_a_gradient_that_is_missing():
    assert fn.check_vjp(product, (X, V), backward=of_product)
    assert not fn.check_vjp(product, (X, V), backward=lambda residuals, dy: of_product(residuals, dy)[:1])


def test_a_test_that_fails_the_right_rule_is_told_which_mistake_it_expects():
    found = fn.audit(pins_a_wrong_sign, backward).trials["right rule"].diagnosis
    assert found.startswith("the test fails the right rule: AssertionError: ")
    assert found.endswith("; it passes this mistake: sign")


def test_a_test_that_fails_before_it_calls_the_rule_is_not_said_to_find_anything():
    report = fn.audit(lambda rule: 1 / 0, backward)
    assert not report and "before it calls the rule: ZeroDivisionError" in str(report)


def test_a_test_that_wants_more_of_a_rule_than_to_be_called_is_not_said_to_find_anything():
    layer = fn.dense(2, 2)

    def of_summands(layer):
        y, residuals = layer.forward(layer.init(seeded()), X)
        layer.backward(residuals, y)
        assert layer.backward.summands

    report = fn.audit(of_summands, layer)
    assert passed(report) == {"right rule"} and "asks more of the rule than to be called: AttributeError" in str(report)


def test_what_a_mistake_does_not_change_is_told_from_what_a_comparison_does_not_see():
    trials = fn.audit(sends_ones, backward).trials
    assert "; here it changes nothing" in trials["cotangent ignored"].diagnosis and trials["cotangent ignored"].error == 0
    trials = fn.audit(correlates, backward).trials
    assert "changes nothing" not in trials["factor 2"].diagnosis and trials["factor 2"].error == 0.5


# How a test may object to an error.
def by_false(error):
    return error <= 1e-9


def by_pytest(error):
    if not error <= 1e-9:
        pytest.fail("it is wrong")


def by_report(error):
    return fn.Report({"w": fn.Finding("ok" if error <= 1e-9 else "wrong", error)})


def by_exception(error):
    if not error <= 1e-9:
        raise LookupError


@pytest.mark.parametrize("object_to", [by_false, by_pytest, by_report, by_exception])
def test_a_test_objects_by_whatever_it_raises_and_by_what_is_false(object_to):
    report = fn.audit(lambda rule: object_to(relative(rule((X, W), U)[1], reference(U)[1])), backward)
    assert passed(report) == {"sign of grads[0]"} | ONCE


class Scaled(torch.autograd.Function):
    """Of two inputs that have a gradient and one that has none."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, w, scale):
        return scale * x * w

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, w, ctx.scale = inputs
        ctx.save_for_backward(x, w)

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        return ctx.scale * w * dy, ctx.scale * x * dy, None


class Named(torch.autograd.Function):
    """By the other name that torch has for a backward."""

    @staticmethod
    def forward(ctx, x):
        return 3 * x

    @staticmethod
    def vjp(ctx, dy):
        return 3 * dy


def of_function(function):
    x, w = X.clone().requires_grad_(), V.clone().requires_grad_()
    for u in (U, U.T.contiguous().T, U + 1):
        dx, dw = torch.autograd.grad(function.apply(x, w, 3.0), (x, w), u)
        assert relative(dx, 3 * V * u) <= 1e-9 and relative(dw, 3 * X * u) <= 1e-9


def of_function_by_sum(function):
    x, w = X.clone().requires_grad_(), V.clone().requires_grad_()
    function.apply(x, w, 3.0).sum().backward()
    assert relative(x.grad, 3 * V) <= 1e-9 and relative(w.grad, 3 * X) <= 1e-9


def of_function_by_vmap(function):
    slopes = torch.func.vmap(torch.func.grad(lambda x, w: function.apply(x, w, 3.0).sin().sum(), (0, 1)))(X, V)
    assert all(map(torch.allclose, slopes, ((3 * X * V).cos() * 3 * V, (3 * X * V).cos() * 3 * X)))


def of_named(function):
    x = X.clone().requires_grad_()
    for u in (U, U.T.contiguous().T, U + 1):
        assert relative(torch.autograd.grad(function.apply(x), x, u)[0], 3 * u) <= 1e-9


def of_layer(layer):
    y, residuals = layer.forward(PARAMS, X)
    for u in (U, U.T.contiguous().T, U + 1):
        dparams, dx = layer.backward(residuals, u)
        assert relative(dparams["w"], X.T @ u) <= 1e-9 and relative(dparams["b"], u.sum(0)) <= 1e-9
        assert relative(dx, u @ W.T) <= 1e-9


def of_network(layer):
    objective = fn.supervised(fn.serial(layer, fn.tanh()), fn.half_squared_error())
    grads = [provider(objective)((PARAMS, ()), (X, U))[1][0] for provider in (fn.explicit, fn.func_grad)]
    assert relative(grads[0]["w"], grads[1]["w"]) <= 1e-9 and relative(grads[0]["b"], grads[1]["b"]) <= 1e-9


def of_loss(loss):
    x = X.clone().requires_grad_()
    value, residuals = loss.forward(x, labels(3, 2))
    for _ in range(2):
        assert relative(loss.backward(residuals), torch.autograd.grad(value, x, retain_graph=True)[0]) <= 1e-9


def of_step_fn(step_fn):
    value, grads = step_fn(PARAMS, (X, U))
    error = X @ W + PARAMS["b"] - U
    assert torch.isclose(value, error.square().mean())
    assert relative(grads["w"], X.T @ error / 3) <= 1e-9 and relative(grads["b"], error.sum(0) / 3) <= 1e-9


def of_keywords(rule):
    for g, r in zip(rule(dy=U, residuals=(X, W)), reference(U), strict=True):
        assert relative(g, r) <= 1e-9


PARAMS = {"w": W, "b": normal(2, seed=3)}
DENSE, STEP_FN = fn.dense(2, 2), fn.explicit(fn.supervised(fn.dense(2, 2), fn.mean_squared_error()))
ONES, NO_COTANGENT = {"cotangent ignored", "cotangent squared"}, {name for name in EVERY if "cotangent" in name}

# name: (a test, the rule in the form that it takes, the mistakes that pass, those that cannot be planted)
FORMS = {
    "a Function": (of_function, Scaled, set(), set()),
    "a Function behind a sum": (of_function_by_sum, Scaled, ONES | {"second call"}, set()),
    "a Function under vmap": (of_function_by_vmap, Scaled, ONCE, set()),
    "a Function with a vjp": (of_named, Named, set(), {"exchanged", "missing"}),
    "a Layer": (of_layer, DENSE, set(), {"exchanged"}),
    "a Layer in a network": (of_network, DENSE, ONCE | {"sign of grads[1]"}, {"exchanged"}),  # whose dx nobody wants
    "a Loss": (of_loss, fn.softmax_cross_entropy(), set(), NO_COTANGENT | {"exchanged", "missing"}),
    "a StepFn": (of_step_fn, STEP_FN, {"second call"}, NO_COTANGENT | {"exchanged"}),
    "keywords": (of_keywords, backward, ONCE, {"exchanged"}),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_rule_is_in_whatever_it_is_handed_over_in(name):
    test, rule, passes, not_planted = FORMS[name]
    report = fn.audit(test, rule)
    assert passed(report) == passes and left_out(report) == not_planted


# name: (a rule, mistakes that are none of it)
NONE_OF_IT = {
    "a sum of two": (lambda residuals, dy: (dy, dy), {"exchanged"}),
    "a sum of entries": (lambda residuals, dy: dy.sum().expand(3, 2), {"permuted", "exchanged", "missing"}),
    "a square of a number": (
        lambda x, dy: 2 * dy[:1, 0] * x[:1, 0],
        {"permuted", "exchanged", "missing", "one entry"},
    ),
    "half precision": (lambda x, dy: (dy * x).half(), {"1e-3", "exchanged", "missing"}),
}


@pytest.mark.parametrize("name", NONE_OF_IT)
def test_what_would_be_no_mistake_is_left_out(name):
    rule, expected = NONE_OF_IT[name]
    assert left_out(fn.audit(lambda rule: rule(X, U) is not None, rule)) == expected


def test_gradients_are_made_wrong_alone_up_to_a_number():
    report = fn.audit(lambda rule: rule(X, U) and None, lambda residuals, dy: tuple(dy + i for i in range(20)))
    assert "sign of grads[15]" in report.trials and "sign of grads[16]" not in report.trials
    assert "Of 20 gradients 16 were made wrong alone." in str(report)


def test_the_exchange_of_two_gradients_is_planted_where_they_differ():
    def of_products(rule):
        return relative(rule((X, V), U)[0], U * X) < 1e-9  # which is that of the other

    report = fn.audit(of_products, of_product)
    assert report.trials["right rule"].diagnosis.endswith("it passes this mistake: exchanged")


def test_a_rule_that_takes_no_other_cotangent_is_left_alone_with_it():
    def picky(x, dy):
        assert (dy == 3).all()
        return dy * x

    report = fn.audit(lambda rule: torch.equal(rule(X, torch.full((3, 2), 3.0)), 3 * X), picky)
    assert left_out(report) == ONES | {"exchanged", "missing"} and passed(report) == ONCE


def test_a_mistake_that_only_a_later_call_leaves_room_for_is_planted():
    def passes(rule):
        return torch.equal(rule(X[:1], U[:1]), X[:1] * U[:1]) and torch.equal(rule(X, U), X * U)

    report = fn.audit(passes, lambda x, dy: dy * x)
    assert report.trials["factor N"].verdict == "ok" and left_out(report) == {"exchanged", "missing"}


def test_what_is_missing_of_a_list_or_a_dict_is_its_end():
    def lists(rule):
        return torch.equal(rule(X, U)[1], 2 * X * U)

    assert fn.audit(lists, lambda x, dy: [dy * x, 2 * dy * x]).trials["missing"].verdict == "ok"

    def dicts(rule):
        return torch.equal(rule(X, U)["w"], 2 * X * U)

    assert fn.audit(dicts, lambda x, dy: {"b": dy * x, "w": 2 * dy * x}).trials["missing"].verdict == "ok"


def draws(rule):
    u = torch.randn(3, 2) + np.random.randn() + random.random()
    torch.set_default_dtype(torch.float32)
    for g, r in zip(rule((X, W), u), reference(u), strict=True):
        assert relative(g, r) <= 1e-9 and u.sum() != 0
    return u.sum() > -2


def test_an_audit_repeats_itself_and_leaves_the_world_as_it_was():
    states = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    first = fn.audit(draws, backward)
    assert torch.equal(torch.get_rng_state(), states[0]) and (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2] and torch.get_default_dtype() == torch.float64
    torch.rand(1), np.random.rand(), random.random()
    assert fn.audit(draws, backward) == first


def test_what_is_handed_over_stays_as_it_is():
    before, rules = vars(Scaled).copy(), tuple(DENSE)
    fn.audit(of_function, Scaled)
    fn.audit(of_layer, DENSE)
    assert vars(Scaled) == before and tuple(DENSE) == rules


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_is_no_objection(end):
    def ends(rule):
        raise end

    with pytest.raises(end):
        fn.audit(ends, backward)


# the call: (a function without arguments, the place, what was found, what is needed)
BAD = {
    "no test": (lambda: fn.audit(None, backward), "test", "None", "a callable that takes the rule"),
    "a test of nothing": (lambda: fn.audit(lambda: None, backward), "test(rule)", "0 positional", "1 argument"),
    "no rule": (lambda: fn.audit(is_good, 3), "backward", "3", "a Layer, a Loss or a StepFn"),
    "a class": (lambda: fn.audit(is_good, torch.nn.ReLU), "backward", "a type", "autograd.Function itself"),
    "an apply": (lambda: fn.audit(is_good, Scaled.apply), "backward", "a method", "autograd.Function itself"),
    "no Function yet": (lambda: fn.audit(is_good, torch.autograd.Function), "backward", "", "autograd.Function itself"),
    "a seed": (lambda: fn.audit(is_good, backward, seed=-1), "seed", "-1", "from 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named_at_the_door(name):
    call, *message = BAD[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message) and "\n" not in str(caught.value)
