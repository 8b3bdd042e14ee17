import math

import numpy as np
import pytest
import torch
from helpers import normal, same_bits, says, seeded

import funcnn as fn

pytestmark = pytest.mark.usefixtures("as_users_run_it")

ENTROPY, SUM = fn.softmax_cross_entropy(), fn.Objective(lambda w, x: w.sum())
WRONG = fn.StepFn(SUM.value, lambda w, x: (w.sum(), 2 * torch.ones_like(w)))
with torch.inference_mode():
    INFERRED = torch.full((1, 1), 0.5, dtype=torch.float64)


BATCH = torch.ones(3)
ENDLESS = [torch.ones(2)]
ENDLESS.append(ENDLESS)


def no_params(generator, **where):
    return ()


def writing(at, params, state):
    params.add_(1)
    return fn.Step(params, state, at.value(params))


def fitted(**how):
    return fn.fit(
        fn.func_grad(SUM),
        fn.sgd(0.1),
        torch.ones(2),
        torch.ones(4, 2),
        batch_size=2,
        generator=seeded(),
        **{"epochs": 1, **how},
    )


def loss_of(loss, outputs, targets):
    return lambda: loss.forward(outputs, targets)


# the call: (a function without arguments, the place, what was found, what is needed)
CALLS = {
    "momentum of 1": (lambda: fn.momentum(0.1, 1.0), "beta", "1.0", "below 1"),
    "negative momentum": (lambda: fn.momentum(0.1, -0.1), "beta", "-0.1", "at least 0"),
    "nesterov of 1": (lambda: fn.nesterov(0.1, 1.0), "beta", "1.0", "below 1"),
    "rmsprop, alpha of 1": (lambda: fn.rmsprop(0.1, 1.0), "alpha", "1.0", "below 1"),
    "rmsprop, negative eps": (lambda: fn.rmsprop(0.1, eps=-1e-8), "eps", "-1e-08", "at least 0"),
    "adam, first beta of 1": (lambda: fn.adam(0.1, (1.0, 0.9)), "betas[0]", "1.0", "below 1"),
    "adam, second beta negative": (lambda: fn.adam(0.1, (0.9, -0.1)), "betas[1]", "-0.1", "at least 0"),
    "adam, one beta": (lambda: fn.adam(0.1, 0.9), "betas", "0.9", "pair"),
    "adam, three betas": (lambda: fn.adam(0.1, (0.9, 0.9, 0.9)), "betas", "tuple", "pair"),
    "adam, eps is NaN": (lambda: fn.adam(0.1, eps=math.nan), "eps", "nan", "at least 0"),
    "line search that never shrinks": (lambda: fn.line_search(shrink=1.0), "shrink", "1.0", "below 1"),
    "line search, decrease of 1": (lambda: fn.line_search(decrease=1.0), "decrease", "1.0", "below 1"),
    "line search without values": (lambda: fn.line_search(max_evaluations=0), "max_evaluations", "0", "positive"),
    "exact search from 0": (lambda: fn.exact_line_search(0.0), "lr", "0.0", "at least"),
    "exact search to 0": (lambda: fn.exact_line_search(tolerance=0.0), "tolerance", "0.0", "at least"),
    "bfgs from 0": (lambda: fn.bfgs(0.0), "lr", "0.0", "at least"),
    "bfgs, decrease of 1": (lambda: fn.bfgs(decrease=1.0), "decrease", "1.0", "below 1"),
    "bfgs, curvature of 1": (lambda: fn.bfgs(curvature=1.0), "curvature", "1.0", "below 1"),
    "bfgs, no room between": (lambda: fn.bfgs(decrease=0.5, curvature=0.4), "curvature", "0.4", "at least 0.5"),
    "bfgs without a trial": (lambda: fn.bfgs(max_evaluations=0), "max_evaluations", "0", "positive"),
    "a layer without inputs": (lambda: fn.dense(0, 3), "in_features", "0", "positive integer"),
    "a layer with half an output": (lambda: fn.dense(3, 2.5), "out_features", "2.5", "positive integer"),
    "a perceptron without inputs": (lambda: fn.perceptron(-1), "in_features", "-1", "positive integer"),
    "an mlp of one size": (lambda: fn.mlp([3]), "sizes", "[3]", "at least two"),
    "an mlp of a number": (lambda: fn.mlp(3), "sizes", "3", "at least two"),
    "an mlp with an empty layer": (lambda: fn.mlp([3, 0, 2]), "sizes[1]", "0", "positive integer"),
    "an autoencoder of one size": (lambda: fn.autoencoder([3]), "sizes", "[3]", "at least two"),
    "a network of nothing": (lambda: fn.serial(), "serial(*layers)", "none", "at least one"),
    "a negative clip": (lambda: fn.softmax_cross_entropy(clip=-1.0), "clip", "-1.0", "at least 0"),
    "a negative scale": (lambda: fn.mean_squared_error(-1.0), "scale", "-1.0", "at least 0"),
    "an unknown scheme": (
        lambda: fn.finite_difference(SUM, "upward"),
        "scheme",
        "'upward'",
        "forward, backward, central",
    ),
    "a scheme that is no name": (lambda: fn.finite_difference(SUM, 2), "scheme", "2", "central"),
    "a step by name": (lambda: fn.finite_difference(SUM, step="small"), "step", "'small'", "a number"),
    "a complex step of 0": (lambda: fn.complex_step(SUM, step=0.0), "step", "0.0", "a number"),
    "a complex step of no objective": (lambda: fn.complex_step(torch.sum), "objective", "", "Objective"),
    "no complex steps at once": (lambda: fn.complex_step(SUM, chunk_size=0), "chunk_size", "0", "positive integer"),
    "a stochastic gradient of no objective": (lambda: fn.spsa(torch.sum, seeded()), "objective", "", "Objective"),
    "a seed for a generator": (lambda: fn.spsa(SUM, 0), "generator", "0", "a torch.Generator"),
    "directions that are orthogonal a little": (
        lambda: fn.evolution(SUM, seeded(), orthogonal=1),
        "orthogonal",
        "1",
        "True or False",
    ),
    "an unknown way to differentiate forward": (
        lambda: fn.forward_gradient(SUM, seeded(), by="magic"),
        "by",
        "'magic'",
        "jvp, differences",
    ),
    "an expectation that is an objective": (
        lambda: fn.score_function(SUM, seeded()),
        "score_function(expectation)",
        "Objective",
        "an Expectation",
    ),
    "descent by a seed": (lambda: fn.mezo(0, 0.1), "generator", "0", "a torch.Generator"),
    "descent by no step": (lambda: fn.mezo(seeded(), 0.1, 0.0), "step", "0.0", "a number"),
    "a fractional chunk": (lambda: fn.finite_difference(SUM, chunk_size=1.5), "chunk_size", "1.5", "positive integer"),
    "a layer's constructor": (
        lambda: fn.torch_function(fn.relu),
        "torch_function(pair)",
        "a function",
        "relu() and not relu",
    ),
    "an lr beyond every float": (lambda: fn.sgd(10**400), "lr", "a int", "a number of at least 0"),
    "a width beyond every tensor": (lambda: fn.dense(2**70, 3), "in_features", str(2**70), "positive integer"),
    "more evaluations than can be counted": (
        lambda: fn.bfgs(max_evaluations=2**70),
        "max_evaluations",
        str(2**70),
        "positive integer",
    ),
    "a seed beyond a generator's": (
        lambda: fn.check(fn.func_grad(SUM), torch.ones(2), seed=2**70),
        "seed",
        str(2**70),
        "from 0 to 2^63 - 1",
    ),
    "draws that bound nothing": (
        lambda: fn.check_estimator(fn.spsa(SUM, seeded()), fn.func_grad(SUM), torch.ones(2), draws=100),
        "draws",
        "100",
        "at least 256",
    ),
    "an estimator that is none": (
        lambda: fn.check_estimator(3, fn.func_grad(SUM), torch.ones(2), draws=256),
        "step_fn",
        "3",
        "a StepFn",
    ),
    "a negative seed": (lambda: fn.check_vjp(fn.tanh(), ((), torch.ones(2)), seed=-1), "seed", "-1", "from 0"),
    "a bound of 0": (lambda: fn.per_sample_clip(fn.func_grad(SUM), 0.0), "max_norm", "0.0", "at least"),
    "logits in a row": (loss_of(ENTROPY, torch.ones(3), torch.zeros(3).long()), "outputs", "(3,)", "(N, ..., C)"),
    "labels in a list": (loss_of(ENTROPY, torch.ones(2, 2), [0, 1]), "targets", "a list", "class labels"),
    "no derived gradient": (
        lambda: fn.explicit(SUM),
        "objective.value_and_grad",
        "None",
        "hand-derived",
    ),
    "a tree that holds itself": (lambda: fn.tree.leaves(ENDLESS), "tree", "a tree that holds itself", "a tree of tensors"),
    "parameters that hold themselves": (lambda: fn.func_grad(SUM)(ENDLESS, BATCH), "params", "holds itself", "a tree"),
    "an objective that writes": (
        lambda: fn.func_grad(fn.Objective(lambda w, x: w.mul_(2).sum())).value(torch.ones(2), BATCH),
        "objective.value(params, batch)",
        "a function that writes to its arguments",
        "leaves them as they are",
    ),
    "a step that writes": (
        lambda: next(fn.train(fn.func_grad(SUM), fn.Optimizer(lambda w: (), writing), torch.ones(2), [BATCH])),
        "optimizer_fn.step(at, params, state)",
        "a function that writes to its arguments",
        "leaves them as they are",
    ),
    "a layer that writes": (
        lambda: fn.Layer(no_params, lambda w, x: (x.mul_(2), x), lambda x, dy: ((), dy))((), torch.ones(2, 3)),
        "layer.forward(params, x)",
        "a function that writes to its arguments",
        "leaves them as they are",
    ),
    "data on two devices": (
        lambda: fn.minibatches((torch.ones(3, device="meta"), torch.ones(3)), 2, generator=seeded()),
        "data",
        "tensors on cpu and meta",
        "all on one device",
    ),
    "weights of one row for five": (
        lambda: fn.Rows(torch.ones(1, 4)).weighted(torch.ones(5)),
        "weights",
        "(5,)",
        "(1,)",
    ),
    "operands beyond memory": (
        lambda: fn.tree.ravel(torch.ones(1).expand(2**50)),
        "tree",
        "a vector of its entries",
        "memory that are free",
    ),
    "a device that there is not": (lambda: fn.dense(3, 2).init(seeded(), device="here"), "device", "'here'", "torch.device"),
    "a verdict that there is not": (lambda: fn.Finding("good", 0.0), "verdict", "'good'", "one of ok"),
    "a flag that is none": (lambda: fn.attention(4, 2, causal="yes"), "causal", "'yes'", "True or False"),
    "a hypothesis that is none": (
        lambda: fn.check(fn.func_grad(SUM), torch.ones(2), hypotheses=(3,)),
        "hypotheses",
        "a tuple",
        "functions of the evidence",
    ),
    "a hypothesis that says what is none": (
        lambda: fn.check(WRONG, torch.ones(2), hypotheses=(lambda evidence: print,)),
        "hypotheses",
        "one that returned a builtin",
        "pairs of strings",
    ),
    "a hypothesis that says one half": (
        lambda: fn.check(WRONG, torch.ones(2), hypotheses=(lambda evidence: ["cause"],)),
        "hypotheses",
        "one that yielded 'cause'",
        "pairs of strings",
    ),
    "a scale with an axis": (
        lambda: fn.tree.add_scaled(torch.ones(2), torch.ones(2), torch.ones(2)),
        "scale",
        "shape (2,)",
        "a number",
    ),
    "more blocks than memory": (lambda: fn.transformer(7, 4, 4, 2, 2**40), "depth", "blocks of", "memory that are free"),
    "a tensor without axes for a loop": (
        lambda: fn.progress(torch.ones(())),
        "progress(iterable)",
        "shape ()",
        "an iterable",
    ),
    "a loss whose rule is a type": (
        lambda: fn.explicit(fn.supervised(fn.dense(2, 1), fn.Loss(lambda y, t: (y.sum(), y), float)))(
            fn.dense(2, 1).init(seeded()), (torch.ones(3, 2), torch.ones(3, 1))
        ),
        "loss.backward(residuals)",
        "only one element tensors",
        "a function of 1 argument",
    ),
    "inference tensors beside a tape": (
        lambda: fn.binary_cross_entropy().forward(torch.ones(1, 1, requires_grad=True) / 2, INFERRED),
        "operands of binary_cross_entropy()",
        "tensors of inference mode",
        "clones of these",
    ),
    "a function in a file": (lambda: fn.save("never", {"f": print}), "tree['f']", "a builtin", "tensors, numbers"),
    "a file that is a number": (lambda: fn.save(3, ()), "path", "3", "a str or a pathlib.Path"),
    "a file that is bytes": (lambda: fn.load(b"never"), "path", "a bytes", "a str or a pathlib.Path"),
    "a file of Python": (lambda: fn.load(__file__), __file__, "no safetensors file", "that fn.save wrote"),
    "a folder for a file": (lambda: fn.load("/"), "/", "no regular file", "that fn.save wrote"),
    "kinds that are none": (lambda: fn.load(__file__, kinds=3), "kinds", "3", "NamedTuple"),
    "patience with what was not evaluated": (
        lambda: fn.patience(1, "accuracy")(fn.History(torch.zeros(2), [2], {"loss": [0.5]})),
        "patience(name)",
        "'accuracy'",
        "['loss']",
    ),
    "patience without evaluations": (lambda: fitted(until=fn.patience(1)), "patience(name)", "'evaluation'", "one of []"),
    "until that is no function": (lambda: fitted(until=3), "until", "3", "a function of the History"),
    "until of nothing": (lambda: fitted(until=lambda: True), "until(history)", "argument", "a function of 1 argument"),
    "an evaluation that is a type": (lambda: fitted(evaluate=int), "evaluate(params)", "one element", "a function of 1"),
    "an evaluation of nothing": (lambda: fitted(evaluate=lambda: 1.0), "evaluate(params)", "argument", "a function of 1"),
    "an evaluation that writes": (
        lambda: fitted(evaluate=lambda params: params.add_(1).sum()),
        "evaluate(params)",
        "a function that writes",
        "leaves them as they are",
    ),
    "a checkpoint that is a number": (lambda: fitted(checkpoint=3), "path", "3", "a str or a pathlib.Path"),
    "a checkpoint that is a folder": (lambda: fitted(checkpoint="/"), "/", "no regular file", "that fn.save wrote"),
    "half a step between checkpoints": (
        lambda: fitted(checkpoint="never", checkpoint_every=0.5),
        "checkpoint_every",
        "0.5",
        "a positive integer",
    ),
    "no checkpoint every step": (lambda: fitted(checkpoint_every=1), "checkpoint_every", "1", "a checkpoint"),
    "batches of other features": (
        lambda: fn.calibrate(fn.batch_norm(2), fn.batch_norm(2).init(seeded()), [torch.ones(3, 2), torch.ones(3, 4)]),
        "inputs of batch_norm(2)",
        "(3, 4)",
        "(N, 2",
    ),
    "gradients in a list": (
        lambda: fn.check_vjp(
            lambda x, w: (x * w, (x, w)), (BATCH, BATCH), backward=lambda kept, dy: [dy * kept[1], dy * kept[0]]
        ),
        "backward(residuals, dy)",
        "a list",
        "a tuple, of a gradient for each input",
    ),
    "a list for the gradient of a tuple": (
        lambda: fn.check_vjp(
            lambda pair: (pair[0] * pair[1], pair),
            ((BATCH, BATCH),),
            backward=lambda kept, dy: ([dy * kept[1], dy * kept[0]],),
        ),
        "backward(residuals, dy): gradients[0]",
        "a list",
        "the tree of inputs[0]",
    ),
    "a nested network": (
        lambda: fn.apply(fn.autoencoder([4, 2]), ((fn.dense(4, 2).init(seeded()),), ({"w": normal(9, 9)},)), normal(5, 4)),
        "params[1][0]",
        "['w']",
        "['b', 'w']",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_error_names_the_place_what_it_got_and_what_it_needs(name):
    call, *message = CALLS[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)


# name: (a call with a number of NumPy, the same call with Python's)
NUMPY = {
    "counts": (lambda: fn.dense(np.int32(3), np.uint8(2)), lambda: fn.dense(3, 2)),
    "sizes": (lambda: fn.mlp([np.int64(3), np.int16(2)]), lambda: fn.mlp([3, 2])),
    "sizes in an array": (lambda: fn.mlp(tuple(np.array([3, 4, 2]))), lambda: fn.mlp([3, 4, 2])),
}


@pytest.mark.parametrize("name", NUMPY)
def test_numbers_of_numpy_are_numbers(name):
    ours, theirs = (make() for make in NUMPY[name])
    assert same_bits(ours.init(seeded()), theirs.init(seeded()))


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3)])
def test_seeds_of_numpy_are_seeds(seed):
    step_fn, w = fn.func_grad(SUM), torch.ones(2)
    assert str(fn.check(step_fn, w, seed=seed)) == str(fn.check(step_fn, w, seed=3))


@pytest.mark.parametrize("number", [np.float64(0.1), np.float32(0.1), np.float16(0.1)])
def test_scales_clips_steps_and_norms_may_be_of_numpy(number):
    x, t, plain = normal(4, 3), torch.arange(4) % 3, float(number)
    for ours, theirs in (
        (fn.mean_squared_error(number).forward(x, x + 1), fn.mean_squared_error(plain).forward(x, x + 1)),
        (
            fn.softmax_cross_entropy(clip=number).backward(fn.softmax_cross_entropy(clip=number).forward(x, t)[1]),
            fn.softmax_cross_entropy(clip=plain).backward(fn.softmax_cross_entropy(clip=plain).forward(x, t)[1]),
        ),
        (fn.finite_difference(SUM, step=number)(x, x), fn.finite_difference(SUM, step=plain)(x, x)),
        (fn.per_sample_clip(fn.func_grad(SUM), number)(x, x), fn.per_sample_clip(fn.func_grad(SUM), plain)(x, x)),
    ):
        assert same_bits(ours, theirs)
