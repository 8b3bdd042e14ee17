import inspect
import math
import warnings

import numpy as np
import pytest
import torch
from helpers import classifier, labels, normal, says, seeded

import funcnn as fn

pytestmark = pytest.mark.usefixtures("as_users_run_it")

MLP, ENTROPY = fn.mlp([4, 3, 2]), fn.softmax_cross_entropy()
X, T = normal(5, 4), labels(5, 2)
BY_HAND = fn.supervised(MLP, ENTROPY)


def changed(path, leaf):
    """The parameters of the mlp with one leaf replaced."""
    first, activation, last = MLP.init(seeded(), dtype=torch.float64)
    index, name = path
    entries = [dict(first), activation, dict(last)]
    entries[index][name] = leaf
    return tuple(entries)


def good():
    return MLP.init(seeded(), dtype=torch.float64)


REAL_LOSSES = [fn.half_squared_error(), fn.mean_squared_error(), fn.binary_cross_entropy()]


# name: (parameters, the place, what was found, what is needed)
PARAMS = {
    "w of the first layer transposed": (changed((0, "w"), normal(3, 4)), "params[0]['w']", "(3, 4)", "(4, 3)"),
    "w of the last layer too wide": (changed((2, "w"), normal(3, 5)), "params[2]['w']", "(3, 5)", "(3, 2)"),
    "b that would broadcast": (changed((0, "b"), normal(1)), "params[0]['b']", "(1,)", "(3,)"),
    "b with an axis too many": (changed((2, "b"), normal(1, 2)), "params[2]['b']", "(1, 2)", "(2,)"),
    "an integer leaf": (changed((0, "w"), torch.ones(4, 3, dtype=torch.int64)), "params[0]['w']", "int64", "floating"),
    "a boolean leaf": (changed((2, "b"), torch.ones(2, dtype=torch.bool)), "params[2]['b']", "bool", "floating"),
    "a complex leaf": (changed((2, "w"), normal(3, 2) + 0j), "params[2]['w']", "complex128", "floating"),
    "a None leaf": (changed((0, "b"), None), "params[0]['b']", "None", "floating tensor"),
    "a Python number for a leaf": (changed((0, "b"), 1.0), "params[0]['b']", "1.0", "floating tensor"),
    "an extra leaf": (changed((0, "c"), normal(1)), "params[0]", "'c'", "['b', 'w']"),
    "a layer missing": (good()[:2], "params", "tuple of 2", "tuple of 3"),
    "a list for the tuple": (list(good()), "params", "list", "tuple of 3"),
    "None for a tree": (None, "params", "None", "floating tensor"),
}

# name: (batch, the place, what was found, what is needed)
BATCHES = {
    "inputs too narrow": ((normal(5, 3), T), "inputs of params[0]", "(5, 3)", "(N, ..., 4)"),
    "one sample without its axis": ((normal(4), labels(4, 2)), "inputs of params[0]", "(4,)", "(N, ..., 4)"),
    "inputs of another dtype": ((X.float(), T), "inputs of params[0]", "float32", "float64"),
    "integer inputs": ((X.long(), T), "inputs of params[0]", "int64", "float64"),
    "an empty batch": ((X[:0], T[:0]), "batch[0]", "(0, 4)", "at least one sample"),
    "more targets than inputs": ((X, labels(6, 2)), "batch[1]", "(6,)", "5 samples"),
    "a target without an axis": ((X, torch.tensor(1)), "batch[1]", "()", "leading axis"),
    "no targets": ((X, None), "batch[1]", "None", "tensor"),
    "three parts": ((X, T, T), "batch", "tuple", "pair"),
    "inputs alone": (X, "batch", "(5, 4)", "pair"),
    "a label too large": ((X, torch.tensor([0, 1, 2, 0, 0])), "targets", "2", "0 to 1"),
    "a negative label": ((X, torch.tensor([0, 1, -1, 0, 0])), "targets", "-1", "0 to 1"),
    "labels of a floating dtype": ((X, T.double()), "targets", "float64", "int64"),
    "labels of int32": ((X, T.int()), "targets", "int32", "int64"),
    "one-hot targets": ((X, torch.eye(2)[T]), "targets", "(5, 2)", "(5,)"),
    "labels in a column": ((X, T[:, None]), "targets", "(5, 1)", "(5,)"),
}


