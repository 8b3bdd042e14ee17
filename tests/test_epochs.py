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
    assert len(seen) == 2 and torch.equal(seen[-1], result.params) and not torch.equal(*seen)


def test_an_epoch_is_an_item_of_an_iterable(as_users_run_it):
    assert run(epochs=iter("abc")).history.epoch_ends == run(epochs=3).history.epoch_ends
    assert same_bits(run(epochs=np.int64(2)), run(epochs=2))


def test_an_evaluation_must_have_the_same_names_after_every_epoch(as_users_run_it):
    names = iter(["a", "b"])
    with pytest.raises(fn.InputError, match="the same names after every epoch"):
        run(evaluate=lambda w: {next(names): 1.0})


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
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_refused_before_the_first_step(name, as_users_run_it):
    changed, place = REFUSED[name]
    with pytest.raises(fn.InputError, match=f"^{place}: got .*needs"):
        run(**changed)


def test_a_seed_is_no_generator(as_users_run_it):
    with pytest.raises(fn.InputError, match="^generator: got 3, needs a torch.Generator"):
        fn.fit(mean_of, fn.sgd(0.1), torch.zeros(3), normal(4, 3), epochs=1, batch_size=2, generator=3)
