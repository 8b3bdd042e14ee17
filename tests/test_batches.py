"""Batches of every form: pairs, dicts, nested ones, with tokens, masks and weights, out of a DataLoader or not."""

from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from helpers import TOLERANCES, assert_close, labels, normal, one_by_one, same_bits, says, seeded
from torch.utils.data import DataLoader, Dataset, TensorDataset

import funcnn as fn

N = 6
X, TOKENS = normal(N, 4), labels(5 * N, 7).reshape(N, 5)
MASK, CLASSES, AIMS = labels(5 * N, 2, seed=1).reshape(N, 5).bool(), labels(N, 3, seed=2), normal(N, 3, seed=3)
WEIGHTS = normal(N, seed=4).abs()
MLP, WORDS = fn.mlp([4, 5, 3], fn.tanh), fn.serial(fn.embedding(7, 4), fn.dense(4, 3), fn.tanh())
ENTROPY, SQUARES = fn.softmax_cross_entropy(), fn.half_squared_error()


class Parts(NamedTuple):
    x: torch.Tensor
    t: torch.Tensor
    weight: torch.Tensor


def pooled(params, batch):
    """The weighted loss of the mean over the tokens that a mask leaves."""
    mask = batch["mask"].unsqueeze(-1).to(params[1]["b"])
    logits = (WORDS(params, batch["tokens"]) * mask).sum(1) / (1 + mask.sum(1))
    return (batch["weight"] * F.cross_entropy(logits, batch["t"], reduction="none")).mean()


def of_mlp(params, x, t):
    hidden = (x @ params[0]["w"] + params[0]["b"]).tanh()
    return F.cross_entropy(hidden @ params[2]["w"] + params[2]["b"], t)


def of_words(params, tokens, aims):
    return (F.embedding(tokens, params[0]["w"]) @ params[1]["w"] + params[1]["b"]).tanh().sub(aims).square().sum() / 2 / N


def with_gradient(function):
    return fn.Objective(function, lambda p, b: torch.func.grad_and_value(lambda p: function(p, b))(p)[::-1])


# name: (the layer whose parameters they are, the objective, a batch, the formula of both)
BATCHES = {
    "a pair": (MLP, fn.supervised(MLP, ENTROPY), (X, CLASSES), lambda p, b: of_mlp(p, *b)),
    "a list": (MLP, fn.supervised(MLP, ENTROPY), [X, CLASSES], lambda p, b: of_mlp(p, *b)),
    "the pair exchanged": (MLP, fn.supervised(MLP, ENTROPY, 1, 0), (CLASSES, X), lambda p, b: of_mlp(p, b[1], b[0])),
    "three parts": (MLP, fn.supervised(MLP, ENTROPY, 0, 2), (X, AIMS, CLASSES), lambda p, b: of_mlp(p, b[0], b[2])),
    "a NamedTuple": (
        MLP,
        fn.supervised(MLP, ENTROPY, targets=-2),
        Parts(X, CLASSES, WEIGHTS),
        lambda p, b: of_mlp(p, b.x, b.t),
    ),
    "a dict": (
        MLP,
        fn.supervised(MLP, ENTROPY, "x", "t"),
        {"t": CLASSES, "x": X, "mask": MASK, "more": {"weight": WEIGHTS}},
        lambda p, b: of_mlp(p, b["x"], b["t"]),
    ),
    "an OrderedDict": (
        MLP,
        fn.supervised(MLP, ENTROPY, inputs="x", targets="t"),
        OrderedDict(x=X, t=CLASSES),
        lambda p, b: of_mlp(p, b["x"], b["t"]),
    ),
    "a dict of tokens": (
        WORDS,
        fn.supervised(WORDS, SQUARES, "tokens", "aims"),
        {"tokens": TOKENS, "aims": normal(N, 5, 3), "mask": MASK},
        lambda p, b: of_words(p, b["tokens"], b["aims"]),
    ),
    "a dict to a function": (
        WORDS,
        with_gradient(pooled),
        {"tokens": TOKENS, "mask": MASK, "t": CLASSES, "weight": WEIGHTS},
        pooled,
    ),
    "a dict to a function and a loss": (
        MLP,
        fn.regularised(
            fn.supervised(MLP, ENTROPY, "x", "t"), with_gradient(lambda p, b: (b["weight"] * p[0]["w"][0, 0] ** 2).mean())
        ),
        {"x": X, "t": CLASSES, "weight": WEIGHTS},
        lambda p, b: of_mlp(p, b["x"], b["t"]) + (b["weight"] * p[0]["w"][0, 0] ** 2).mean(),
    ),
}
every_batch = pytest.mark.parametrize("name", BATCHES)


def scene(name):
    """(objective, parameters, batch, formula)"""
    layer, objective, batch, formula = BATCHES[name]
    return objective, layer.init(seeded()), batch, formula


@every_batch
@pytest.mark.parametrize("provider", fn.PROVIDERS)
def test_every_provider_takes_it(name, provider):
    objective, params, batch, formula = scene(name)
    grads, value = torch.func.grad_and_value(formula)(params, batch)
    assert_close(fn.PROVIDERS[provider](objective)(params, batch), (value, grads), TOLERANCES[provider])


@every_batch
def test_so_do_gradients_of_samples_the_check_and_training(name):
    objective, params, batch, _ = scene(name)
    step_fn, held = fn.explicit(objective), fn.tree.clone(batch)
    values, grads = one_by_one(lambda sample: step_fn(params, sample), batch)
    assert_close(fn.per_sample(step_fn)(params, batch), (values, grads), TOLERANCES["explicit"])
    assert_close(fn.per_sample_clip(step_fn, 1e9)(params, batch), step_fn(params, batch), TOLERANCES["explicit"])
    assert fn.per_sample_norms(step_fn)(params, batch).shape == (N,)
    assert fn.check(step_fn, params, batch)
    fitted = fn.fit(step_fn, fn.sgd(0.1), params, batch, epochs=20, batch_size=4, generator=seeded())
    assert step_fn.value(fitted.params, batch) < step_fn.value(params, batch)
    assert same_bits(batch, held)


