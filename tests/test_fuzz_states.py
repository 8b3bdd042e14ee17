"""Calls in any order, hostile ones among them: what they give stays right, and nothing that they were given changes."""

import random
import warnings

import pytest
import torch
from helpers import assert_close, normal, seeded
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

import funcnn as fn
from experiments.fuzz.hostile import spoilers
from experiments.fuzz.snapshot import bits, world

LAYER = fn.mlp([4, 3, 2], fn.tanh)
OBJECTIVE = fn.supervised(LAYER, fn.half_squared_error())
PROVIDERS = {name: fn.PROVIDERS[name] for name in ("explicit", "func_grad", "autograd", "complex_step")}
# The optimizer, and its equation: (w, state, g) -> (w, state) of one leaf
OPTIMIZERS = {
    "sgd": (fn.sgd(0.1), lambda w, v, g: (w - 0.1 * g, v)),
    "momentum": (fn.momentum(0.1, 0.5), lambda w, v, g: (w + 0.5 * v - 0.1 * g, 0.5 * v - 0.1 * g)),
}
seeds = st.integers(0, 2**32)


def gradient(params, batch):
    """Written out."""
    (first, _, last), (x, t) = params, batch
    h = (x @ first["w"] + first["b"]).tanh()
    error = (h @ last["w"] + last["b"] - t) / len(x)
    back = error @ last["w"].T * (1 - h * h)
    return {"w": x.T @ back, "b": back.sum(0)}, (), {"w": h.T @ error, "b": error.sum(0)}


class Calls(RuleBasedStateMachine):
    """A pool of parameters and of batches, and trainings that go on from any of them."""

    params, batches = Bundle("params"), Bundle("batches")

    def __init__(self):
        super().__init__()
        self.kept, self.around = [], world()

    def keep(self, tree):
        self.kept.append((tree, bits(tree)))
        return tree

    @initialize(target=params)
    def first(self):
        return self.keep(LAYER.init(seeded()))

    @initialize(target=batches)
    def data(self):
        return self.keep((normal(6, 4), normal(6, 2, seed=1)))

    @rule(target=params, seed=seeds)
    def drawn(self, seed):
        return self.keep(LAYER.init(seeded(seed)))

    @rule(target=batches, batch=batches, seed=seeds)
    def shuffled(self, batch, seed):
        return self.keep(next(fn.minibatches(batch, 3, generator=seeded(seed))))

    @rule(target=params, w=params, v=params)
    def added(self, w, v):
        point = fn.tree.add_scaled(w, -0.5, v)
        assert all(torch.equal(p, a - 0.5 * b) for p, a, b in zip(*map(fn.tree.leaves, (point, w, v)), strict=True))
        return self.keep(point)

    @rule(target=params, w=params, batch=batches, provider=st.sampled_from(sorted(PROVIDERS)))
    def differentiated(self, w, batch, provider):
        _, grads = PROVIDERS[provider](OBJECTIVE)(w, batch)
        assert_close(grads, gradient(w, batch), 1e-10)
        return self.keep(grads)

    @rule(target=params, w=params, batch=batches, name=st.sampled_from(sorted(OPTIMIZERS)), stop=st.integers(1, 3))
    def trained(self, w, batch, name, stop):
        optimizer, equation = OPTIMIZERS[name]
        step_fn = fn.explicit(OBJECTIVE)
        *_, half = fn.train(step_fn, optimizer, w, [batch] * stop)
        *_, last = fn.train(step_fn, optimizer, half.params, [batch] * 2, state=half.state)
        point, v = w, fn.tree.zeros_like(w)
        for _ in range(stop + 2):
            grads = gradient(point, batch)
            point, v = (fn.tree.map(lambda *leaf, k=k: equation(*leaf)[k], point, v, grads) for k in (0, 1))
        assert_close(last.params, point, 1e-10)
        return self.keep(last.params)

    @rule(w=params, batch=batches, seed=seeds, index=st.integers(0, 3))
    def refused(self, w, batch, seed, index):
        draw = random.Random(seed)
        leaves, unflatten = fn.tree.flatten(w)
        table = spoilers(leaves[index])
        hostile = (
            "sparse",
            "of another size",
            "on meta",
            "None",
            "a word",
            "in a tuple",
            "without entries",
            "with an axis more",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that these layouts are no finished work of torch's
            leaves[index] = table[draw.choice(hostile)].make(leaves[index], draw)
        for call in (
            fn.explicit(OBJECTIVE),
            lambda w, batch: next(fn.train(fn.autograd(OBJECTIVE), fn.sgd(0.1), w, [batch])),
        ):
            with pytest.raises(fn.InputError):
                call(unflatten(leaves), batch)

    @invariant()
    def nothing_is_changed(self):
        assert all(bits(tree) == before for tree, before in self.kept)
        assert world() == self.around


Calls.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


@pytest.mark.usefixtures("as_users_run_it")
class TestCalls(Calls.TestCase):
    """Hypothesis' own."""
