import pytest
import torch
from helpers import labels, normal, says, seeded

import funcnn as fn

DOUBLE = torch.float64
X, T = normal(6, 4), normal(6, 3, seed=1)
DENSE = fn.dense(4, 3)
OWN = DENSE.init(seeded(), dtype=DOUBLE)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, dy):
        return 2 * ctx.saved_tensors[0] * dy


class Affine(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, w, scale):
        return scale * (x @ w)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, w, ctx.scale = inputs
        ctx.save_for_backward(x, w)

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        return ctx.scale * dy @ w.T, ctx.scale * x.T @ dy, None


# name: (forward, inputs, the backward rule where it is not known)
RIGHT = {
    "dense": (DENSE, (OWN, X)),
    "dense as a pair": (DENSE.forward, (OWN, X), DENSE.backward),
    "mlp": (fn.mlp([4, 5, 3], fn.tanh), (fn.mlp([4, 5, 3]).init(seeded(), dtype=DOUBLE), X)),
    **{layer.__name__: (layer(), ((), X)) for layer in (fn.sigmoid, fn.tanh, fn.relu, fn.softmax)},
    "half_squared_error": (fn.half_squared_error(), (normal(6, 3), T)),
    "mean_squared_error as a pair": (fn.mean_squared_error()[0], (normal(6, 3), T), fn.mean_squared_error()[1]),
    "binary_cross_entropy": (fn.binary_cross_entropy(), (normal(6, 3).sigmoid(), T.sigmoid())),
    "softmax_cross_entropy": (fn.softmax_cross_entropy(), (normal(6, 3), labels(6, 3))),
    "a bare pair of one input": (lambda x: (x.sin(), x), (X,), lambda x, dy: dy * x.cos()),
    "a bare pair of a scalar": (lambda x: (x.square().sum(), x), (normal(3),), lambda x, dy: 2 * dy * x),
    "an old Function": (Square, (X,)),
    "a new Function with a number": (Affine, (X, normal(4, 3, seed=2), 3.0)),
    "torch's own tape": (torch.nn.functional.gelu, (X,)),
    "a vector": (Square, (normal(5),)),
    "an image": (torch.nn.functional.avg_pool2d, (normal(2, 3, 4, 4), 2)),
}


def checked(forward, inputs, backward=None):
    return fn.check_vjp(forward, inputs, backward=backward)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_rule_passes_every_trial(name):
    report = checked(*RIGHT[name])
    assert report.ok, report
    assert {finding.verdict for finding in (report.leaves | report.trials).values()} == {"ok"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["dense", "mlp", "softmax", "mean_squared_error as a pair", "a new Function with a number"])
def test_a_right_rule_passes_in_low_precision(name, dtype):
    forward, inputs, *backward = RIGHT[name]
    report = checked(forward, fn.tree.map(lambda x: x.to(dtype) if isinstance(x, torch.Tensor) else x, inputs), *backward)
    assert report.ok, report


def test_every_trial_is_made():
    calls = {"untouched inputs", "untouched upstream", "repeated call", "value", "another forward"}
    layouts = {"transposed", "channels last", "sliced", "expanded"}
    identities = {"one-hot", "zero", "doubled", "additivity", "adjoint", "vmap", "second derivative"}
    uses = {"second backward", "kept result", "kept output", "dtype", "inputs sliced", "frozen inputs", "elsewhere"}
    assert set(checked(*RIGHT["dense"]).trials) == calls | layouts | identities | uses


def of_sigmoid(rule):
    return fn.sigmoid()._replace(backward=lambda y, dy: ((), rule(y, dy)))


def in_place(y, dy):
    dy *= y * (1 - y)
    return dy


def forgets_strides(y, dy):
    return torch.as_strided(dy, dy.shape, (dy.shape[1], 1)) * y * (1 - y)


def of_softmax(rule):
    return fn.softmax()._replace(backward=lambda y, dy: ((), rule(y, dy)))


