"""Kernels as their authors have them: what they are called with, what they return, and in what uses they fail."""

import pytest
import torch
import torch.nn.functional as F
from helpers import normal

import funcnn as fn

X, W = normal(6, 4), normal(4, seed=1)
CAUSAL = torch.zeros(4, 4, dtype=torch.float64).masked_fill(torch.ones(4, 4).triu(1).bool(), -torch.inf)


def function(forward, backward):
    """A torch.autograd.Function of two rules of a ctx."""
    members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type("Function", (torch.autograd.Function,), members)


def keeping(y, *saved):
    """forward(ctx, *inputs) of a function y, which saves its inputs."""

    def forward(ctx, *inputs):
        ctx.save_for_backward(*(x for x in inputs if isinstance(x, torch.Tensor)), *saved)
        return y(*inputs)

    return forward


@torch.library.custom_op("funcnn_tests::square", mutates_args=())
def square(x: torch.Tensor) -> torch.Tensor:
    return x * x


def setup(ctx, inputs, output):
    ctx.save_for_backward(inputs[0])


square.register_autograd(lambda ctx, dy: 2 * ctx.saved_tensors[0] * dy, setup_context=setup)


def scaled_and_sorted(ctx, x, w, flag, eps):
    ctx.save_for_backward(x, w)
    return x * w, x.argmax(1), x.sum(1)


def of_both(ctx, dy, _, ds):
    x, w = ctx.saved_tensors
    return dy * w + ds[:, None], (dy * x).sum(0), None, None


def softmax_of_masked(ctx, x, mask):
    y = (x + mask).softmax(1)
    ctx.save_for_backward(y)
    return y


def of_masked(ctx, dy):
    (y,) = ctx.saved_tensors
    return y * (dy - (y * dy).sum(1, keepdim=True)), None


def in_float32(x):
    return x.float().exp().to(x.dtype)


EXP_IN_FLOAT32 = function(keeping(in_float32), lambda ctx, dy: dy * in_float32(ctx.saved_tensors[0]))

# name: (what check_vjp is called with, by keyword)
RIGHT = {
    "a custom operator": (square, (X,)),
    "a custom operator in float32": (square, (X.float(),)),
    "several outputs, one of integers, a flag and a number": (function(scaled_and_sorted, of_both), (X, W, True, 1e-5)),
    "a tree of outputs": (lambda x: {"a": x.sin(), "b": (x.sum(), x * 2)}, (X,)),
    "a mask of -inf without a gradient": (function(softmax_of_masked, of_masked), (normal(4, 4), CAUSAL)),
    "a mask of -inf, a constant": (lambda x, m: (x + m).softmax(1), (normal(4, 4), CAUSAL), {"constants": (1,)}),
    "complex numbers": (lambda z: z * z.conj() * z, (torch.complex(X, X.flip(0)),)),
    "numbers and None in dicts": (lambda p, x: p["w"] * x * p["s"], ({"w": W, "s": 2.0, "none": None}, X)),
    "a list of tensors": (lambda xs: torch.cat(xs), ([X, X[:2]],)),
    "float32 inside, a reference": (EXP_IN_FLOAT32, (X.float(),), {"reference": torch.exp}),
    "float32 inside, in float32": (EXP_IN_FLOAT32, (X.float(),)),
    "straight through": (lambda x: x + (x.round() - x).detach(), (X,), {"reference": lambda x: x}),
    "a sliced input": (F.gelu, (normal(6, 8)[:, ::2],)),
    "a shift before a softmax": (lambda x, b: (x + b).softmax(1), (X, normal(6, 1))),
    "a bias before a batch norm": (lambda x, b: F.batch_norm(x + b, None, None, training=True), (X, W)),
    "the key bias of attention": (lambda q, k, b: (q @ (k + b).T).softmax(1), (X, normal(5, 4, seed=2), W)),
    "a constant upstream where the gradient is 0": (lambda x: x.softmax(-1).sum(-1), (X,)),
    "far below its value": (torch.erfc, (torch.tensor(-5.0, dtype=torch.float64),)),
    "vmap is wrong": (lambda x, v: torch.index_fill(x, 0, torch.tensor([0]), v), (normal(2), normal())),
    "forward mode is wrong": (
        lambda x, y: torch.scatter_reduce(x, 0, torch.tensor([0]), y, "prod"),
        (normal(2), normal(1, seed=1)),
    ),
    "no gradient for more than 10,000 numbers": (lambda x, y: 0 * x + y, (normal(101, 101), normal(101, 101, seed=1))),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_kernel_passes(name):
    forward, inputs, how = (*RIGHT[name], {})[:3]
    report = fn.check_vjp(forward, inputs, **how)
    assert report.ok, report


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["a shift before a softmax", "a bias before a batch norm", "the key bias of attention"])
def test_a_gradient_of_0_passes_in_every_precision(name, dtype):
    forward, inputs = RIGHT[name]
    report = fn.check_vjp(forward, tuple(x.to(dtype) for x in inputs))
    assert report.ok, report


def test_forward_mode_that_is_wrong_is_told_and_excused():
    report = fn.check_vjp(square, (X,))
    assert report.ok and "forward mode is absent or wrong: torch.func.jvp gives 0" in str(report.remarks)


def undefined(ctx, x):
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x)
    return x * 2, x.sin()


BUFFER = torch.empty(6, 4, dtype=torch.float64)


