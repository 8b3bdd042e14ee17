import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import EPS, NO_DATA, assert_close, classifier, labels, normal, seeded
from torch.utils._python_dispatch import TorchDispatchMode

import funcnn as fn
from funcnn.providers.analytic import ALGEBRA, ARITHMETIC, CONTINUATIONS, FUNCTIONS, LINEAR
from funcnn.providers.continuations_of_layers import WHOLE

ANY = [-100.0, -30.0, -3.3, -1.0, -0.5, -1e-3, -1e-9, 0.0, 1e-9, 1e-3, 0.5, 1.0, 3.3, 30.0, 100.0]
NOT_0 = [x for x in ANY if x]
POSITIVE = [1e-9, 1e-3, 0.5, 1.0, 3.3, 30.0, 1e3]
UNIT = [-0.9, -0.5, -1e-3, -1e-9, 0.0, 1e-9, 1e-3, 0.5, 0.9]

# name of a function of one number: (where, the function)
ENTRYWISE = {
    **{name: (ANY, getattr(torch, name)) for name in "exp exp2 sin cos tan sinh cosh atan asinh neg square".split()},
    **{name: (POSITIVE, getattr(torch, name)) for name in "log log2 log10 sqrt rsqrt".split()},
    **{name: (UNIT, getattr(torch, name)) for name in "asin acos atanh expm1 log1p".split()},
    "tanh": ([x for x in ANY if abs(x) < 2], torch.tanh),  # beyond, 1 - t^2 of the reference loses digits
    "sigmoid": ([x for x in ANY if x < 2], torch.sigmoid),  # and so does s (1 - s)
    "acosh": ([1.1, 2.0, 30.0, 1e3], torch.acosh),
    "reciprocal": (NOT_0, torch.reciprocal),
    **{f"w^{n}": (ANY, lambda w, n=n: w**n) for n in (0, 1, 2, 3, 4, 5, 8, 2.0, 7.0)},
    **{f"w^{n}": (NOT_0, lambda w, n=n: w**n) for n in (-1, -2, -3)},
    **{f"w^{x}": (POSITIVE, lambda w, x=x: w**x) for x in (0.5, 1.5, -0.5, 1 / 3)},
    "2^w": (ANY, lambda w: 2**w),
    "w^w": (POSITIVE[1:-2], lambda w: w**w),
    "a quotient": (ANY, lambda w: (1 + w) / (2 + w * w)),
    "1 - w": (ANY, lambda w: torch.rsub(w, 1)),
    "addcmul": (ANY, lambda w: torch.addcmul(w, w, w, value=3.0)),
    "addcdiv": (NOT_0, lambda w: torch.addcdiv(w, w.exp(), w, value=3.0)),
    "erf": (ANY, torch.erf),
    "gelu": (ANY, F.gelu),
    "gelu by tanh": ([x for x in ANY if x > -2], lambda w: F.gelu(w, approximate="tanh")),  # 1 - t^2 again
    "silu": (ANY, F.silu),
    "softplus": (ANY, F.softplus),
    "erfc": (ANY, torch.erfc),
    "log of sigmoid": (ANY, F.logsigmoid),
    "mish": (ANY, F.mish),
    "radians": (ANY, lambda w: torch.deg2rad(w) * torch.rad2deg(w)),
    "softplus of another sharpness": (ANY, lambda w: F.softplus(w, beta=2.5, threshold=7.0)),
    "lerp": (ANY, lambda w: torch.lerp(w, w.sin(), w)),
    "Martins": ([1.5, 0.1, 0.7], lambda w: w.exp() / (w.sin() ** 3 + w.cos() ** 3).sqrt()),
}
A, X, T = normal(3, 3) + 3 * torch.eye(3, dtype=torch.float64), normal(4, 3, seed=1), labels(4, 3)


def convolved(x, w, b):
    return torch.convolution(x, w, b, [1], [0], [1], False, [0], 1)


MASK = torch.tensor([[True, False, True], [False] * 3, [False, True, True]])  # no query may look nowhere: its row is 0


def of_axes(w, axes):
    return {1: w[None], 2: w[None, None], 3: w.expand(1, 1, 3, 3, 3)}[axes]


