import threading

import numpy as np
import pytest
import torch
from helpers import classifier, normal, same_bits, seeded
from hypothesis import given
from hypothesis import strategies as st

import funcnn as fn


def mean_of(w, x):
    return (w - x).square().mean(), 2 * (w - x).mean(0)


def run(data=None, epochs=2, batch_size=4, seed=0, **options):
    data = normal(10, 3) if data is None else data
    return fn.fit(
        mean_of, fn.sgd(0.1), torch.zeros(3), data, epochs=epochs, batch_size=batch_size, generator=seeded(seed), **options
    )


@given(count=st.integers(1, 40), size=st.integers(1, 50), seed=st.integers(0, 10**6))
def test_an_epoch_shows_every_sample_once_and_its_last_batch_is_the_rest(count, size, seed):
    data = (torch.arange(count), 10 * torch.arange(count)[:, None])
    batches = list(fn.minibatches(data, size, generator=seeded(seed)))
    seen = torch.cat([samples for samples, _ in batches])
    assert sorted(seen.tolist()) == list(range(count))
    assert all(torch.equal(targets, 10 * samples[:, None]) for samples, targets in batches)
    assert [len(samples) for samples, _ in batches[:-1]] == [size] * (len(batches) - 1)
    assert len(batches[-1][0]) == (count % size or size)


def test_the_order_comes_from_the_generator_and_from_nothing_else():
    orders = [torch.cat(list(fn.minibatches(torch.arange(50), 7, generator=seeded(seed)))) for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])


def test_every_epoch_has_an_order_of_its_own():
    seen = []

    def spy(w, x):
        seen.extend(x[:, 0].tolist())
        return mean_of(w, x)

    data = torch.arange(20.0)[:, None].expand(20, 3)
    fn.fit(spy, fn.sgd(0.1), torch.zeros(3), data, epochs=2, batch_size=6, generator=seeded())
    assert sorted(seen[:20]) == sorted(seen[20:]) == list(range(20)) and seen[:20] != seen[20:]


@pytest.mark.parametrize(("epochs", "batch_size", "steps"), [(1, 10, 1), (3, 4, 3), (2, 1, 10), (2, 100, 1), (2, 5, 2)])
def test_the_history_has_a_loss_per_step_and_an_end_per_epoch(epochs, batch_size, steps):
    history = run(epochs=epochs, batch_size=batch_size).history
    assert history.losses.shape == (epochs * steps,) and torch.isfinite(history.losses).all()
    assert history.epoch_ends == [steps * (epoch + 1) for epoch in range(epochs)]
    assert history.evaluations == {}


def test_fit_is_train_over_shuffled_epochs():
    objective, params, data = classifier(count=11)
    step_fn, generator = fn.explicit(objective), seeded(3)
    result = fn.fit(step_fn, fn.adam(0.01), params, data, epochs=2, batch_size=4, generator=seeded(3))
    batches = [batch for _ in range(2) for batch in fn.minibatches(data, 4, generator=generator)]
    steps = list(fn.train(step_fn, fn.adam(0.01), params, batches))
    assert same_bits((result.params, result.state), tuple(steps[-1][:2]))
    assert torch.equal(result.history.losses, torch.stack([step.value for step in steps]))


def test_the_same_seed_gives_the_same_fit():
    assert same_bits(run(seed=5), run(seed=5)) and not same_bits(run(seed=5), run(seed=6))


EVALUATIONS = {
    "a number": (lambda w: 3.5, {"evaluation": [3.5, 3.5]}),
    "a tensor": (lambda w: torch.tensor(2.0), {"evaluation": [2.0, 2.0]}),
    "numbers by name": (lambda w: {"a": 1.0, "b": torch.tensor(0.5)}, {"a": [1.0, 1.0], "b": [0.5, 0.5]}),
}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_the_evaluation_of_every_epoch_is_kept_by_name(name):
    evaluate, expected = EVALUATIONS[name]
    assert run(evaluate=evaluate).history.evaluations == expected


def test_the_evaluation_sees_the_parameters_at_the_end_of_its_epoch():
    seen = []
    result = run(evaluate=lambda w: seen.append(w.clone()) or 0.0)
    tried, first, second = seen
    assert torch.equal(tried, torch.zeros(3)) and torch.equal(second, result.params) and not torch.equal(first, second)


