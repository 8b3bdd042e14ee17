"""What torch keeps for the whole thread: a default device is respected, autocast is respected or refused by name."""

import ast
from pathlib import Path

import pytest
import torch
from helpers import classifier, labels, normal, same_bits, says, seeded
from rows import ROWS
from test_purity import CALLS

import funcnn as fn

ROOT = Path(fn.__file__).parents[1]

pytestmark = pytest.mark.usefixtures("as_users_run_it")


@pytest.fixture
def default_device():
    yield torch.set_default_device
    torch.set_default_device(None)


INPUTS, TARGETS = normal(6, 4), labels(6, 2)

# What is made of nothing but a generator lies where torch's default is; all else where its operands are.
MADE = {
    "init": lambda **on: fn.mlp([4, 3, 2]).init(seeded(), **on),
    "init of a transformer": lambda **on: fn.transformer(7, 5, 4, 2, 1).init(seeded(), **on),
    "init of norms": lambda **on: fn.serial(fn.batch_norm(4), fn.group_norm(2, 4), fn.rms_norm(4)).init(seeded(), **on),
    "init of an lstm": lambda **on: fn.lstm(3, 2).init(seeded(), **on),
    "init of a LeNet": lambda **on: fn.lenet().init(seeded(), **on),
    "split": lambda **on: fn.data.split(INPUTS, TARGETS, generator=seeded(), **on),
    "spirals": lambda **on: fn.data.spirals(generator=seeded(), **on),
    "digits": lambda **on: fn.data.digits(generator=seeded(), **on),
    "breast_cancer": lambda **on: fn.data.breast_cancer(generator=seeded(), **on),
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_made_lies_on_the_default_device_or_where_it_is_said(name, default_device):
    before = MADE[name]()
    default_device("meta")
    made, said = MADE[name](), MADE[name](device="cpu")
    assert {str(leaf.device) for leaf in fn.tree.leaves(made)} <= {"meta"}
    assert [(leaf.shape, leaf.dtype) for leaf in fn.tree.leaves(made)] == [
        (leaf.shape, leaf.dtype) for leaf in fn.tree.leaves(before)
    ]
    assert same_bits(said, before)


@pytest.mark.parametrize("name", [name for name in CALLS if name not in (*MADE, "check of a mistake")])
def test_a_default_device_changes_nothing_of_what_has_operands(name, default_device):
    function, arguments = CALLS[name]
    before = function(*arguments)
    default_device("meta")
    assert same_bits(function(*arguments), before)


def test_what_is_saved_is_loaded_where_it_is_said(default_device, tmp_path):
    fn.save(tmp_path / "file", PARAMS)
    default_device("meta")
    assert same_bits(fn.load(tmp_path / "file"), PARAMS)


MAKES = {"arange", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm", "tensor", "zeros"}
OF_NOTHING = {"funcnn/tree.py", "funcnn/sums.py", "funcnn/optimizers/quasi_newton.py"}  # sums over trees without tensors


@pytest.mark.parametrize("path", sorted(Path(fn.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_a_tensor_that_is_made_says_on_which_device(path):
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call) and ast.unparse(call.func) in {f"torch.{name}" for name in MAKES}:
            named = {keyword.arg for keyword in call.keywords} & {"device", None}
            assert named or path.relative_to(ROOT).as_posix() in OF_NOTHING, f"line {call.lineno}: {ast.unparse(call)}"


@pytest.mark.parametrize("name", ROWS)
def test_a_default_device_changes_nothing_of_a_layer(name, default_device):
    row = ROWS[name]
    params = row.layer.init(seeded(), dtype=torch.float64)

    def both():
        y, residuals = row.layer.forward(params, row.x)
        return y, row.layer.backward(residuals, y)

    before = both()
    default_device("meta")
    assert same_bits(both(), before)


def problem(dtype):
    objective, params, batch = classifier((4, 3, 2))
    return objective, *fn.tree.map(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, (params, batch))


MLP, PARAMS, BATCH = problem(torch.float32)
ATTENTION = fn.attention(4, 2)
TOKENS = normal(3, 5, 4, dtype=torch.float32)
OF_ATTENTION = fn.tree.map(torch.Tensor.float, ATTENTION.init(seeded()))
QUADRATIC = fn.Objective(lambda w, x: (x @ w).square().mean())
X, W = normal(5, 3, dtype=torch.float32), normal(3, dtype=torch.float32)

REFUSED = {
    "explicit": lambda: fn.explicit(MLP)(PARAMS, BATCH),
    "a layer": lambda: fn.apply(ATTENTION, OF_ATTENTION, TOKENS),
    "train": lambda: list(fn.train(fn.explicit(MLP), fn.sgd(0.1), PARAMS, [BATCH])),
    **{name: lambda name=name: fn.PROVIDERS[name](QUADRATIC)(W, X) for name in fn.PROVIDERS if "difference" in name},
    "complex_step": lambda: fn.complex_step(QUADRATIC)(W, X),
    "per_sample": lambda: fn.per_sample(fn.func_grad(MLP))(PARAMS, BATCH),
    "per_sample_norms": lambda: fn.per_sample_norms(fn.explicit(MLP))(PARAMS, BATCH),
    "per_sample_clip": lambda: fn.per_sample_clip(fn.explicit(MLP), 1.0)(PARAMS, BATCH),
    "check": lambda: fn.check(fn.func_grad(QUADRATIC), W, X),
    "check_estimator": lambda: fn.check_estimator(fn.func_grad(QUADRATIC), fn.func_grad(QUADRATIC), W, X, draws=4000),
    "check_vjp": lambda: fn.check_vjp(fn.sigmoid(), ((), X)),
    "laws": lambda: fn.laws(ATTENTION, OF_ATTENTION, TOKENS),
    "jacobian": lambda: fn.jacobian(ATTENTION, OF_ATTENTION, TOKENS),
    "torch_function of a layer": lambda: fn.torch_function(ATTENTION)(OF_ATTENTION, TOKENS),
    "torch_function of a loss": lambda: fn.torch_function(fn.half_squared_error())(X, X),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", REFUSED)
def test_autocast_is_refused_by_name(name, dtype):
    with torch.autocast("cpu", dtype=dtype), pytest.raises(fn.InputError) as caught:
        REFUSED[name]()
    assert says(caught.value, "torch.autocast", str(dtype).removeprefix("torch."), "autocast('cpu', enabled=False)")
    with torch.autocast("cpu", dtype=dtype), torch.autocast("cpu", enabled=False):
        REFUSED[name]()


@pytest.mark.parametrize("provider", [fn.func_grad, fn.autograd])
def test_autocast_is_torchs_where_the_gradient_is(provider):
    w = W.clone().requires_grad_()
    with torch.autocast("cpu"):
        value, grads = provider(QUADRATIC)(W, X)
        expected = QUADRATIC.value(w, X)
    expected.backward()
    assert torch.equal(value, expected.detach()) and torch.equal(grads, w.grad)
    assert not torch.equal(grads, provider(QUADRATIC)(W, X)[1])