# name: a function of W (3, 3), which also meets tensors that are real
OF_MATRICES = {
    "mm": lambda w: (X @ w).sin().sum(),
    "mv": lambda w: (w @ w[0]).sum() + (A @ w[0]).sum(),
    "dot": lambda w: w[0] @ w[1] + torch.inner(w[0], w[2]),
    "bmm": lambda w: (w.expand(2, 3, 3) @ A).prod(),
    "einsum": lambda w: torch.einsum("i,ij,j", w[0], A, w[1]),
    "addmm": lambda w: torch.addmm(w, w, A, beta=0.5).sin().sum(),
    "addmv": lambda w: torch.addmv(w[0], w, A[0]).sin().sum(),
    "addbmm": lambda w: torch.addbmm(w, w.expand(2, 3, 3), A.expand(2, 3, 3)).sin().sum(),
    "baddbmm": lambda w: torch.baddbmm(w, w.expand(2, 3, 3), A.expand(2, 3, 3)).sin().sum(),
    "det": torch.linalg.det,
    "inv": lambda w: torch.linalg.inv(w).sum(),
    "solve": lambda w: torch.linalg.solve(w, A[0]).sum() + torch.linalg.solve(A, w).prod(),
    "matrix_exp": lambda w: torch.linalg.matrix_exp(0.1 * w).sum(),
    "sum, mean, prod": lambda w: w.sum(0).prod() + w.mean(1).prod() + w.sum() * w.mean() * w.prod(),
    "cumsum, cumprod": lambda w: (w.cumsum(0) * w.cumprod(1)).sum(),
    "trace": lambda w: torch.trace(w) ** 2,
    "logsumexp": lambda w: w.logsumexp(1).sum(),
    "softmax": lambda w: (torch.softmax(w, 1) * A).sum() + (torch.softmax(w, 0) * A).sum(),
    "log_softmax": lambda w: (torch.log_softmax(w, 1) * A).sum() + (torch.log_softmax(w, 0) * A).sum(),
    "cross entropy": lambda w: F.cross_entropy(X @ w, T),
    "weighted cross entropy": lambda w: F.cross_entropy(X @ w, T, weight=X[0].exp()),
    "cross entropy without a label": lambda w: F.cross_entropy(X @ w, T, ignore_index=T[0].item(), reduction="sum"),
    "convolution": lambda w: (
        convolved(w[None], (w + A)[None], w[0, :1]).sin().sum() + convolved(A[None], w[None], None).prod()
    ),
    "layer norm": lambda w: (F.layer_norm(w, (3,), w[0], w[1], 0.1) * A + F.layer_norm(w, (3, 3)) ** 2).sum(),
    "rms norm": lambda w: (F.rms_norm(w, (3,), w[0], 0.1) * A).sum(),
    "group norm": lambda w: (F.group_norm(w.reshape(1, 3, 3), 1, w[0], w[1], 0.1) * A + F.group_norm(w, 1) * A).sum(),
    "batch norm": lambda w: (F.batch_norm(w, None, None, w[0], w[1], True, 0.1, 0.1) * A).sum(),
    "batch norm by given statistics": lambda w: (F.batch_norm(w, A[0], A[1].exp(), w[0], w[1]) * A).sum(),
    "variance": lambda w: (w.var() * w.var(0, correction=0) + w.var(1, keepdim=True) * w.std(dim=(0, 1))).sum(),
    "length": lambda w: (w.norm() * torch.linalg.vector_norm(w, dim=1) + w.norm(dim=0, keepdim=True)).sum(),
    "cross product": lambda w: (torch.linalg.cross(w, A) * w.T).sum(),
    "gate": lambda w: (F.glu(w.reshape(1, 9)[:, 1:]) * F.glu(w[:2], 0)[:, :1]).sum(),
    "attention": lambda w: (F.scaled_dot_product_attention(w, w.T, A, is_causal=True) * A).sum(),
    "attention with a mask": lambda w: (F.scaled_dot_product_attention(w[None], A[None], w[None], attn_mask=MASK) * A).sum(),
    "squared errors": lambda w: F.mse_loss(w, A) * F.mse_loss(A, w.sin(), reduction="sum"),
    "cross entropy of bits": lambda w: F.binary_cross_entropy(w.sigmoid(), A.sigmoid(), X[:3].exp(), reduction="sum"),
    "cross entropy of logits": lambda w: (
        F.binary_cross_entropy_with_logits(w, A.sigmoid(), X[0].exp(), pos_weight=X[1].exp())
        * F.binary_cross_entropy_with_logits(w, w.sigmoid(), reduction="none").sum()
    ),
    "conv1d": lambda w: (
        F.conv1d(w, A[:, :, None], w[0], stride=2, padding=1).prod() + F.conv1d(w[None], (w + A)[None]).sum()
    ),
    "conv1d of the same length": lambda w: F.conv1d(w, w[..., None].expand(3, 3, 2), padding="same", dilation=2).sin().sum(),
    "conv2d": lambda w: F.conv2d(of_axes(w, 2), of_axes(w, 2)[:, :, :2], padding=(0, 1), dilation=(1, 2)).sin().sum(),
    "conv2d by groups": lambda w: F.conv2d(A[:, :, None], w[..., None, None][:, :1], w[1], groups=3).sin().sum(),
    "conv2d of the same shape": lambda w: F.conv2d(of_axes(A, 2), of_axes(w, 2)[..., :1], padding="same").sin().sum(),
    "conv3d": lambda w: F.conv3d(of_axes(w, 3), of_axes(w, 3)[..., :2, :1], padding="valid").sin().sum(),
    "average pooling": lambda w: (F.avg_pool2d(w[None], 2, 1) ** 2).sum() * F.avg_pool3d(of_axes(w, 3), 2).sum(),
    "average pooling to a size": lambda w: (
        F.adaptive_avg_pool2d(w[None], 2).sin().sum() * F.adaptive_avg_pool3d(of_axes(w, 3), 2).sum()
    ),
    "patches": lambda w: F.fold(F.unfold(w[None], 2) ** 2, (3, 3), 2).sin().sum(),
    "pixels": lambda w: F.pixel_unshuffle(F.pixel_shuffle(w.reshape(9, 1, 1)[:8], 2) ** 2, 2).sin().sum(),
    **{
        f"padding of {axes} axes, {mode}": lambda w, mode=mode, axes=axes: (
            F.pad(of_axes(w, axes), [1, 2] * axes, mode=mode).sin() ** 2
        ).sum()
        for mode in ("reflect", "replicate", "circular")
        for axes in (1, 2, 3)
    },
    **{
        f"interpolation, {mode}": lambda w, mode=mode, axes=axes: (
            F.interpolate(of_axes(w, axes), scale_factor=2, mode=mode).sin().sum()
        )
        for mode, axes in (("linear", 1), ("bilinear", 2), ("bicubic", 2), ("trilinear", 3))
    },
    "interpolation, nearest": lambda w: sum(
        F.interpolate(of_axes(w, axes), scale_factor=2).sin().sum() for axes in (1, 2, 3)
    ),
    "indices": lambda w: (w[[2, 0]] * w[:2].flip(0)).sum() * w.gather(1, T[:3, None]).prod() * w.index_select(1, T).sum(),
    "masks": lambda w: torch.where(A > 1, w, w * w).sum() * w.masked_fill(A > 1, 2).sum() * w.tril().sum(),
    "shapes": lambda w: torch.cat([w.T.reshape(-1), w.diagonal()]).roll(2).view(3, 4).permute(1, 0).prod(),
    "steps in place": lambda w: w.clone().mul_(w).add_(A).index_put_((T[:1],), w[0]).prod(),
    "a constant": lambda w: (w * torch.zeros_like(w).add(2)).sum(),
    "not the parameters": lambda w: A.abs().max(),
}
CASES = {name: (torch.tensor(xs), lambda w, f=f: f(w).sum()) for name, (xs, f) in ENTRYWISE.items()}
CASES |= {name: (A + normal(3, 3, seed=4), function) for name, function in OF_MATRICES.items()}
CASES = {name: (w.double(), function) for name, (w, function) in CASES.items()}