class Samples(Dataset):
    """The samples of a batch, one by one."""

    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return N

    def __getitem__(self, n):
        return fn.tree.map(lambda leaf: leaf[n], self.batch)


@every_batch
def test_a_loader_gives_the_steps_that_its_batches_give(name):
    objective, params, batch, _ = scene(name)
    loader = DataLoader(Samples(batch), batch_size=4, shuffle=True, generator=seeded())
    # What comes out of a loader may be in another container: lists for tuples.
    loaded = [step.params for step in fn.train(fn.explicit(objective), fn.adam(0.1), params, loader)]
    order = torch.cat(list(DataLoader(range(N), 4, shuffle=True, generator=seeded())))
    cut = [fn.tree.map(lambda leaf, chosen=chosen: leaf[chosen], batch) for chosen in order.split(4)]
    assert same_bits(loaded, [step.params for step in fn.train(fn.explicit(objective), fn.adam(0.1), params, cut)])


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # where another test imported JAX, which no worker uses
def test_a_loader_may_have_workers_and_be_used_again():
    objective, params, batch, _ = scene("a pair")
    loader = DataLoader(TensorDataset(*batch), batch_size=4, num_workers=1)
    step_fn, optimizer = fn.explicit(objective), fn.sgd(0.1)
    for _ in range(2):
        assert len(list(fn.train(step_fn, optimizer, params, loader))) == 2


DICT = {"x": X, "t": CLASSES}


def test_accuracy_takes_the_same_keys():
    params = MLP.init(seeded())
    assert torch.equal(fn.accuracy(MLP, params, DICT, "x", "t"), fn.accuracy(MLP, params, (X, CLASSES)))
    with pytest.raises(fn.InputError, match="^batch: got a dict of 'x', 't', needs a dict or a tuple with the part 'label'"):
        fn.accuracy(MLP, params, DICT, "x", "label")


OF_DICT, OF_PAIR = fn.supervised(MLP, ENTROPY, "x", "t"), fn.supervised(MLP, ENTROPY)

# name: (objective, batch, the place, what was found, what is needed)
REFUSED = {
    "a dict for a pair": (OF_PAIR, DICT, "batch", "a dict", "or their keys"),
    "three parts for a pair": (OF_PAIR, (X, CLASSES, WEIGHTS), "batch", "a tuple", "a pair (inputs, targets)"),
    "a pair for a dict": (OF_DICT, (X, CLASSES), "batch", "a tuple", "the part 'x'"),
    "a tensor for a dict": (OF_DICT, X, "batch", ", 4) of float64", "a dict or a tuple with the part 'x'"),
    "another key": (OF_DICT, {"x": X, "label": CLASSES}, "batch", "a dict of 'x', 'label'", "the part 't'"),
    "too few parts": (fn.supervised(MLP, ENTROPY, 0, 2), (X, CLASSES), "batch", "a tuple", "the part 2"),
    "a slice of a tensor": (fn.supervised(MLP, ENTROPY, 1, 0), X, "batch", ", 4) of float64", "the part 1"),
    "a name short": (OF_DICT, DICT | {"name": list("abcde")}, "batch['name']", "a list of 5", "each of the 6 samples"),
    "numbers for labels": (OF_DICT, DICT | {"t": [0, 1, 2, 0, 1, 2]}, "targets", "a list", "class labels"),
    "a number for labels": (OF_DICT, DICT | {"t": 1}, "targets", "1", "class labels"),
    "words for inputs": (OF_DICT, DICT | {"x": list("abcdef")}, "inputs of params[0]", "a list", "a floating tensor"),
    "a word alone": (OF_DICT, {"x": "a word"}, "batch['x']", "'a word'", "a tensor with at least one sample"),
    "a number for the batch": (OF_DICT, 1.5, "batch", "1.5", "a tensor with at least one sample"),
    "None": (OF_DICT, DICT | {"mask": None}, "batch['mask']", "None", "or a string or a number"),
    "an array": (OF_DICT, DICT | {"u": X.numpy()}, "batch['u']", "a ndarray", "or a string or a number"),
    "a set": (OF_DICT, DICT | {"u": {1, 2}}, "batch['u']", "a set", "or a string or a number"),
    "a mask short": (OF_DICT, DICT | {"u": MASK[1:]}, "batch['u']", "(5, 5)", "the 6 samples"),
    "the loader itself": (OF_DICT, DataLoader(TensorDataset(X), 2), "batch", "a DataLoader", "a tensor"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_batch_of_it_is_refused_by_name(name):
    objective, batch, *message = REFUSED[name]
    for step_fn in (fn.explicit(objective), fn.func_grad(objective), fn.finite_difference(objective)):
        for call in (step_fn, fn.per_sample(step_fn), fn.per_sample_norms(step_fn)):
            with pytest.raises(fn.InputError) as caught:
                call(MLP.init(seeded()), batch)
            assert says(caught.value, *message)


def test_a_compiled_step_takes_a_dict_and_a_sum():
    objective, params, batch, _ = scene("a dict to a function")
    step_fn = fn.func_grad(fn.regularised(objective, fn.l2(0.1)))
    steps = [next(fn.train(step_fn, way(fn.sgd(0.1)), params, [batch])) for way in (fn.descend, fn.compiled)]
    assert_close(*((step.params, step.value) for step in steps), 1e-13)
