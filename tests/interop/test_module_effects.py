"""Modules that remember, reach around their names, or write where nobody looks: a function all the same, or refused."""

import random

import numpy as np
import pytest
import torch
from helpers import EPS, assert_close, normal, same_bits, says, seeded
from torch import nn
from torch.utils.checkpoint import checkpoint

import funcnn as fn

X = normal(6, 4)


def of(forward, **held):
    """A module with a linear layer, attributes, and a forward of (self, x)."""

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)
            for name, value in held.items():
                setattr(self, name, value(self) if callable(value) else value)

        def forward(self, x):
            return forward(self, x)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Module()


def counting(self, x):
    self.calls += 1
    return self.linear(x) * self.calls


def caching(self, x):
    if self.cache is None:
        self.cache = 2 * self.linear.weight
    return (x @ self.cache.mT).tanh()


def keeping(self, x):
    self.outputs.append(self.linear(x))
    self.shapes[x.shape] = len(self.outputs)
    return self.outputs[-1] * len(self.outputs)


class Exp(torch.autograd.Function):
    """One of the older kind, which torch.func does not follow."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.saved_tensors[0].exp()


def hooked():
    module = of(lambda self, x: self.linear(x))
    module.linear.register_full_backward_hook(lambda module, dx, dy: (None if dx[0] is None else 2 * dx[0],))
    return nn.Sequential(nn.Linear(4, 4), module)


def tied():
    module = of(lambda self, x: self.other(self.linear(x).tanh()), other=lambda self: nn.Linear(4, 4))
    module.other.weight = module.linear.weight
    return module


# name: (a module that is a function, its formula in a module that remembers nothing, whether torch.func follows it)
FUNCTIONS = {
    "counting": (lambda: of(counting, calls=0), lambda: of(lambda self, x: self.linear(x)), True),
    "caching": (
        lambda: of(caching, cache=None),
        lambda: of(lambda self, x: (x @ (2 * self.linear.weight).mT + 0 * self.linear.bias).tanh()),
        True,
    ),
    "keeping": (
        lambda: of(keeping, outputs=lambda self: [], shapes=lambda self: {}),
        lambda: of(lambda self, x: self.linear(x)),
        True,
    ),
    "an older autograd Function": (
        lambda: of(lambda self, x: Exp.apply(self.linear(x))),
        lambda: of(lambda self, x: self.linear(x).exp()),
        False,
    ),
    "checkpointed": (
        lambda: of(lambda self, x: checkpoint(lambda x: self.linear(x).tanh(), x, use_reentrant=False)),
        lambda: of(lambda self, x: self.linear(x).tanh()),
        False,
    ),
    "hooked": (hooked, hooked, False),
    "tied": (tied, tied, True),
    "a parameter in place of its name": (
        lambda: of(lambda self, x: self.linear(x) * next(self.parameters()).sum()),
        lambda: of(lambda self, x: self.linear(x) * self.linear.weight.sum()),
        True,
    ),
}


def squares(layer):
    def value_and_grad(params, x):
        y, residuals = layer.forward(params, x)
        return y.square().mean(), layer.backward(residuals, 2 * y / y.numel())[0]

    return fn.Objective(lambda params, x: layer(params, x).square().mean(), value_and_grad)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_module_remembers_is_forgotten_and_its_training_is_torchs(name):
    make, plain, followed = FUNCTIONS[name]
    module, classic = make(), plain()
    classic.load_state_dict(module.state_dict())
    layer = fn.module(module)
    params = layer.init(seeded())
    assert same_bits(layer(params, X), layer(params, X))
    step_fn, optimizer = fn.explicit(squares(layer)), torch.optim.SGD(classic.parameters(), lr=0.1)
    *_, last = fn.train(step_fn, fn.sgd(0.1), params, [X] * 5)
    for _ in range(5):
        optimizer.zero_grad()
        classic(X).square().mean().backward()
        optimizer.step()
    state = classic.state_dict()
    for path, leaf in zip(fn.tree.paths(last.params, ""), fn.tree.leaves(last.params), strict=True):
        assert_close(leaf, state[path.replace("']['", ".").strip("[']")], 100 * EPS)
    if followed:
        assert_close(fn.func_grad(squares(layer))(params, X), step_fn(params, X), 20 * EPS)
    else:
        with pytest.raises(fn.InputError, match=r"a forward that torch\.func cannot follow, needs explicit or autograd"):
            fn.func_grad(squares(layer))(params, X)


def clamping(self, x):
    self.linear.weight.data.clamp_(-0.1, 0.1)
    return self.linear(x)


def replacing(self, x):
    self.linear.weight.data = 0.5 * self.linear.weight.data
    return self.linear(x)


def doubling(self, x):
    x.data.mul_(2)
    return self.linear(x)


def averaging(self, x):
    self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
    return self.linear(x - self.mean)


def adding(self, x):
    self.mean.add_(1.0)
    return self.linear(x) + self.mean


def with_buffer(forward):
    module = of(forward)
    module.register_buffer("mean", torch.zeros(4))
    return module


# name: (a module that is no function of its parameters and inputs, what is said of its forward)
EFFECTS = {
    "Python's random": (
        lambda: of(lambda self, x: self.linear(x) * random.random()),
        "gives other numbers when called again",
    ),
    "NumPy's random": (
        lambda: of(lambda self, x: self.linear(x) * np.random.rand()),
        "gives other numbers when called again",
    ),
    "torch's random": (lambda: of(lambda self, x: self.linear(x) + torch.rand(4)), "draws random numbers"),
    "a list of parameters": (
        lambda: of(lambda self, x: x @ self.weights[0].mT, weights=lambda self: [self.linear.weight]),
        "reads parameters other than by their names",
    ),
    "numbers of a parameter": (lambda: of(clamping), "writes to 'linear.weight'"),
    "the data of a parameter": (lambda: of(replacing), "writes to 'linear.weight'"),
    "numbers of the inputs": (lambda: of(doubling), "writes to its inputs"),
    "a buffer that is set": (lambda: with_buffer(averaging), "sets 'mean'"),
    "a buffer that is written": (lambda: with_buffer(adding), "writes to 'mean'"),
    "a tensor that is written": (lambda: of(adding, mean=torch.zeros(4)), "writes to 'mean'"),
}
WAYS = {
    "forward": lambda layer, params, x: layer(params, x),
    "backward": lambda layer, params, x: layer.backward((params, x), x),
    "autograd": lambda layer, params, x: fn.autograd(squares(layer))(params, x),
    "differences": lambda layer, params, x: fn.finite_difference(squares(layer))(params, x),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", EFFECTS)
def test_what_is_no_function_is_refused_each_time_and_changes_nothing(name, way):
    make, said = EFFECTS[name]
    layer = fn.module(make())
    params, x = layer.init(seeded()), X.clone()
    for _ in range(2):
        with pytest.raises(fn.InputError) as caught:
            WAYS[way](layer, params, x)
        assert says(caught.value, "module(Module)", f"a forward that {said}", "a pure function")
    assert same_bits((params, x), (layer.init(seeded()), X))


class Shared(nn.Linear):
    def __deepcopy__(self, memo):
        return self


class Uncopied(nn.Linear):
    def __deepcopy__(self, memo):
        raise KeyError("no")


def hook_on_weight():
    module = of(lambda self, x: self.linear(x))
    module.linear.weight.register_hook(torch.zeros_like)
    return module


# the module: (how it is made, what was found, what is needed)
REFUSED = {
    "data parallel": (lambda: nn.DataParallel(nn.Linear(4, 4)), "a DataParallel", "its .module"),
    "data parallel within": (lambda: nn.Sequential(nn.DataParallel(nn.Linear(4, 4))), "'0', a DataParallel", "its .module"),
    "scripted": (lambda: torch.jit.trace(nn.Linear(4, 4), X), "a TopLevelTracedModule", "torch.jit takes no other"),
    "what is its own copy": (lambda: nn.Sequential(Shared(4, 4)), "a copy that shares '0.weight'", "copies whole"),
    "what is not to be copied": (lambda: Uncopied(4, 4), "what copy.deepcopy refuses ('no')", "can be copied"),
    "without numbers": (lambda: nn.Linear(4, 4, device="meta"), "'weight' on the device meta", "numbers"),
    "a hook on a gradient": (hook_on_weight, "'linear.weight' with a hook on its gradient", "without"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_layer_is_refused_when_it_is_made(name):
    make, *message = REFUSED[name]
    with pytest.raises(fn.InputError) as caught:
        fn.module(make())
    assert says(caught.value, "module(nn_module)", *message)


def test_inputs_without_numbers_are_refused():
    # Torch's product of a matrix and one on the device meta is whatever stands in memory.
    layer = fn.module(nn.Linear(4, 4))
    with pytest.raises(fn.InputError, match="on meta, needs the device of the parameters"):
        layer(layer.init(seeded()), X.to("meta"))


def test_a_maximal_norm_of_ones_own_is_no_embeddings():
    module = of(lambda self, x: self.linear(x) * self.max_norm, max_norm=2.0)
    layer = fn.module(module)
    assert_close(layer(layer.init(seeded()), X), module(X).detach(), EPS)