def stepped(function, w, **options):
    return fn.complex_step(fn.Objective(lambda w, batch: function(w)), **options)(w, NO_DATA)[1]


def twice(function, w):
    """The gradients of f(v) + f(w): while one is moved the other stays, and its operations have no axis of copies."""
    return fn.complex_step(fn.Objective(lambda p, batch: function(p[0]) + function(p[1])))((w, w), NO_DATA)[1]


@pytest.mark.parametrize("name", CASES)
def test_every_entry_of_the_gradient_is_right_to_rounding(name):
    w, function = CASES[name]
    exact = torch.func.grad(function)(w)
    for found in twice(function, w):
        assert torch.allclose(found, exact, rtol=200 * EPS, atol=1e-99 if name in ENTRYWISE else 1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_a_convolution_of_the_same_length_may_be_padded_more_on_the_right():
    def function(w):
        return F.conv1d(w, w[..., None].expand(3, 3, 2), padding="same").sin().sum()

    assert_close(stepped(function, A), torch.func.grad(function)(A), 1e-13)


@pytest.mark.parametrize("name", ENTRYWISE)
def test_in_single_precision_too(name):
    w, function = CASES[name]
    w = w[w.abs() < 20]
    exact = torch.func.grad(function)(w.float().double()).float()
    assert torch.allclose(stepped(function, w.float()), exact, rtol=1e-7, atol=1e-38)


def test_whatever_is_let_pass_as_a_function_is_in_the_cases(monkeypatch):
    class Seen(TorchDispatchMode):
        real, complex = set(), set()

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            of_complex = any(isinstance(x, torch.Tensor) and x.is_complex() for x in fn.tree.leaves((args, kwargs)))
            (self.complex if of_complex else self.real).add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    continued = set()
    for rules in (CONTINUATIONS, WHOLE):
        for key, rule in rules.items():
            monkeypatch.setitem(
                rules, key, lambda *args, key=key, rule=rule, **how: continued.add(key) or rule(*args, **how)
            )
    for w, function in CASES.values():
        with Seen():
            twice(function, w)
    assert set(f"{ARITHMETIC} {FUNCTIONS} {ALGEBRA}".split()) <= Seen.complex
    assert LINEAR <= Seen.real
    assert continued == CONTINUATIONS.keys() | WHOLE.keys()


def caught(w):
    try:
        return torch.relu(w)
    except RuntimeError:
        return w


# name: (a function of w (3,), what the message must name)
REFUSED = {
    **{name: (getattr(torch, name), name) for name in "relu abs sgn angle conj sign floor round isnan".split()},
    **{name: (getattr(torch, name), name) for name in "max min amax amin argmax nan_to_num".split()},
    **{name: (getattr(F, name), name) for name in "elu hardtanh leaky_relu".split()},
    "the real part": (lambda w: w.real, "view_as_real"),
    "the imaginary part": (lambda w: w.imag if w.is_complex() else 0 * w, "view_as_real"),
    "a view of reals": (lambda w: w.view(torch.float64), "view to other numbers"),
    "a cast": (lambda w: w.double(), "_to_copy to other numbers"),
    "a cast to integers": (lambda w: w.long(), "_to_copy to other numbers"),
    "a cast to booleans": (lambda w: w.bool(), "_to_copy to other numbers"),
    "a square of the modulus": (lambda w: w.abs() ** 2, "abs"),
    "w conj(w)": (lambda w: w * w.conj(), "conj"),
    "vdot": (lambda w: torch.vdot(w, w), "conj"),
    "the conjugate transpose": (lambda w: w[None].mH @ w[None], "conj"),
    "a norm that is none of squares": (lambda w: w.norm(1), "norm"),
    "a vector norm that is none of squares": (lambda w: torch.linalg.vector_norm(w, 3), "norm"),
    "maximum": (lambda w: torch.maximum(w, -w), "maximum"),
    "clamp": (lambda w: w.clamp(min=0), "clamp"),
    "greater": (lambda w: torch.where(w > 0, w, 0), "gt"),
    "equal": (lambda w: torch.where(w == 0, w, 0), "eq"),
    "equal, as a factor": (lambda w: w * (w == 0), "eq"),
    "different, as a factor": (lambda w: w * (w != 0), "ne"),
    "sort": (lambda w: w.sort()[0], "sort"),
    "what the objective catches": (caught, "relu"),
    "a branch": (lambda w: w if w.sum() > 0 else -w, "gt"),
    "a number": (lambda w: w * w.sum().item(), ".item()"),
    "a list": (lambda w: torch.tensor(w.tolist()), "data"),
    "an array": (lambda w: torch.from_numpy(w.numpy()), "data"),
    "a copy into reals": (lambda w: torch.zeros(3).copy_(w), "inplace"),
    "entries of reals": (lambda w: torch.zeros(3).index_put_((T[:1],), w[0]), ""),
    "whole quotients": (lambda w: torch.div(w, 2, rounding_mode="floor"), "div"),
    "smooth_l1_loss": (lambda w: F.smooth_l1_loss(w, 2 * w), "smooth_l1_loss"),
    "l1_loss": (lambda w: F.l1_loss(w, 2 * w), "abs"),
    "eigenvalues": (lambda w: torch.linalg.eigvalsh(torch.outer(w, w)), "eigh"),
    "singular values": (lambda w: torch.linalg.svdvals(torch.outer(w, w)), "svd"),
    "cholesky": (lambda w: torch.linalg.cholesky(torch.eye(3) + torch.outer(w, w)), "cholesky"),
    "cdist": (lambda w: torch.cdist(w[None], 2 * w[None]), "cdist"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_analytic_is_refused_by_its_name_and_never_a_number(name):
    function, named = REFUSED[name]
    with pytest.raises(fn.InputError, match="objective.value.*got .*, needs") as error:
        stepped(lambda w: 1.0 * function(w).sum(), torch.tensor([0.3, -0.4, 1.2]))
    assert named in str(error.value)
    torch.abs(torch.ones(1) + 1j)  # outside nothing is forbidden


NO_VALUE = {"log": torch.log, "sqrt": torch.sqrt, "asin": lambda w: torch.asin(w - 1), "a root": lambda w: w ** (1 / 3)}


@pytest.mark.parametrize("name", NO_VALUE)
def test_where_the_value_is_no_number_neither_is_the_derivative(name):
    assert stepped(lambda w: NO_VALUE[name](w).sum(), torch.tensor([-1.0])).isnan()


# name: (a function, a point where it has a value and no derivative)
NO_DERIVATIVE = {
    "a root at 0": (torch.sqrt, 0.0),
    "a length of 0": (lambda w: w.norm(), 0.0),
    "a deviation of 0": (lambda w: torch.cat([w, w.new_zeros(1)]).std(), 0.0),
    "bits that are certain": (lambda w: F.binary_cross_entropy(w, torch.ones_like(w)), 1.0),
    "another root at 0": (lambda w: w**0.3, 0.0),
    "a norm at 0": (lambda w: (w * w).sum().sqrt(), 0.0),
    "asin at 1": (torch.asin, 1.0),
    "acos at -1": (torch.acos, -1.0),
    "acosh at 1": (torch.acosh, 1.0),
}


@pytest.mark.parametrize("name", NO_DERIVATIVE)
def test_where_there_is_no_derivative_there_is_no_number(name):
    function, point = NO_DERIVATIVE[name]
    assert stepped(lambda w: function(w).sum(), torch.tensor([point])).isnan()
    constant = stepped(lambda w: (3 * w + function(torch.full_like(w, point))).sum(), torch.tensor([0.5]))
    assert_close(constant, torch.tensor([3.0]), 10 * EPS)


def test_powers_of_negative_numbers_need_an_exponent_known_beforehand():
    powers = torch.tensor([2.0, 3.0])
    assert stepped(lambda w: (w**powers).sum(), torch.tensor([-1.0, 2.0])).isnan()[0]
    assert_close(stepped(lambda w: (w**powers).sum(), torch.tensor([3.0, 2.0])), torch.tensor([6.0, 12.0]), 1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [50.0, 80.0, 1e4])
def test_saturated_networks_have_finite_gradients(dtype, size):
    layer, x = fn.serial(fn.dense(2, 3), fn.sigmoid(), fn.dense(3, 2)), size * normal(5, 2, dtype=dtype)
    params = fn.tree.map(lambda leaf: size * leaf, layer.init(seeded(), dtype=dtype))
    objective = fn.supervised(layer, fn.softmax_cross_entropy())
    exact, found = (p(objective)(params, (x, labels(5, 2)))[1] for p in (fn.func_grad, fn.complex_step))
    assert_close(found, exact, 1000 * torch.finfo(dtype).eps)


def test_the_error_falls_with_the_square_of_the_step_down_to_rounding():
    w, function = torch.tensor(1.5), ENTRYWISE["Martins"][1]
    derivative, steps = 4.0534278938986206577, [1e-2, 1e-3, 1e-4, 1e-5]
    errors = [abs(stepped(function, w, step=h).item() / derivative - 1) for h in steps]
    slope, _ = np.polyfit(np.log(steps), np.log(errors), 1)
    assert abs(slope - 2) < 0.01
    assert all(abs(stepped(function, w, step=h).item() / derivative - 1) < 2 * EPS for h in (1e-8, 1e-20, 1e-100, 1e-200))


@pytest.mark.parametrize("function", [torch.erf, F.gelu])
def test_where_a_function_is_known_for_small_steps_alone_a_large_one_gives_no_number(function):
    w = torch.tensor([0.7])
    exact = torch.func.grad(lambda w: function(w).sum())(w)
    errors = [(stepped(lambda w: function(w).sum(), w, step=h) - exact).abs().item() for h in (1e-2, 1e-3)]
    assert errors[0] < 1e-4 and errors[1] < 1e-6
    assert stepped(lambda w: function(w).sum(), w, step=0.1).isnan()


@pytest.mark.parametrize("chunk_size", [1, 7, 10**9])
def test_the_chunk_size_does_not_change_the_gradient(chunk_size):
    objective, params, batch = classifier()
    whole, chunked = (fn.complex_step(objective, chunk_size=size)(params, batch)[1] for size in (None, chunk_size))
    assert_close(chunked, whole, 10 * EPS)


def test_a_gradient_costs_one_value_and_one_complex_value_a_parameter():
    seen = []

    def value(w, batch):
        seen.append(w.dtype)
        return (w * w).sum()

    fn.complex_step(fn.Objective(value), chunk_size=1)(torch.ones(5), NO_DATA)
    assert seen == [torch.float64] + 5 * [torch.complex128]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_lower_precisions_get_the_gradient_of_double_precision_rounded(dtype):
    layer, x = fn.mlp([3, 4, 2], fn.tanh), normal(5, 3, dtype=dtype)
    objective, params = fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(seeded(), dtype=dtype)
    value, grads = fn.complex_step(objective)(params, (x, T[:1].expand(5) % 2))
    doubled = fn.tree.map(torch.Tensor.double, params), (x.double(), T[:1].expand(5) % 2)
    exact = fn.tree.map(lambda leaf: leaf.to(dtype), fn.func_grad(objective)(*doubled)[1])
    assert value.dtype == dtype
    assert_close(grads, exact, torch.finfo(dtype).eps)


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jacfwd])
def test_a_second_derivative_is_refused_and_not_0(transform):
    with pytest.raises(NotImplementedError, match="You must implement"):
        transform(lambda w: stepped(lambda w: (w**3).sum(), w).sum())(torch.ones(2))


@pytest.mark.parametrize("option", [{"step": 0.0}, {"step": math.nan}, {"step": "h"}, {"chunk_size": 0}], ids=str)
@pytest.mark.usefixtures("as_users_run_it")
def test_what_is_no_step_and_no_size_is_refused_at_once(option):
    with pytest.raises(fn.InputError, match=f"^{next(iter(option))}: got"):
        fn.complex_step(fn.Objective(lambda w, batch: w.sum()), **option)


@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
def test_it_can_be_compiled():
    step_fn, optimizer = fn.complex_step(fn.Objective(lambda w, x: (w * x).sin().sum())), fn.sgd(0.5)
    w, x = normal(2), normal(2, seed=1)
    (expected,) = fn.train(step_fn, optimizer, w, [x])
    (found,) = fn.train(step_fn, fn.compiled(optimizer), w, [x])
    assert_close((found.value, found.params), (expected.value, expected.params), 1e-14)