@pytest.mark.parametrize("name", [*PARAMS, *BATCHES])
def test_every_provider_and_training_refuse_what_does_not_fit(name):
    params, batch = (PARAMS[name][0], (X, T)) if name in PARAMS else (good(), BATCHES[name][0])
    calls = [lambda params, batch: next(fn.train(fn.explicit(BY_HAND), fn.sgd(0.1), params, [batch]))]
    for provider in fn.PROVIDERS.values():
        calls += [provider(BY_HAND), provider(BY_HAND).value]
    for call in calls:
        with pytest.raises(fn.InputError) as caught:
            call(params, batch)
        assert says(caught.value, *(PARAMS | BATCHES)[name][1:])


@pytest.mark.parametrize("name", ["an empty batch", "more targets than inputs", "no targets"])
def test_so_does_per_sample(name):
    batch, *message = BATCHES[name]
    with pytest.raises(fn.InputError) as caught:
        fn.per_sample(fn.func_grad(BY_HAND))(good(), batch)
    assert says(caught.value, *message)


@pytest.mark.parametrize("loss", REAL_LOSSES, ids=repr)
@pytest.mark.parametrize("shape", [(3,), (1, 1), (3, 2), (1, 3)], ids=str)
def test_targets_that_would_broadcast_are_refused(loss, shape):
    with pytest.raises(fn.InputError) as caught:
        loss.forward(torch.full((3, 1), 0.5), torch.full(shape, 0.5))
    assert says(caught.value, "targets", str(shape), "(3, 1)")


@pytest.mark.parametrize("loss", REAL_LOSSES, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_targets_of_another_dtype_are_refused(loss, dtype):
    with pytest.raises(fn.InputError) as caught:
        loss.forward(torch.full((3, 1), 0.5), torch.ones(3, 1, dtype=dtype))
    assert says(caught.value, "targets", str(dtype), "torch.float64")


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, math.inf])
def test_binary_cross_entropy_takes_probabilities_only(bad):
    half, wrong = torch.full((2, 1), 0.5), torch.tensor([[0.5], [bad]])
    for place, outputs, targets in (("outputs", wrong, half), ("targets", half, wrong)):
        with pytest.raises(fn.InputError) as caught:
            fn.binary_cross_entropy().forward(outputs, targets)
        assert says(caught.value, place, "values from", "0 to 1")


@pytest.mark.parametrize("layer", [fn.dense(4, 3), fn.mlp([4, 3]), fn.sigmoid(), fn.relu(), fn.softmax()])
def test_backward_refuses_a_gradient_of_another_shape(layer):
    _, residuals = layer.forward(layer.init(seeded()), torch.ones(2, 4))
    with pytest.raises(fn.InputError) as caught:
        layer.backward(residuals, torch.ones(2, 7))
    assert says(caught.value, "dy", "(2, 7)", "shape")


def square(w, x):
    return (w["w"] * w["w"]).sum()