def second_call(ctx, dy):
    ctx.calls = getattr(ctx, "calls", 0) + 1
    return 2 * ctx.calls * ctx.saved_tensors[0] * dy


def writing(ctx, dy):
    (x,) = ctx.saved_tensors
    dx = 2 * x * dy
    x.data.mul_(1.5)
    return dx


def raising(ctx, dy):
    raise KeyError("oops")


def of_frozen(ctx, dy):
    x, w = ctx.saved_tensors
    both = all(ctx.needs_input_grad)
    return (dy * w if both else 0 * x), (dy * x).sum(0)


SQUARE = keeping(lambda x: x * x)
# name: (forward, inputs, what finds it, its cause)
WRONG = {
    "an output that nobody uses": (function(undefined, lambda ctx, dy, ds: dy * 2), (X,), "inputs[0]", None),
    "an undefined cotangent": (
        function(undefined, lambda ctx, dy, ds: dy * 2 + ds * ctx.saved_tensors[0].cos()),
        (X,),
        "outputs alone",
        "unused output",
    ),
    "a second backward": (function(SQUARE, second_call), (X,), "second backward", "second call"),
    "writes into its input": (function(SQUARE, writing), (X,), "untouched upstream", "mutation"),
    "raises": (function(SQUARE, raising), (X,), "inputs[0]", "raises"),
    "frozen inputs": (function(keeping(torch.mul), of_frozen), (X, W), "frozen inputs", "frozen"),
    "a view of a sliced input": (
        function(SQUARE, lambda ctx, dy: 2 * ctx.saved_tensors[0].view(-1).view(dy.shape) * dy),
        (X,),
        "inputs sliced",
        "strides",
    ),
    "the conjugate is missing": (
        function(SQUARE, lambda ctx, dy: 2 * ctx.saved_tensors[0] * dy),
        (torch.complex(X, X.flip(0)),),
        "inputs[0]",
        None,
    ),
    "None for an input": (
        function(keeping(torch.mul), lambda ctx, dy: (dy * ctx.saved_tensors[1], None)),
        (X, normal(6, 4, seed=3)),
        "inputs[1]",
        "zero",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_kernel_that_is_wrong_in_use_is_found(name):
    forward, inputs, place, cause = WRONG[name]
    report = fn.check_vjp(forward, inputs)
    found = (report.leaves | report.trials)[place]
    assert found.verdict == "wrong" and not report.ok, report
    assert cause is None or found.cause == cause, report


def test_a_gradient_of_another_dtype_is_told():
    single = fn.check_vjp(lambda x: (x.round(), x), (4 * X,), backward=lambda x, dy: torch.zeros_like(x).float())
    assert not single.ok and single.trials["dtype"].cause == "dtype"


def test_an_output_that_is_a_buffer_is_told():
    def forward(x):
        return torch.mul(x, x, out=BUFFER), x.clone()

    report = fn.check_vjp(forward, (X,), backward=lambda x, dy: 2 * x * dy)
    assert report.trials["kept output"].verdict == "wrong"


def test_a_second_derivative_that_lost_its_way_is_remarked():
    def forward(ctx, x):
        ctx.save_for_backward(x.exp())
        return ctx.saved_tensors[0] if False else x.exp() + x

    kernel = function(forward, lambda ctx, dy: dy * (ctx.saved_tensors[0] + 1))
    report = fn.check_vjp(kernel, (X,))
    assert report.ok and any("once_differentiable" in remark for remark in report.remarks)


@pytest.mark.parametrize("rule", ["all to every tie", "nothing to ties"])
def test_what_ties_of_two_inputs_share_adds_up(rule):
    a, b = normal(12), normal(12, seed=1)
    b[::2] = a[::2]
    ties = 1.0 if rule == "all to every tie" else 0.0

    def backward(kept, dy):
        a, b = kept
        return tuple(dy * torch.where(x == y, ties, (x < y).to(dy)) for x, y in ((a, b), (b, a)))

    right = fn.check_vjp(
        lambda a, b: (torch.minimum(a, b), (a, b)),
        (a, b),
        backward=lambda kept, dy: (dy * (kept[0] <= kept[1]), dy * (kept[1] < kept[0])),
    )
    assert right.ok and {finding.verdict for finding in right.leaves.values()} == {"kink"}
    assert not fn.check_vjp(lambda a, b: (torch.minimum(a, b), (a, b)), (a, b), backward=backward).ok


def test_what_a_hypothesis_of_ones_own_says_is_said():
    def always(evidence):
        yield "mine", "it is what I thought"

    report = fn.check_vjp(lambda x: (x.sin(), x), (X,), backward=lambda x, dy: -dy * x.cos(), hypotheses=(always,))
    assert report.leaves["inputs[0]"].cause == "mine" and "what I thought" in str(report)


BAD = {
    "a forward that fails": ((lambda x: x @ x, (X,)), {}, "forward(*inputs)", "RuntimeError"),
    "a reference that is none": ((F.gelu, (X,)), {"reference": 3}, "reference", "3"),
    "a reference of another shape": ((F.gelu, (X,)), {"reference": torch.sum}, "reference(*inputs)", "outputs"),
    "constants that are none": ((F.gelu, (X,)), {"constants": (1,)}, "constants", "(1,)"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_in_a_line(name):
    arguments, how, place, found = BAD[name]
    with pytest.raises(fn.InputError) as caught:
        fn.check_vjp(*arguments, **how)
    assert str(caught.value).startswith(place) and found in str(caught.value) and "\n" not in str(caught.value)