def test_an_epoch_is_an_item_of_an_iterable(as_users_run_it):
    assert run(epochs=iter("abc")).history.epoch_ends == run(epochs=3).history.epoch_ends
    assert same_bits(run(epochs=np.int64(2)), run(epochs=2))


def test_an_evaluation_must_have_the_same_names_after_every_epoch(as_users_run_it):
    names = iter(["a", "a", "b"])
    with pytest.raises(fn.InputError, match="the same names after every epoch"):
        run(evaluate=lambda w: {next(names): 1.0})


SAMPLES = torch.utils.data.TensorDataset(normal(10, 3))


# name: (changed arguments, the place that the error names)
REFUSED = {
    "no epoch": ({"epochs": 0}, "epochs"),
    "an iterable of no epoch": ({"epochs": []}, "epochs"),
    "a string of epochs": ({"epochs": "3"}, "epochs"),
    "no number of epochs": ({"epochs": None}, "epochs"),
    "true epochs": ({"epochs": True}, "epochs"),
    "more samples than a tensor has": ({"batch_size": 2**70}, "batch_size"),
    "no function to evaluate": ({"evaluate": 3}, "evaluate"),
    "a string for an evaluation": ({"evaluate": lambda w: "good"}, r"evaluate\(params\)"),
    "no number for an evaluation": ({"evaluate": lambda w: {"a": w}}, r"evaluate\(params\)"),
    "half an epoch": ({"epochs": 0.5}, "epochs"),
    "an empty minibatch": ({"batch_size": 0}, "batch_size"),
    "no samples": ({"data": torch.zeros(0, 3)}, "batch"),
    "leaves that disagree on N": ({"data": (torch.zeros(4, 3), torch.zeros(5))}, r"batch\[1\]"),
    "no data": ({"data": ()}, "data"),
    "no function to end by": ({"until": 3}, "until"),
    "checkpoints of no name": ({"checkpoint_every": 3}, "checkpoint_every"),
    "a checkpoint every 0 steps": ({"checkpoint": "file", "checkpoint_every": 0}, "checkpoint_every"),
    "patience without an evaluation": ({"until": fn.patience(1)}, r"patience\(name\)"),
    "the state of another": ({"state": fn.adam(0.1).init(torch.zeros(3))}, "state"),
    "a loader": ({"data": torch.utils.data.DataLoader(SAMPLES)}, "data"),
    "a data set of torch": ({"data": SAMPLES}, "data"),
    "a whole data set": ({"data": fn.data.split(normal(10, 3), normal(10), generator=seeded())}, "data"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_refused_before_the_first_step(name, as_users_run_it):
    changed, place = REFUSED[name]
    with pytest.raises(fn.InputError, match=f"^{place}: got .*needs"):
        run(**changed)


def test_a_seed_is_no_generator(as_users_run_it):
    with pytest.raises(fn.InputError, match="^generator: got 3, needs a torch.Generator"):
        fn.fit(mean_of, fn.sgd(0.1), torch.zeros(3), normal(4, 3), epochs=1, batch_size=2, generator=3)


def test_what_a_refusal_of_data_says_to_do_works(as_users_run_it):
    collated = torch.utils.data.default_collate([*SAMPLES])[0]
    assert same_bits(run(collated), run())


def test_the_evaluation_is_tried_before_the_first_step_and_leaves_no_trace(as_users_run_it):
    steps, generator = [], seeded()

    def spy(w, x):
        steps.append(w)
        return mean_of(w, x)

    with pytest.raises(ZeroDivisionError):
        fn.fit(
            spy,
            fn.sgd(0.1),
            torch.zeros(3),
            normal(4, 3),
            epochs=1,
            batch_size=2,
            generator=generator,
            evaluate=lambda w: 1 / 0,
        )
    assert not steps

    def draws(w):
        return torch.rand((), generator=generator)

    drawn = fn.fit(
        mean_of, fn.sgd(0.1), torch.zeros(3), normal(10, 3), epochs=1, batch_size=4, generator=generator, evaluate=draws
    )
    assert same_bits(drawn.params, run(epochs=1).params)


@pytest.mark.parametrize("optimizer", [fn.sgd(0.1), fn.momentum(0.1), fn.adam(0.1), fn.nesterov(0.1)])
def test_a_fit_goes_on_with_its_state_as_one_that_never_ended(optimizer):
    def part(epochs, params, generator, state=None):
        return fn.fit(
            mean_of, optimizer, params, normal(10, 3), epochs=epochs, batch_size=4, generator=generator, state=state
        )

    generator = seeded()
    first = part(2, torch.zeros(3), generator)
    second, whole = part(3, first.params, generator, first.state), part(5, torch.zeros(3), seeded())
    assert same_bits(second[:2], whole[:2])
    assert torch.equal(torch.cat([first.history.losses, second.history.losses]), whole.history.losses)


def after(calls, error, number=1.0):
    """A function that returns a number so often, and then raises."""
    left = iter([number] * calls)

    def function(*arguments):
        for number in left:
            return number
        raise error

    return function


INTERRUPTIONS = {
    "Ctrl-C in a step": (lambda: {"step_fn": stopping(after(4, KeyboardInterrupt()))}, KeyboardInterrupt, 4),
    "an error in a step": (lambda: {"step_fn": stopping(after(2, ZeroDivisionError()))}, ZeroDivisionError, 2),
    "at the first step": (lambda: {"step_fn": stopping(after(0, KeyboardInterrupt()))}, KeyboardInterrupt, 0),
    "in evaluate": (lambda: {"evaluate": after(2, OSError("no disk"))}, OSError, 6),
    "in until": (lambda: {"until": after(1, OSError("no disk"), False)}, OSError, 6),
    "in epochs": (lambda: {"epochs": (1 / (2 - k) for k in range(5))}, ZeroDivisionError, 6),
}


def stopping(function):
    def step_fn(w, x):
        function()
        return mean_of(w, x)

    return step_fn


@pytest.mark.parametrize("name", INTERRUPTIONS)
def test_what_was_trained_is_in_reach_whatever_ends_it(name, as_users_run_it):
    make, kind, count = INTERRUPTIONS[name]
    options = {"step_fn": mean_of, "epochs": 3, **make()}
    step_fn = options.pop("step_fn")
    with pytest.raises(kind) as caught:
        fn.fit(step_fn, fn.adam(0.1), torch.zeros(3), normal(10, 3), batch_size=4, generator=seeded(), **options)
    trained = caught.value.trained
    assert isinstance(trained, fn.Fit) and len(trained.history.losses) == count
    generator = seeded()
    batches = [batch for _ in range(3) for batch in fn.minibatches(normal(10, 3), 4, generator=generator)][:count]
    steps = list(fn.train(mean_of, fn.adam(0.1), torch.zeros(3), batches))
    if steps:
        assert same_bits((trained.params, trained.state), tuple(steps[-1][:2]))


# name: (evaluations by the epoch, options of patience, the epochs that are trained)
PATIENCE = {
    "better and better": ([5, 4, 3, 2, 1], {}, 5),
    "never better": ([1, 2, 3, 4, 5], {}, 3),
    "as good is no better": ([1, 1, 1, 1, 1], {}, 3),
    "better in time": ([3, 4, 2, 3, 3], {}, 5),
    "upwards": ([1, 2, 1, 2, 3], {"best": max}, 4),
    "no numbers": ([float("nan")] * 5, {}, 2),
    "a number after none": ([float("nan"), 2, 3, 3, 1], {}, 4),
    "by another name": ([1, 2, 3, 4, 5], {"name": "error"}, 3),
}


@pytest.mark.parametrize("name", PATIENCE)
def test_a_run_ends_when_its_best_evaluation_is_too_old(name):
    numbers, options, expected = PATIENCE[name]
    left = iter([0.0, *numbers])

    def evaluate(w):
        return {options.get("name", "evaluation"): next(left)}

    assert len(run(epochs=5, evaluate=evaluate, until=fn.patience(2, **options)).history.epoch_ends) == expected


@pytest.mark.parametrize("optimizer", ["adam", "bfgs", "line_search"])
def test_two_trainings_in_two_threads_give_the_bits_that_each_gives_alone(optimizer):
    def train(seed, results):
        objective, params, data = classifier((3, 4 + seed, 2), count=20, seed=seed)
        made = {"adam": lambda: fn.adam(0.01), "bfgs": fn.bfgs, "line_search": fn.line_search}[optimizer]()
        provider = [fn.explicit, fn.func_grad, fn.autograd, fn.finite_difference][seed]
        options = {"epochs": 3, "batch_size": 6, "generator": seeded(seed)}
        results[seed] = fn.fit(provider(objective), made, params, data, **options)

    alone, together = {}, {}
    for seed in range(4):
        train(seed, alone)
    threads = [threading.Thread(target=train, args=(seed, together)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same_bits(alone[seed], together[seed]) for seed in range(4))
