import random
import tempfile

import numpy as np
import pytest
import sklearn.datasets  # noqa: F401  its first import draws from Python's generator
import torch
from helpers import classifier, labels, normal, same_bits, seeded

import funcnn as fn

# Beartype draws from Python's generator to choose what it checks; the library itself draws nothing.
pytestmark = pytest.mark.usefixtures("as_users_run_it")

OBJECTIVE, PARAMS, BATCH = classifier((4, 3, 2))
PARAMS = fn.tree.map(torch.Tensor.double, PARAMS)
BATCH = normal(6, 4, seed=1), labels(6, 2, seed=2)
DENSE = {"w": normal(4, 2), "b": normal(2, seed=1)}
X, DY = normal(6, 4), normal(6, 2, seed=3)
P, Y = torch.rand(2, 6, 2, generator=seeded(), dtype=torch.float64)


def forward_and_backward(layer):
    def call(params, x, dy):
        y, residuals = layer.forward(params, x)
        kept = fn.tree.clone(residuals)
        result = layer.backward(residuals, dy)
        assert same_bits(residuals, kept)
        return y, result

    return call


def value_and_gradient(loss):
    def call(outputs, targets):
        value, residuals = loss.forward(outputs, targets)
        kept = fn.tree.clone(residuals)
        gradient = loss.backward(residuals)
        assert same_bits(residuals, kept)
        return value, gradient

    return call


def trained(optimizer, provider=fn.explicit):
    return lambda params, batch: list(fn.train(provider(OBJECTIVE), optimizer, params, [batch] * 3))


def fitted(params, data):
    options = {"epochs": 2, "batch_size": 4, "generator": seeded(), "evaluate": lambda params: params[0]["w"].sum()}
    return fn.fit(fn.explicit(OBJECTIVE), fn.adam(0.1), params, data, **options)


def saved(tree):
    with tempfile.TemporaryDirectory() as folder:
        fn.save(f"{folder}/tree", tree)
        return fn.load(f"{folder}/tree")


def kept(params, data):
    how = {"epochs": 2, "batch_size": 4, "generator": seeded()}
    with tempfile.TemporaryDirectory() as folder:
        return fn.fit(fn.explicit(OBJECTIVE), fn.adam(0.1), params, data, **how, checkpoint=f"{folder}/run").params


def doubled(params, batch):
    value, grads = fn.explicit(OBJECTIVE)(params, batch)
    return value, fn.tree.map(lambda leaf: 2 * leaf, grads)


ACTIVATIONS = {"sigmoid": fn.sigmoid(), "tanh": fn.tanh(), "relu": fn.relu(), "softmax": fn.softmax()}
NORMED, DROPPING = fn.serial(fn.dense(4, 2), fn.batch_norm(2)), fn.with_dropout(fn.serial(fn.dense(4, 2), fn.dropout(0.5)))
NORMED_PARAMS = DENSE, {"w": normal(2), "b": normal(2, seed=1)}
MODULE = fn.module(torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.Linear(4, 4, dtype=torch.float64)))
TREE = {"b": normal(3), "a": (normal(2, 2, seed=1), ())}
DRAWN = {"spsa": fn.spsa, "forward_gradient": fn.forward_gradient, "evolution": fn.evolution}
NORMAL = fn.Expectation(
    lambda generator: torch.randn(4, generator=generator, dtype=torch.float64, device=generator.device),
    lambda w, batch, z: w + z,
    lambda w, batch, x: -(x - w).square().sum() / 2,
    lambda x, batch: (x - batch).square().mean(),
)