# name: (a layer without parameters whose rule is wrong, what finds it, the cause)
WRONG = {
    "no derivative": (of_sigmoid(lambda y, dy: dy), "inputs[1]", "activation derivative"),
    "at the output": (of_sigmoid(lambda y, dy: dy * y.sigmoid() * (1 - y.sigmoid())), "inputs[1]", "activation derivative"),
    "sign": (of_sigmoid(lambda y, dy: dy * y * (y - 1)), "inputs[1]", "sign"),
    "the upstream is ones": (of_sigmoid(lambda y, dy: y * (1 - y)), "inputs[1]", "upstream"),
    "the upstream is uniform": (of_sigmoid(lambda y, dy: dy.flatten()[0] * y * (1 - y)), "inputs[1]", "upstream"),
    "softmax without its off-diagonal": (of_softmax(lambda y, dy: dy * y * (1 - y)), "inputs[1]", "cross terms"),
    "writes into its upstream": (of_sigmoid(in_place), "untouched upstream", "mutation"),
    "forgets strides": (of_sigmoid(forgets_strides), "transposed", "strides"),
    "clamps": (of_sigmoid(lambda y, dy: dy.clamp(-3, 3) * y * (1 - y)), "doubled", "linearity"),
    "normalises": (of_sigmoid(lambda y, dy: dy * y * (1 - y) * (dy.norm() < 8)), "one-hot", "linearity"),
    "adds a constant": (of_sigmoid(lambda y, dy: dy * y * (1 - y) + 1e-3), "zero", "linearity"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_found_by_the_trial_made_for_it_and_named(name):
    layer, place, cause = WRONG[name]
    report = fn.check_vjp(layer, ((), X))
    found = (report.leaves | report.trials)[place]
    assert found.verdict == "wrong" and found.cause == cause and not report.ok, report


def test_a_rule_that_is_right_for_uniform_upstreams_alone_is_wrong():
    # What a test that calls .sum().backward() never sees.
    mean = of_sigmoid(lambda y, dy: dy.mean() * y * (1 - y))
    assert fn.check_vjp(mean, ((), X)).leaves["inputs[1]"].cause == "upstream"


def test_the_adjoint_identity_finds_a_mistake_within_the_tolerance_of_differences():
    slightly = of_sigmoid(lambda y, dy: dy * y * (1 - y) * (1 + 1e-4))
    report = fn.check_vjp(slightly, ((), X), tolerance=1e-3)
    assert report.ok  # all is judged by the tolerance that was asked for
    assert report.trials["adjoint"].error == pytest.approx(3e-5, rel=0.5)  # 1e-4 of <J^T u, v>, beside |J^T u|


@pytest.mark.parametrize(
    ("rule", "condition"),
    [
        (lambda x, dy: dy * x.prod() / x, "has zeros"),  # which is 0 / 0 there
        (lambda x, dy: dy * torch.where(x.abs() > 20, 1, x.prod() / x), "1000 times as large"),
    ],
)
def test_a_rule_that_is_right_at_the_given_point_alone_is_wrong(rule, condition):
    report = fn.check_vjp(lambda x: (x.prod(), x), (normal(3),), backward=rule)
    assert all(finding.verdict == "ok" for finding in report.leaves.values())
    assert "right at the given inputs; wrong where inputs[0]" in str(report) and condition in str(report)


def test_a_rule_that_overflows_where_exponentials_do_is_right_and_that_is_told():
    def softplus(x):
        return torch.nn.functional.softplus(x), x

    report = fn.check_vjp(softplus, (normal(9),), backward=lambda x, dy: dy * x.exp() / (1 + x.exp()))
    assert report.ok and report.trials["elsewhere"].cause == "not finite"
    assert "exponentials overflow where inputs[0] is 1000 times as large" in str(report)


def test_assert_vjp_passes_and_fails_with_the_report():
    fn.assert_vjp(fn.tanh(), ((), X))
    with pytest.raises(AssertionError, match=r"(?s)the backward rule is not right.*inputs\[0\]"):
        fn.assert_vjp(lambda x: (x.sin(), x), (X,), backward=lambda x, dy: -dy * x.cos())


def test_a_function_with_a_wrong_backward_is_found():
    class Cube(Square):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

    report = fn.check_vjp(Cube, (X,))
    assert report.leaves["inputs[0]"].verdict == "wrong"


def test_a_function_that_detaches_has_gradient_zero():
    assert fn.check_vjp(lambda x: x.detach().sin(), (X,)).leaves["inputs[0]"].cause == "zero"


def test_residuals_that_are_written_into_are_told():
    def writes(y, dy):
        dx = dy * y * (1 - y)
        y.zero_()
        return dx

    report = fn.check_vjp(of_sigmoid(writes), ((), X))
    assert "writes into residuals" in report.trials["untouched upstream"].diagnosis


@pytest.mark.parametrize(("which", "place"), [(0, "inputs[1]"), (-1, "another forward")], ids=["first", "last"])
def test_residuals_of_another_call_are_found(which, place):
    kept = []

    def forward(params, x):
        kept.append(torch.sigmoid(x))
        return kept[-1], torch.zeros(0)

    def backward(residuals, dy):
        return (), dy * kept[which] * (1 - kept[which])

    forward((), X + 1)
    report = fn.check_vjp(fn.sigmoid()._replace(forward=forward, backward=backward), ((), X))
    assert (report.leaves | report.trials)[place].verdict == "wrong"


@pytest.mark.parametrize("rows", [3, 6, 9])
def test_the_rows_that_disagree_are_counted_among_those_of_y(rows):
    # Four rows of x, and y has others: one of each four numbers of x in turn.
    x = normal(4, 3)
    index = torch.arange(rows) % 4

    def backward(residuals, dy):
        dy = torch.where(torch.arange(rows)[:, None] == 1, 2 * dy, dy)
        return torch.zeros_like(x).index_add(0, index, dy)

    report = fn.check_vjp(lambda x: (x[index], x), (x,), backward=backward)
    assert report.samples.shape[0] == rows and f"1 of {rows} rows disagree: 1." in str(report)


def test_no_gradient_for_an_input_that_moves_y_is_wrong_but_for_constants():
    rule, inputs = lambda x, t: (x * t, t), (X, normal(6, 4, seed=5))
    report = fn.check_vjp(rule, inputs, backward=lambda t, dy: (dy * t, None))
    assert not report.ok and report.leaves["inputs[1]"].cause == "zero" and "constants" in str(report)
    report = fn.check_vjp(rule, inputs, backward=lambda t, dy: (dy * t, None), constants=(1,))
    assert report.ok and list(report.leaves) == ["inputs[0]"]
    unmoved = fn.check_vjp(lambda x, t: (x + 0 * t, t), inputs, backward=lambda t, dy: (dy, None))
    assert unmoved.ok and list(unmoved.leaves) == ["inputs[0]"]


# name: (the arguments, the place, what was found, what is needed)
BAD = {
    "no inputs": ((DENSE, ()), "inputs", "()", "a tuple"),
    "inputs in a list": ((DENSE, [OWN, X]), "inputs", "[{", "a tuple"),
    "no rule": ((3, (X,)), "forward", "3", "a Layer, a Loss"),
    "a backward that is none": ((torch.sin, (X,), 3), "backward", "3", "forward and backward"),
    "no pair": ((torch.sin, (X,), lambda r, dy: dy), "forward(*inputs)", "shape (6, 4)", "(y, residuals)"),
    "an integer result": ((lambda x: x.long(), (X,)), "forward(*inputs)", "int64", "a floating tensor"),
    "nothing to differentiate": ((lambda x: (x, x), (X,), lambda r, dy: (None,)), "inputs", "no numbers", "a gradient"),
    "too many gradients": (
        (lambda x: (x, x), (X,), lambda r, dy: (dy, dy)),
        "backward(residuals, dy)",
        "2 gradients",
        "1 inputs",
    ),
    "infinite inputs": ((Square, (X / 0,)), "inputs[0]", "inf", "finite"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_clearly(name):
    arguments, *message = BAD[name]
    with pytest.raises(fn.InputError) as caught:
        checked(*arguments)
    assert says(caught.value, *message)