# name: (a derived gradient, the place, what was found, what is needed)
GRADIENTS = {
    "a row for a column": (lambda w: {"w": 2 * w["w"][None]}, "grads['w']", "(1, 3)", "(3,)"),
    "one that would broadcast": (lambda w: {"w": 2 * w["w"][:1]}, "grads['w']", "(1,)", "(3,)"),
    "no tensor": (lambda w: {"w": None}, "grads['w']", "None", "(3,)"),
    "another key": (lambda w: {"v": 2 * w["w"]}, "grads", "'v'", "'w'"),
    "a bare tensor for a dict": (lambda w: 2 * w["w"], "grads", "*", "'w'"),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_gradient_by_hand_must_fit_the_parameters(name):
    gradient, *message = GRADIENTS[name]

    def rule(w, x):
        return square(w, x), gradient(w)

    params, batch = {"w": torch.ones(3)}, torch.ones(1)
    for call in (
        lambda: fn.explicit(fn.Objective(square, rule))(params, batch),
        lambda: next(fn.train(rule, fn.sgd(0.1), params, [batch])),
    ):
        with pytest.raises(fn.InputError) as caught:
            call()
        assert says(caught.value, *message)


@pytest.mark.parametrize("provider", fn.PROVIDERS)
def test_an_objective_must_be_a_scalar(provider):
    vector = fn.Objective(lambda w, x: w * x, lambda w, x: (w * x, x))
    step_fn = fn.PROVIDERS[provider](vector)
    for call in (step_fn, step_fn.value):
        with pytest.raises(fn.InputError) as caught:
            call(torch.ones(3), torch.ones(3))
        assert "(3,)" in str(caught.value) and "scalar" in str(caught.value)


def test_so_must_the_value_of_a_plain_callable():
    with pytest.raises(fn.InputError, match=r"got shape \(3,\).*needs a scalar"):
        next(fn.train(lambda w, x: (w * x, x), fn.sgd(0.1), torch.ones(3), [torch.ones(3)]))


class Missized:
    init = staticmethod(fn.tree.zeros_like)

    @staticmethod
    def update(grads, state, params):
        return fn.tree.map(lambda g: g.sum(), grads), state


def test_updates_that_would_broadcast_are_refused():
    objective, params, batch = classifier()
    with pytest.raises(fn.InputError) as caught:
        next(fn.train(fn.explicit(objective), Missized(), params, [batch]))
    assert says(caught.value, "updates[0]['b']", "()", "(4,)")


def odd(make):
    """A tensor of a kind that warns when it is made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def nested(layout):
    return lambda *shape: odd(lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout))


# name: (what other than a dense tensor of numbers may come, what the message says of it; a container is looked into)
ALIENS = {
    "None": (lambda *shape: None, "None"),
    "a number": (lambda *shape: 1.5, "1.5"),
    "a string": (lambda *shape: "x", "'x'"),
    "a list of numbers": (lambda *shape: [1.0, 2.0], ""),
    "an array": (lambda *shape: np.ones(shape), "ndarray"),
    "a layer": (lambda *shape: MLP, ""),
    "a function": (lambda *shape: torch.relu, "a "),
    "sparse": (lambda *shape: torch.ones(shape, dtype=torch.float64).to_sparse(), "sparse"),
    "nested": (nested(torch.strided), "nested"),
    "jagged": (nested(torch.jagged), "nested"),
    "quantized": (
        lambda *shape: odd(lambda: torch.quantize_per_tensor(torch.ones(shape).float(), 0.1, 0, torch.quint8)),
        "quantized",
    ),
    "float8": (lambda *shape: torch.ones(shape).to(torch.float8_e4m3fn), "float8"),
}
DENSE, SIGMOID, RELU = fn.dense(4, 4), fn.sigmoid(), fn.relu()
SQUARE = {"w": normal(4, 4), "b": normal(4)}
HALF = torch.full((5, 4), 0.5, dtype=torch.float64)


def residuals(layer, params):
    return layer.forward(params, HALF)[1]


# name: (the shape that it should have there, a call with it in that place)
PLACES = {
    "the parameters of dense": ((4, 4), lambda it: DENSE(it, HALF)),
    "a parameter of dense": ((4, 4), lambda it: DENSE(SQUARE | {"w": it}, HALF)),
    "the bias of dense": ((4,), lambda it: DENSE(SQUARE | {"b": it}, HALF)),
    "the parameters of sigmoid": ((5, 4), lambda it: SIGMOID(it, HALF)),
    "the inputs of dense": ((5, 4), lambda it: DENSE(SQUARE, it)),
    "the inputs of sigmoid": ((5, 4), lambda it: SIGMOID((), it)),
    "the inputs of relu": ((5, 4), lambda it: RELU((), it)),
    "the inputs of apply": ((5, 4), lambda it: fn.apply(DENSE, SQUARE, it)),
    "the inputs of a network": ((5, 4), lambda it: MLP(good(), it)),
    "a parameter of a network": ((3, 2), lambda it: MLP(changed((2, "w"), it), X)),
    "dy of dense": ((5, 4), lambda it: DENSE.backward(residuals(DENSE, SQUARE), it)),
    "dy of relu": ((5, 4), lambda it: RELU.backward(residuals(RELU, ()), it)),
    "dy of a network": ((5, 2), lambda it: MLP.backward(MLP.forward(good(), X)[1], it)),
    **{f"the outputs of {loss!r}": ((5, 4), lambda it, loss=loss: loss.forward(it, HALF)) for loss in REAL_LOSSES},
    **{f"the targets of {loss!r}": ((5, 4), lambda it, loss=loss: loss.forward(HALF, it)) for loss in REAL_LOSSES},
    "the logits of an entropy": ((5, 2), lambda it: ENTROPY.forward(it, T)),
    "the labels of an entropy": ((5,), lambda it: ENTROPY.forward(normal(5, 2), it)),
    "the parameters of a provider": ((4, 3), lambda it: fn.func_grad(BY_HAND)(it, (X, T))),
    "a parameter of a provider": ((4, 3), lambda it: fn.explicit(BY_HAND)(changed((0, "w"), it), (X, T))),
    "the batch of a provider": ((5, 4), lambda it: fn.explicit(BY_HAND)(good(), it)),
    "the inputs of a provider": ((5, 4), lambda it: fn.autograd(BY_HAND)(good(), (it, T))),
    "the targets of a provider": ((5,), lambda it: fn.explicit(BY_HAND)(good(), (X, it))),
    "the parameters of samples": ((4, 3), lambda it: fn.per_sample(fn.explicit(BY_HAND))(it, (X, T))),
    "the inputs of accuracy": ((5, 4), lambda it: fn.accuracy(MLP, good(), (it, T))),
    "the targets of accuracy": ((5,), lambda it: fn.accuracy(MLP, good(), (X, it))),
    "the parameters of accuracy": ((4, 3), lambda it: fn.accuracy(MLP, it, (X, T))),
    "the parameters of a jacobian": ((4, 3), lambda it: fn.jacobian(MLP, it, X)),
    "the inputs of laws": ((5, 4), lambda it: fn.laws(MLP, good(), it)),
}


@pytest.mark.parametrize("alien", ALIENS)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_dense_tensor_of_numbers_is_refused_everywhere_and_named(place, alien):
    (shape, call), (made, named) = PLACES[place], ALIENS[alien]
    with pytest.raises(fn.InputError) as caught:
        call(made(*shape))
    got, _, needs = str(caught.value).partition(": got ")[2].partition(", needs ")
    assert named in got and needs


EXCHANGED = {
    "layer(x, params)": lambda: MLP(X, good()),
    "dense(x, params)": lambda: DENSE(HALF, SQUARE),
    "apply(params, layer, x)": lambda: fn.apply(good(), MLP, X),
    "apply(layer, x, params)": lambda: fn.apply(MLP, X, good()),
    "accuracy(params, layer, batch)": lambda: fn.accuracy(good(), MLP, (X, T)),
    "accuracy(layer, batch, params)": lambda: fn.accuracy(MLP, (X, T), good()),
    "accuracy(layer, params, (targets, inputs))": lambda: fn.accuracy(MLP, good(), (T, X)),
    "provider(batch, params)": lambda: fn.explicit(BY_HAND)((X, T), good()),
    "provider(params, (targets, inputs))": lambda: fn.explicit(BY_HAND)(good(), (T, X)),
    "backward(dy, residuals)": lambda: DENSE.backward(HALF, residuals(DENSE, SQUARE)),
    "loss(targets, outputs)": lambda: ENTROPY.forward(T, normal(5, 2)),
    "supervised(loss, layer)": lambda: fn.supervised(ENTROPY, MLP),
    "regularised(penalty, objective)": lambda: fn.regularised(lambda params: 0.0, BY_HAND),
    "per_sample_clip(max_norm, step_fn)": lambda: fn.per_sample_clip(1.0, fn.explicit(BY_HAND)),
}


@pytest.mark.parametrize("name", EXCHANGED)
def test_exchanged_arguments_are_named(name):
    with pytest.raises(fn.InputError, match=": got .*, needs "):
        EXCHANGED[name]()


TOKENS = torch.tensor([[0, 3], [1, 7]])
# name: (a layer, its inputs, what was found, what is needed)
MISFITS = {
    "a token out of range": (fn.embedding(7, 4), TOKENS, "the token 7", "from 0 to 6"),
    "a kernel larger than its padded input": (fn.conv2d(2, 2, 5, padding=1), normal(5, 2, 2, 9), "4 x 11", "5 x 5"),
    "a window larger than its input": (fn.max_pool2d(4), normal(5, 2, 2, 9), "(5, 2, 2, 9)", "4 x 4"),
    "an axis too few": (fn.conv1d(2, 2, 1), normal(5, 2), "(5, 2)", "(N, 2, L)"),
    "an axis too many": (fn.attention(4, 2), normal(5, 2, 2, 4), "(5, 2, 2, 4)", "(N, T, 4)"),
    "an empty sequence": (fn.attention(4, 2), normal(5, 0, 4), "(5, 0, 4)", "at least 1"),
    "an empty sequence, step by step": (fn.lstm(4, 4), normal(5, 0, 4), "(5, 0, 4)", "at least one token"),
    "a text that is too long": (fn.positions(3, 4), normal(5, 4, 4), "(5, 4, 4)", "T from 1 to 3"),
    "a batch of one": (fn.batch_norm(4), normal(1, 4), "(1, 4)", "two samples"),
}
WITHIN = {
    "a series": lambda layer: fn.serial(fn.serial(layer)),
    "a residual": fn.residual,
    "a parallel": lambda layer: fn.parallel(fn.serial(layer), layer),
    "a rematerialised one": fn.rematerialised,
    "a network with dropout": lambda layer: fn.with_dropout(fn.serial(layer, fn.dropout(0.5))),
}


@pytest.mark.parametrize("within", WITHIN)
@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_within_a_network_is_refused_by_the_name_of_the_layer(name, within):
    layer, x, *message = MISFITS[name]
    network = WITHIN[within](layer)
    params, inputs = network.init(seeded(), dtype=torch.float64), fn.with_seeds(x, seeded()) if "dropout" in within else x
    step_fn = fn.explicit(fn.supervised(network, fn.half_squared_error()))
    calls = [lambda: network(params, inputs), lambda: step_fn(params, (inputs, x))]
    calls += [lambda: next(fn.train(step_fn, fn.sgd(0.1), params, [(inputs, x)]))]
    calls += [lambda: fn.check(step_fn, params, (inputs, x))] if fn.tree.leaves(params) else []
    for call in calls:
        with pytest.raises(fn.InputError) as caught:
            call()
        assert says(caught.value, f"inputs of {layer!r}", *message)


@pytest.mark.parametrize("layer", [fn.attention(4, 2), fn.lstm(4, 4), fn.layer_norm(4)], ids=repr)
@pytest.mark.parametrize("within", WITHIN)
def test_and_a_parameter_by_its_path(layer, within):
    network, x = WITHIN[within](layer), normal(5, 3, 4)
    params = network.init(seeded(), dtype=torch.float64)
    leaves, unflatten = fn.tree.flatten(params)
    with pytest.raises(fn.InputError) as caught:
        network(unflatten([*leaves[:-1], leaves[-1][1:]]), fn.with_seeds(x, seeded()) if "dropout" in within else x)
    assert says(caught.value, fn.tree.paths(params)[-1], "shape", str(tuple(leaves[-1].shape)))


def meta(x):
    return x.to("meta")


ELSEWHERE = {
    "the inputs of dense": lambda: DENSE(SQUARE, meta(HALF)),
    "the bias of dense": lambda: DENSE(SQUARE | {"b": meta(SQUARE["b"])}, HALF),
    "the parameters of dense": lambda: DENSE(fn.tree.map(meta, SQUARE), HALF),
    "a parameter of a network": lambda: MLP(changed((2, "b"), meta(good()[2]["b"])), X),
    "the inputs of a provider": lambda: fn.explicit(BY_HAND)(good(), (meta(X), T)),
    "the targets of a provider": lambda: fn.func_grad(BY_HAND)(good(), (X, meta(T))),
    "a parameter of a provider": lambda: fn.explicit(BY_HAND)(changed((0, "w"), meta(good()[0]["w"])), (X, T)),
    "the weights of dense": lambda: DENSE(SQUARE | {"w": meta(SQUARE["w"])}, HALF),  # torch returns what lies in memory
    "the weights of a value": lambda: fn.explicit(BY_HAND).value(changed((2, "w"), meta(good()[2]["w"])), (X, T)),
    **{f"the targets of {loss!r}": lambda loss=loss: loss.forward(HALF, meta(HALF)) for loss in REAL_LOSSES},
    "the labels of an entropy": lambda: ENTROPY.forward(normal(5, 2), meta(T)),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_operands_on_two_devices_are_named(name):
    with pytest.raises(fn.InputError, match="got .*(meta|cpu).*needs .*(meta|cpu)"):
        ELSEWHERE[name]()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,), (0, 0)], ids=str)
@pytest.mark.parametrize("loss", [*REAL_LOSSES, ENTROPY], ids=repr)
def test_a_loss_of_nothing_is_refused(loss, shape):
    targets = torch.zeros(shape[:1], dtype=torch.int64) if loss is ENTROPY else torch.zeros(shape)
    with pytest.raises(fn.InputError, match="^outputs: got shape "):
        loss.forward(torch.zeros(shape), targets)


def forgetful(params, x):
    return x @ params["w"] + params["b"]


def plain_layer(forward=None, backward=None):
    layer = fn.dense(4, 2)
    return fn.Layer(
        layer.init, forward or (lambda p, x: layer.forward(p, x)), backward or (lambda r, dy: layer.backward(r, dy))
    )


def with_loss(forward):
    return fn.supervised(fn.dense(4, 2), fn.Loss(forward, ENTROPY.backward))


def of(objective):
    return lambda provider=fn.explicit: provider(objective)(
        fn.dense(4, 2).init(seeded(), dtype=torch.float64), (X[:2], T[:2])
    )


def scalar(params, batch):
    return params["w"].sum()


UNBOUND = inspect.unwrap(fn.explicit)  # as users have it: under pytest the checks of its annotations stand before it
IN_SERIES = fn.serial(fn.serial(plain_layer(forgetful)))

# name: (a call, the place, what was found, what is needed)
WRONG_FORM = {
    "a forward without residuals, called": (
        lambda: plain_layer(forgetful)(SQUARE, HALF[:2]),
        "forward(params, x)",
        "(2, 4)",
        "(y, residuals)",
    ),
    "a forward without residuals, applied": (
        lambda: fn.apply(plain_layer(forgetful), SQUARE, HALF[:2]),
        "layer.forward(params, x)",
        "(2, 4)",
        "(y, residuals)",
    ),
    "a forward without residuals, in series": (
        lambda: IN_SERIES(((SQUARE,),), HALF[:2]),
        "layer.forward(params[0][0], x)",
        "(2, 4)",
        "(y, residuals)",
    ),
    "a forward without residuals, differentiated": (
        of(fn.supervised(plain_layer(forgetful), ENTROPY)),
        "layer.forward(params, x)",
        "(2, 2)",
        "(y, residuals)",
    ),
    "a loss of each sample": (
        of(with_loss(lambda z, t: (ENTROPY.forward.each(z, t)[0], ENTROPY.forward(z, t)[1]))),
        "loss.forward(outputs, targets)[0]",
        "(2,)",
        "scalar",
    ),
    "a loss that returns (N,) alone": (
        of(with_loss(lambda z, t: ENTROPY.forward.each(z, t)[0])),
        "loss.forward(outputs, targets)",
        "(2,)",
        "(value, residuals)",
    ),
    "a backward that returns no pair": (
        of(fn.supervised(plain_layer(backward=lambda r, dy: dy), ENTROPY)),
        "layer.backward(residuals, dy)",
        "(2, 2)",
        "(dparams, dx)",
    ),
    "a backward of three": (
        of(fn.supervised(plain_layer(backward=lambda r, dy: (dy, dy, dy)), ENTROPY)),
        "layer.backward(residuals, dy)",
        "a tuple of 3",
        "(dparams, dx)",
    ),
    "an objective that returns no pair": (
        of(fn.Objective(scalar, scalar)),
        "objective.value_and_grad(params, batch)",
        "shape ()",
        "(value, grads)",
    ),
    "a step function that returns no pair": (
        lambda: next(fn.train(scalar, fn.sgd(0.1), SQUARE, [X])),
        "step_fn(params, batch)",
        "shape ()",
        "(value, grads)",
    ),
    "a value that is a Python number": (
        of(fn.Objective(lambda p, b: 3.0, lambda p, b: (3.0, p))),
        "objective.value_and_grad(params, batch)[0]",
        "3.0",
        "scalar",
    ),
    "a forward of one argument": (
        lambda: fn.apply(plain_layer(lambda x: (x, ())), SQUARE, HALF),
        "layer.forward(params, x)",
        "argument",
        "2 arguments",
    ),
    "a loss of one argument": (
        of(with_loss(lambda z: (z, ()))),
        "loss.forward(outputs, targets)",
        "argument",
        "2 arguments",
    ),
    "a provider that is bound to nothing": (
        lambda: next(fn.train(UNBOUND, fn.sgd(0.1), SQUARE, [X])),
        "step_fn(params, batch)",
        "argument",
        "2 arguments",
    ),
    "a provider that is bound to nothing, per sample": (
        lambda: fn.per_sample(UNBOUND)(SQUARE, X),
        "step_fn(params, batch)",
        "argument",
        "2 arguments",
    ),
}


@pytest.mark.parametrize("name", WRONG_FORM)
def test_a_function_of_the_wrong_form_is_refused_by_its_place(name):
    call, *message = WRONG_FORM[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)


@pytest.mark.parametrize(
    "name", ["a loss of each sample", "a loss that returns (N,) alone", "a forward without residuals, differentiated"]
)
@pytest.mark.parametrize("provider", fn.PROVIDERS)
def test_so_every_provider_refuses_it(provider, name):
    call, *message = WRONG_FORM[name]
    with pytest.raises(fn.InputError) as caught:
        call(fn.PROVIDERS[provider])
    assert says(caught.value, *message)


NUMBERS = {
    "mean_squared_error": ("scale", fn.mean_squared_error),
    "softmax_cross_entropy": ("clip", lambda clip: fn.softmax_cross_entropy(clip=clip)),
    "per_sample_clip": ("max_norm", lambda number: fn.per_sample_clip(fn.explicit(BY_HAND), number)),
    "finite_difference": ("step", lambda number: fn.finite_difference(BY_HAND, step=number)),
    "complex_step": ("step", lambda number: fn.complex_step(BY_HAND, step=number)),
    "spsa": ("step", lambda number: fn.spsa(BY_HAND, seeded(), step=number)),
    "evolution": ("sigma", lambda number: fn.evolution(BY_HAND, seeded(), sigma=number)),
    "l1": ("rate", fn.l1),
    "l2": ("rate", fn.l2),
    "regularised": ("weight", lambda number: fn.regularised(BY_HAND, BY_HAND, number)),
    "layer_norm": ("eps", lambda number: fn.layer_norm(2, number)),
    "rms_norm": ("eps", lambda number: fn.rms_norm(2, number)),
    "group_norm": ("eps", lambda number: fn.group_norm(1, 2, number)),
    "batch_norm": ("eps", lambda number: fn.batch_norm(2, number)),
}
COUNTS = {
    "dense, in": ("in_features", lambda count: fn.dense(count, 2)),
    "dense, out": ("out_features", lambda count: fn.dense(2, count)),
    "perceptron": ("in_features", fn.perceptron),
    "mlp": ("sizes[1]", lambda count: fn.mlp([2, count])),
    "finite_difference": ("chunk_size", lambda count: fn.finite_difference(BY_HAND, chunk_size=count)),
    "spsa": ("samples", lambda count: fn.spsa(BY_HAND, seeded(), samples=count)),
    "forward_gradient": ("samples", lambda count: fn.forward_gradient(BY_HAND, seeded(), samples=count)),
    "evolution": ("samples", lambda count: fn.evolution(BY_HAND, seeded(), samples=count)),
    "conv1d": ("in_channels", lambda count: fn.conv1d(count, 2, 3)),
    "conv2d": ("out_channels", lambda count: fn.conv2d(2, count, 3)),
    "layer_norm": ("features", fn.layer_norm),
    "rms_norm": ("features", fn.rms_norm),
    "group_norm": ("groups", lambda count: fn.group_norm(count, 2)),
    "batch_norm": ("features", fn.batch_norm),
    "embedding": ("num_embeddings", lambda count: fn.embedding(count, 2)),
    "positions": ("length", lambda count: fn.positions(count, 2)),
    "attention": ("heads", lambda count: fn.attention(2, count)),
    "rnn": ("hidden", lambda count: fn.rnn(2, count)),
    "gru": ("in_features", lambda count: fn.gru(count, 2)),
    "lstm": ("hidden", lambda count: fn.lstm(2, count)),
    "patience": ("epochs", fn.patience),
    "minibatches": ("batch_size", lambda count: fn.minibatches(X, count, generator=seeded())),
    "transformer": ("depth", lambda count: fn.transformer(2, 2, 2, 1, count)),
}


@pytest.mark.parametrize(
    "number", [10**400, -(10**400), math.nan, math.inf, -1.0, True, "1", 1j, torch.tensor(1.0)], ids=str
)
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_number_in_range_is_refused_at_once(name, number):
    place, call = NUMBERS[name]
    with pytest.raises(fn.InputError, match=f"^{place}: got .*, needs a number of at least "):
        call(number)


@pytest.mark.parametrize("count", [0, -1, 2.0, math.nan, True, "2", [], 2**63, 10**400], ids=lambda c: str(c)[:9])
@pytest.mark.parametrize("name", COUNTS)
def test_what_is_no_count_is_refused_at_once(name, count):
    place, call = COUNTS[name]
    with pytest.raises(fn.InputError) as caught:
        call(count)
    assert says(caught.value, place, "", "a positive integer")


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.uint8, int, float])
def test_the_numbers_of_numpy_are_numbers(kind):
    for _, call in NUMBERS.values():
        call(kind(2))
    if kind not in (np.float32, np.float64, float):
        for _, call in COUNTS.values():
            call(kind(2))
        assert repr(fn.dense(kind(2), kind(3))) == "dense(2, 3)"
    assert repr(fn.mean_squared_error(kind(2))) == "mean_squared_error(2)"