# name: (a function, its arguments)
CALLS = {
    "dense": (forward_and_backward(fn.dense(4, 2)), (DENSE, X, DY)),
    "mlp": (forward_and_backward(fn.mlp([4, 3, 2])), (PARAMS, X, DY)),
    **{name: (forward_and_backward(layer), ((), X, X)) for name, layer in ACTIVATIONS.items()},
    "apply": (lambda params, x: fn.apply(fn.mlp([4, 3, 2]), params, x), (PARAMS, X)),
    "accuracy": (lambda params, batch: fn.accuracy(fn.mlp([4, 3, 2]), params, batch), (PARAMS, BATCH)),
    "torch_function of a layer": (fn.torch_function(fn.mlp([4, 3, 2])), (PARAMS, X)),
    "torch_function of a loss": (fn.torch_function(fn.softmax_cross_entropy(clip=0.01)), (DY, BATCH[1])),
    "module": (lambda x: forward_and_backward(MODULE)(MODULE.init(seeded()), x, x), (X,)),
    "half_squared_error": (value_and_gradient(fn.half_squared_error()), (P, Y)),
    "mean_squared_error": (value_and_gradient(fn.mean_squared_error(2.0)), (P, Y)),
    "binary_cross_entropy": (value_and_gradient(fn.binary_cross_entropy()), (P, Y)),
    "softmax_cross_entropy": (value_and_gradient(fn.softmax_cross_entropy()), (DY, BATCH[1])),
    "clipped cross entropy": (value_and_gradient(fn.softmax_cross_entropy(clip=0.01)), (DY, BATCH[1])),
    **{name: (provider(OBJECTIVE), (PARAMS, BATCH)) for name, provider in fn.PROVIDERS.items()},
    **{f"{name} value": (provider(OBJECTIVE).value, (PARAMS, BATCH)) for name, provider in fn.PROVIDERS.items()},
    **{f"{name} per sample": (fn.per_sample(p(OBJECTIVE)), (PARAMS, BATCH)) for name, p in fn.PROVIDERS.items()},
    **{
        f"{name} per sample": (lambda *a, p=p: fn.per_sample(p(OBJECTIVE, seeded()))(*a), (PARAMS, BATCH))
        for name, p in DRAWN.items()
    },
    **{name: (lambda *a, p=p: p(OBJECTIVE, seeded())(*a), (PARAMS, BATCH)) for name, p in DRAWN.items()},
    "score_function": (lambda w, x: fn.score_function(NORMAL, seeded())(w, x), (X[0], X)),
    "mezo": (lambda *a: trained(fn.mezo(seeded(), 0.1))(*a), (PARAMS, BATCH)),
    "train with an average": (trained(fn.averaged(fn.adam(0.1), 0.9)), (PARAMS, BATCH)),
    "train a part": (trained(fn.masked(fn.adam(0.1), (True, (), False))), (PARAMS, BATCH)),
    "train by a chain": (
        trained(fn.chain(fn.clip_by_norm(0.1), fn.adamw(fn.warmup(fn.cosine(0.1, 3), 2)))),
        (PARAMS, BATCH),
    ),
    **{f"train by {name}": (trained(fn.sgd(0.1), provider), (PARAMS, BATCH)) for name, provider in fn.PROVIDERS.items()},
    "regularised by l1 and l2": (
        fn.explicit(fn.regularised(fn.regularised(OBJECTIVE, fn.l1(0.1)), fn.l2(0.1))),
        (PARAMS, BATCH),
    ),
    "per_sample_norms": (fn.per_sample_norms(fn.explicit(OBJECTIVE)), (PARAMS, BATCH)),
    "per_sample_clip": (fn.per_sample_clip(fn.explicit(OBJECTIVE), 0.1), (PARAMS, BATCH)),
    "train by per_sample_clip": (trained(fn.sgd(0.1), lambda o: fn.per_sample_clip(fn.explicit(o), 0.1)), (PARAMS, BATCH)),
    "fit": (fitted, (PARAMS, BATCH)),
    "fit with a checkpoint": (kept, (PARAMS, BATCH)),
    "save and load": (saved, (TREE,)),
    "patience": (fn.patience(2), (fn.History(normal(3), [1, 2, 3], {"evaluation": [0.1, 0.2, 0.3]}),)),
    "progress": (lambda tree: [*fn.progress(fn.tree.leaves(tree))], (TREE,)),
    "minibatches of names": (
        lambda x: [part["x"] for part in fn.minibatches({"x": x, "name": [*"abcdef"]}, 4, generator=seeded())],
        (X,),
    ),
    "minibatches": (lambda data: list(fn.minibatches(data, 4, generator=seeded())), (BATCH,)),
    "init": (lambda: fn.mlp([4, 3, 2]).init(seeded()), ()),
    "split": (lambda x, t: fn.data.split(x, t, generator=seeded()), BATCH),
    "digits": (lambda: fn.data.digits(generator=seeded()), ()),
    "breast_cancer": (lambda: fn.data.breast_cancer(generator=seeded()), ()),
    "check": (lambda params, batch: str(fn.check(fn.explicit(OBJECTIVE), params, batch)), (PARAMS, BATCH)),
    "check of a mistake": (lambda params, batch: str(fn.check(doubled, params, batch)), (PARAMS, BATCH)),
    "check_estimator": (
        lambda params, batch: str(
            fn.check_estimator(fn.spsa(OBJECTIVE, seeded()), fn.explicit(OBJECTIVE), params, batch, draws=256)
        ),
        (PARAMS, BATCH),
    ),
    "check_vjp": (lambda params, x: str(fn.check_vjp(fn.mlp([4, 3, 2]), (params, x))), (PARAMS, X)),
    "audit": (
        lambda x, dy: str(fn.audit(lambda rule: fn.tree.leaves(rule((), x))[0].sum() > 0, lambda _, u: dy * u)),
        (X, X),
    ),
    "calibrate": (lambda params, x: fn.calibrate(NORMED, params, [x])(params, x), (NORMED_PARAMS, X)),
    "with_seeds": (lambda x: fn.with_seeds(x, seeded()), (X,)),
    "with_dropout": (forward_and_backward(DROPPING), ((DENSE, ()), (X, torch.arange(6)), DY)),
    "laws": (lambda params, x: str(fn.laws(fn.mlp([4, 3, 2]), params, x)), (PARAMS, X)),
    "jacobian": (lambda params, x: fn.jacobian(fn.mlp([4, 3, 2]), params, x), (PARAMS, X)),
    "assert_gradients": (lambda params, batch: fn.assert_gradients(fn.func_grad(OBJECTIVE), params, batch), (PARAMS, BATCH)),
    "tree.add": (fn.tree.add, (TREE, TREE)),
    "tree.add_scaled": (lambda x, y: fn.tree.add_scaled(x, 2.0, y), (TREE, TREE)),
    "tree.spread": (lambda x, y: fn.tree.spread("x", {"a": x, "b": x}, y), (normal(2), TREE)),
    "tree.zeros_like": (fn.tree.zeros_like, (TREE,)),
    "tree.ravel": (lambda tree: fn.tree.ravel(tree)[0], (TREE,)),
    "tree.clone": (fn.tree.clone, (TREE,)),
    "tree.dot": (fn.tree.dot, (TREE, TREE)),
    "tree.max_difference": (fn.tree.max_difference, (TREE, TREE)),
}


def world():
    """Everything global that a pure function neither reads nor changes."""
    _, numbers, position, *_ = np.random.get_state()
    return (
        torch.get_rng_state().tolist(),
        (numbers.tolist(), position),
        random.getstate(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
    )


@pytest.mark.parametrize("name", CALLS)
def test_a_public_call_changes_nothing_and_gives_the_same_bits_again(name):
    function, arguments = CALLS[name]
    before, around = fn.tree.clone(arguments), world()
    result = function(*arguments)
    assert not any(getattr(leaf, "requires_grad", False) for leaf in fn.tree.leaves(result))
    copy = fn.tree.clone(result)
    assert same_bits(arguments, before) and world() == around
    torch.rand(1)  # the global generator moves on, and must not matter
    assert same_bits(function(*arguments), copy)
    assert same_bits(result, copy)
