"""Kills `fit` at random moments, starts it again, and compares what it ends with: python tests/killing.py KILLS FOLDER.

One process imports the library and forks the runs, so that a life takes milliseconds. Prints a line for each case.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import funcnn as fn

LAYER = fn.mlp((3, 4, 2), fn.tanh)
OBJECTIVE = fn.supervised(LAYER, fn.softmax_cross_entropy())
PARAMS = LAYER.init(torch.Generator().manual_seed(0), dtype=torch.float64)
INPUTS = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
DATA = INPUTS, (INPUTS.sum(1) > 0).long()
EPOCHS, EXPLICIT = 30, fn.explicit(OBJECTIVE)
COMPILED = fn.compiled(fn.adam(0.01))  # compiled once, before the forks


def noisy(generator):
    """A gradient with noise, which draws from the generator that also draws the order."""

    def step_fn(params, batch):
        value, grads = EXPLICIT(params, batch)
        return value, fn.tree.map(lambda g: g + 0.01 * torch.randn(g.shape, generator=generator, dtype=g.dtype), grads)

    return step_fn


def exactly(generator):
    """The gradient itself."""
    return EXPLICIT


# name: (optimizer, the step function of a generator)
CASES = {
    "adam": (lambda: fn.adam(0.01), exactly),
    "momentum, noise": (lambda: fn.momentum(0.1), noisy),
    "nesterov": (lambda: fn.nesterov(0.1), exactly),
    "a schedule, a chain": (lambda: fn.chain(fn.clip_by_norm(1.0), fn.adamw(fn.cosine(0.1, steps=100))), exactly),
    "bfgs": (fn.bfgs, exactly),
    "line_search": (fn.line_search, exactly),
    "spsa": (lambda: fn.adam(0.01), lambda generator: fn.spsa(OBJECTIVE, generator, samples=3)),
    "compiled": (lambda: COMPILED, exactly),
}


def fitted(name, path, epochs=EPOCHS):
    """One call of `fit`, as a script would make it."""
    make, step_fn = CASES[name]
    generator = torch.Generator().manual_seed(3)
    return fn.fit(
        step_fn(generator),
        make(),
        PARAMS,
        DATA,
        epochs=epochs,
        batch_size=6,
        generator=generator,
        evaluate=lambda params: fn.accuracy(LAYER, params, DATA),
        checkpoint=path,
        checkpoint_every=1,
    )


def content(fit):
    """Every bit of a Fit."""
    return [leaf.numpy().tobytes() if isinstance(leaf, torch.Tensor) else leaf for leaf in fn.tree.leaves(fit)]


def lives(name, path, kills, moments):
    """Runs until one ends by itself, all but it killed; (kills, those while a file was written)."""
    came, writing = 0, 0
    while True:
        child = os.fork()
        if not child:
            fitted(name, path)
            os._exit(0)
        if came < kills:
            time.sleep(moments.uniform(0, 0.06))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return came, writing, status
        came += 1
        writing += path.with_name(f".{path.name}.partial").exists()


def main(kills, folder):
    """Every case in turns until there were enough kills; exits with 1 where a run ends otherwise than undisturbed."""
    torch.set_num_threads(1)
    moments, total, failed = random.Random(0), 0, 0
    expected = {name: content(fitted(name, folder / f"{index}")) for index, name in enumerate(CASES)}
    number = 0
    while total < kills or number < len(CASES):
        name = list(CASES)[number % len(CASES)]
        path = folder / f"{name}{number}"
        came, writing, status = lives(name, path, 5, moments)
        same = not status and content(fitted(name, path)) == expected[name]
        failed += came if not same else 0
        total, number = total + came, number + 1
        print(f"{name}: {came} kills, {writing} while writing, {'the same bits' if same else 'other bits'}", flush=True)
    print(f"{total - failed} of {total} kills resumed bit-exactly")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2])))
