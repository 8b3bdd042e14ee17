"""A run with a checkpoint goes on where it was left, bit for bit, whatever ended it; another call is refused by name."""

import os
import subprocess
import sys
from pathlib import Path

import killing
import pytest
import torch
from helpers import same_bits, seeded
from killing import CASES, DATA, EXPLICIT, LAYER, PARAMS, fitted

import funcnn as fn

pytestmark = pytest.mark.usefixtures("as_users_run_it")
KILLS = int(os.environ.get("FUNCNN_KILLS", "6"))  # 50 take half a minute on a machine that does nothing else


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch):
    """A disk that others use takes up to a second to sync, of which only a crash of the whole machine would tell."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_a_run_that_is_killed_ends_with_the_bits_of_one_that_was_not(tmp_path):
    root = Path(fn.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, killing.__file__, str(KILLS), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


class Stop(Exception):
    pass


def stopping(step_fn, at):
    """A step function that raises at its call of that number."""
    left = iter(range(at))

    def stopped(params, batch):
        if next(left, None) is None:
            raise Stop
        return step_fn(params, batch)

    return stopped


def call(path=None, **changes):
    """A call of `fit` as a script would make it: everything anew."""
    generator = seeded(changes.pop("seed", 3))
    options = {"step_fn": EXPLICIT, "optimizer_fn": fn.adam(0.01), "params": PARAMS, "data": DATA, "epochs": 4}
    options |= {"batch_size": 6, "checkpoint": path, "evaluate": lambda params: fn.accuracy(LAYER, params, DATA)}
    options |= changes
    make = options.pop("make", None)
    if make:
        options["step_fn"] = make(generator)
    return fn.fit(generator=generator, **options), generator


@pytest.mark.parametrize("every", [None, 1, 3])
@pytest.mark.parametrize("at", [0, 1, 3, 4, 5, 9, 15])
def test_wherever_it_is_stopped_it_goes_on(at, every, tmp_path):
    expected, there = call()
    with pytest.raises(Stop):
        call(tmp_path / "run", make=lambda generator: stopping(EXPLICIT, at), checkpoint_every=every)
    kept = fn.load(tmp_path / "run")["trained"].history.losses
    assert len(kept) == (at // (every or 4)) * (every or 4) or every == 3
    # The same function again, as far as its name says: it is not asked for a step that was taken already.
    result, generator = call(
        tmp_path / "run", make=lambda generator: stopping(EXPLICIT, 16 - len(kept)), checkpoint_every=every
    )
    assert same_bits(result, expected) and torch.equal(generator.get_state(), there.get_state())


@pytest.mark.parametrize("name", CASES)
def test_every_optimizer_goes_on_with_its_own_state(name, tmp_path):
    fitted(name, tmp_path / "part", epochs=2)
    whole = fitted(name, tmp_path / "whole", epochs=4)
    assert same_bits(fitted(name, tmp_path / "part", epochs=4), whole)


def test_a_finished_run_returns_at_once(tmp_path):
    expected, there = call(tmp_path / "run", make=lambda generator: stopping(EXPLICIT, 16))
    result, generator = call(tmp_path / "run", make=lambda generator: stopping(EXPLICIT, 0))
    assert same_bits(result, expected) and torch.equal(generator.get_state(), there.get_state())


def test_a_run_that_was_ended_is_ended(tmp_path):
    seen = []

    def until(history):
        seen.append(len(history.epoch_ends))
        return len(history.epoch_ends) >= 2

    first, _ = call(tmp_path / "run", until=until)
    again, _ = call(tmp_path / "run", until=until)
    assert same_bits(first, again) and seen == [1, 2, 2]
    longer, _ = call(tmp_path / "run")
    assert same_bits(longer, call()[0])


def test_progress_over_epochs_goes_on_too(tmp_path):
    call(tmp_path / "run", epochs=2)
    seen = []
    result, _ = call(tmp_path / "run", epochs=(seen.append(k) for k in range(4)))
    assert same_bits(result, call()[0]) and seen == [0, 1, 2, 3]


DIFFERENT = {
    "the parameters": (lambda: {"params": LAYER.init(seeded(1), dtype=torch.float64)}, "params"),
    "the data": (lambda: {"data": (DATA[0] + 1, DATA[1])}, "data"),
    "the size of the batches": (lambda: {"batch_size": 5}, "batch_size"),
    "the seed": (lambda: {"seed": 4}, "generator.initial_seed()"),
    "what is evaluated": (lambda: {"evaluate": lambda params: {"error": 0.5}}, "evaluate"),
    "nothing is evaluated": (lambda: {"evaluate": None}, "evaluate"),
    "the provider": (lambda: {"step_fn": fn.func_grad(killing.OBJECTIVE)}, "step_fn."),
    "the loss": (
        lambda: {"step_fn": fn.explicit(fn.supervised(LAYER, fn.softmax_cross_entropy(clip=0.1)))},
        "step_fn.",
    ),
    "a function of one's own": (lambda: {"step_fn": lambda params, batch: EXPLICIT(params, batch)}, "step_fn"),
    "the optimizer": (lambda: {"optimizer_fn": fn.momentum(0.01)}, "optimizer_fn."),
    "its step": (lambda: {"optimizer_fn": fn.adam(0.02)}, "optimizer_fn."),
    "its moments": (lambda: {"optimizer_fn": fn.adam(0.01, betas=(0.8, 0.999))}, "optimizer_fn."),
    "a schedule": (lambda: {"optimizer_fn": fn.adam(fn.cosine(0.01, steps=10))}, "optimizer_fn."),
    "compiled": (lambda: {"optimizer_fn": fn.compiled(fn.adam(0.01))}, "optimizer_fn."),
    "the state": (lambda: {"state": fn.adam(0.01).init(PARAMS)}, "state"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_call_that_differs_is_refused_by_name(name, tmp_path):
    make, place = DIFFERENT[name]
    call(tmp_path / "run", epochs=1)
    before = (tmp_path / "run").read_bytes()
    with pytest.raises(fn.InputError) as caught:
        call(tmp_path / "run", **make())
    assert caught.value.place.startswith(place) and "as in the run that" in str(caught.value)
    assert (tmp_path / "run").read_bytes() == before


def test_a_file_of_something_else_is_left_alone(tmp_path):
    fn.save(tmp_path / "run", PARAMS)
    with pytest.raises(fn.InputError, match="^checkpoint: got .*, which holds something else"):
        call(tmp_path / "run")
    (tmp_path / "run").write_bytes(b"my notes, which are dear to me")
    with pytest.raises(fn.InputError, match="no safetensors file"):
        call(tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == b"my notes, which are dear to me"


def test_a_folder_that_is_not_there_is_found_before_the_first_step(tmp_path):
    with pytest.raises(FileNotFoundError):
        call(tmp_path / "nowhere" / "run", make=lambda generator: stopping(EXPLICIT, 0))


def test_a_loop_of_ones_own_goes_on_by_the_same_means(tmp_path):
    path, expected = tmp_path / "own", call()[0]

    def loop(stop):
        start = {"params": PARAMS, "state": None, "generator": seeded(3), "epoch": 0}
        at = fn.load(path) if path.exists() else start
        for epoch in range(at["epoch"], 4):
            batches = fn.minibatches(DATA, 6, generator=at["generator"])
            for step in fn.train(EXPLICIT, fn.adam(0.01), at["params"], batches, state=at["state"]):
                if stop is not None and step.value == expected.history.losses[stop]:
                    raise Stop
            at = {"params": step.params, "state": step.state, "generator": at["generator"], "epoch": epoch + 1}
            fn.save(path, at)
        return at

    for stop in (0, 3, 7, 11):
        with pytest.raises(Stop):
            loop(stop)
    assert same_bits(loop(None)["params"], expected.params)
