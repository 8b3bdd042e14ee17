import pytest
import torch
from helpers import normal, says, seeded
from test_torch_function import WAYS, D, H, N

import funcnn as fn

pytestmark = pytest.mark.usefixtures("as_users_run_it")

LINE, ROWS = fn.torch_function(fn.dense(D, H)), fn.torch_function(fn.half_squared_error())
# the call: (a function without arguments, the place, what was found, what is needed)
REFUSED = {
    "a constructor": (lambda: fn.torch_function(fn.relu), "torch_function(pair)", "a function", "relu() and not relu"),
    "an objective": (
        lambda: fn.torch_function(fn.supervised(fn.relu(), fn.half_squared_error())),
        "torch_function(pair)",
        "a Objective",
        "a Layer or a Loss",
    ),
    "params that are None": (lambda: LINE(None, normal(N, D)), "params", "None", "a floating tensor"),
    "params of another layer": (lambda: LINE({"w": normal(D, H)}, normal(N, D)), "params", "['w']", "['b', 'w']"),
    "an input in a list": (lambda: LINE(fn.dense(D, H).init(seeded()), [1.0]), "x", "a list", "a tensor"),
    "an input of the wrong width": (
        lambda: LINE(fn.dense(D, H).init(seeded()), normal(N, H)),
        "inputs of params",
        f"({N}, {H})",
        f"(N, {D})",
    ),
    "outputs in a list": (lambda: ROWS([1.0], normal(1)), "outputs", "a list", "a tensor"),
    "targets that are None": (lambda: ROWS(normal(N), None), "targets", "None", "a tensor"),
    "targets of another shape": (lambda: ROWS(normal(N, 1), normal(N)), "targets", f"({N},)", f"({N}, 1)"),
    "targets to be trained": (
        lambda: ROWS(normal(N), normal(N).requires_grad_()),
        "targets",
        "requires gradients",
        "targets.detach()",
    ),
    "targets to be transformed": (
        lambda: torch.func.grad(lambda targets: ROWS(normal(N), targets))(normal(N)),
        "targets",
        "requires gradients",
        "targets.detach()",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_by_name(name):
    call, *message = REFUSED[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)


# the rule: (backward, the place, what was found, what is needed)
MISFITS = {
    "one gradient for two": (lambda kept, dy: dy, "backward(residuals, dy)", f"shape ({N}, {D})", "(dparams, dx)"),
    "None for no parameters": (lambda kept, dy: (None, dy), "dparams", "PyTreeSpec(*", "PyTreeSpec(()"),
    "dx of another shape": (lambda kept, dy: ((), dy[:1]), "dx", f"(1, {D})", f"({N}, {D})"),
    "no dx": (lambda kept, dy: ((), None), "dx", "None", f"({N}, {D})"),
}


@pytest.mark.parametrize("name", MISFITS)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_rule_whose_gradients_do_not_fit_is_refused(name, way):
    backward, *message = MISFITS[name]
    function = fn.torch_function(fn.tanh()._replace(backward=backward))
    with pytest.raises(fn.InputError) as caught:
        way(lambda x: function((), x).sum(), normal(N, D))
    assert says(caught.value, *message)


def test_a_loss_whose_gradient_does_not_fit_is_refused():
    function = fn.torch_function(fn.half_squared_error()._replace(backward=lambda error: error.sum()))
    with pytest.raises(fn.InputError) as caught:
        WAYS["backward"](lambda y: function(y, normal(N, H)), normal(N, H))
    assert says(caught.value, "doutputs", "shape ()", f"shape ({N}, {H})")
