import math

import pytest
import torch
from helpers import normal, quadratic, same_bits

import funcnn as fn
from experiments.core.curves import draw_runs, draw_sweeps, table_of_runs
from experiments.core.options import BadOption, Training
from experiments.core.quadratics import follow, rate, tuned
from experiments.core.training import FAR, Run, classification, descent_run, diverged_at, training_run
from funcnn.plots import COLORS, figure

CURVATURES, START, DATA = torch.tensor([1.0, 10.0]), torch.tensor([10.0, 1.0]), torch.zeros(8)
BOWL = quadratic(CURVATURES)


def measure(w):
    return {"loss": BOWL.value(w, None).item(), "accuracy": w[0].item()}


def train(lr, epochs=5):
    schedule = {"epochs": epochs, "batch_size": 2, "generator": torch.Generator().manual_seed(0)}
    return training_run(fn.func_grad(BOWL), fn.sgd(lr), START, DATA, measure, **schedule)


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        ([2.0, 1.0, 0.5], None),
        ([2.0, FAR * 2.0], None),
        ([2.0, 1.0, FAR * 2.1, 1.0], 2),
        ([2.0, math.inf], 1),
        ([2.0, 3.0, math.nan, 1.0], 2),
        ([math.nan], 0),
        ([0.0, 0.0], None),
    ],
)
def test_divergence_is_told_by_the_first_loss_that_is_far_above_the_first_or_no_number(losses, step):
    assert diverged_at(losses) == step


def test_a_run_is_measured_at_the_start_and_after_each_epoch():
    run = train(0.05)
    shrunk = 1 - 0.05 * CURVATURES  # by one step; four steps are an epoch
    expected = [measure(START * shrunk ** (4 * epoch)) for epoch in range(6)]
    assert run.diverged is None and run.steps_per_epoch == 4
    for name in ("loss", "accuracy"):
        assert run.curves[name] == pytest.approx([numbers[name] for numbers in expected])
    assert run.outcome() == f"{expected[-1]['loss']:.3g}"


def test_a_diverging_run_says_at_which_step_and_keeps_only_what_was_before():
    # The steep axis grows by 1.5 a step: 5 * 2.25^t = 100 * 55 at t = 8.6, in the third epoch.
    run = train(0.25)
    first = next(t for t in range(99) if BOWL.value(START * (1 - 0.25 * CURVATURES) ** t, None) > FAR * 55)
    assert run.diverged == first == 9 and run.outcome() == run.outcome("accuracy") == "diverged at step 9"
    assert len(run.curves["loss"]) == 3 and all(map(math.isfinite, run.curves["loss"]))


def test_what_the_last_step_of_all_did_is_seen():
    run = train(0.25, epochs=1)
    assert run.diverged is None
    lost = training_run(
        fn.func_grad(BOWL),
        fn.sgd(1e9),
        START,
        DATA,
        measure,
        epochs=1,
        batch_size=8,
        generator=torch.Generator().manual_seed(0),
    )
    assert lost.diverged == 1 and lost.curves["loss"] == [55.0]


def test_descent_counts_the_evaluations_of_a_line_search():
    calls = []

    def counted(w, batch):
        calls.append(w)
        return BOWL.value(w, batch)

    objective = fn.Objective(counted, lambda w, batch: (counted(w, batch), CURVATURES * w))
    for optimizer in (fn.line_search(), fn.exact_line_search(), fn.sgd(0.1)):
        calls.clear()
        run = descent_run(objective, optimizer, START, DATA, steps=4)
        assert run.last("evaluations") == len(calls) - len(run.curves["loss"])  # which are measured on top
        assert run.curves["loss"][0] == 55.0 and len(run.curves["loss"]) == 5


@pytest.mark.parametrize("k", [10, 100, 1000])
@pytest.mark.parametrize("name", ["plain", "momentum", "Nesterov"])
def test_the_constants_of_the_theory_have_the_exact_rate_as_their_spectral_radius(k, name):
    method, exact = tuned(k)[name]
    radii = []
    for curvature in torch.linspace(1, k, 7):
        optimizer = fn.descend(method) if isinstance(method, fn.Transformation) else method
        at = fn.At(fn.StepFn(lambda w, batch: w, lambda w, batch, a=curvature: (w, a * w)), ())

        def step(both, optimizer=optimizer, at=at):
            state = both[1:] if name != "plain" else ()
            result = optimizer.step(at, both[:1], state)
            return torch.cat([result.params, result.state if name != "plain" else both[1:] * 0])

        columns = [step(column) for column in torch.eye(2)]
        radii.append(torch.linalg.eigvals(torch.stack(columns)).abs().max().item())
    assert max(radii) == pytest.approx(exact, abs=1e-7)  # the square root of the rounding: it is a double eigenvalue


def test_the_rate_is_read_off_with_a_polynomial_in_front_and_without():
    for power in (0, 1):
        distances = [7 * max(t, 1) ** power * 0.93**t for t in range(500)]
        assert rate(distances) == pytest.approx(0.93, abs=1e-9)
    assert rate([0.5**t for t in range(3000)]) == pytest.approx(0.5, abs=1e-9)  # down to 0


def test_a_path_is_followed_point_by_point():
    run = follow(fn.sgd(0.05), CURVATURES, START, steps=3)
    for t in range(4):
        w = START * (1 - 0.05 * CURVATURES) ** t
        assert [run.curves["w0"][t], run.curves["w1"][t]] == pytest.approx(w.tolist())
        assert run.curves["distance"][t] == pytest.approx(w.abs().max().item())


def test_every_run_of_a_schedule_sees_the_same_batches():
    options = Training(epochs=2, batch_size=3, seed=5)
    first, second = (
        list(fn.minibatches(DATA + torch.arange(8), 3, generator=options.schedule()["generator"])) for _ in "ab"
    )
    assert same_bits(first, second)
    assert {name: options.schedule()[name] for name in ("epochs", "batch_size")} == {"epochs": 2, "batch_size": 3}


def test_a_classifier_is_judged_by_its_training_loss_and_its_test_accuracy():
    layer, loss = fn.dense(3, 2), fn.softmax_cross_entropy()
    params = layer.init(torch.Generator().manual_seed(0))
    data = fn.data.Dataset(
        (normal(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])), (normal(4, 3, seed=1), torch.tensor([0, 0, 1, 1]))
    )
    judged = classification(layer, loss, data)(params)
    assert judged["loss"] == loss.forward(fn.apply(layer, params, data.train[0]), data.train[1])[0].item()
    assert judged["accuracy"] == fn.accuracy(layer, params, data.test).item()


SETTLED, LOST = Run({"loss": [2.0, 1.0], "accuracy": [0.1, 0.9]}, None, 4, ()), Run({"loss": [2.0]}, 3, 4, ())


def marks(axis):
    return [(line.get_color(), *line.get_xydata()[-1]) for line in axis.lines if line.get_marker() in ("x", "+")]


def test_the_picture_of_runs_has_a_cross_where_one_diverged_and_says_at_which_step():
    _, (axis,) = figure(1)
    draw_runs(axis, {"a": SETTLED, "b": LOST})
    top = axis.get_ylim()[1]
    assert marks(axis) == [(COLORS[1], 0.75, top)]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "b: diverged at step 3"]


def test_the_picture_of_a_sweep_has_crosses_in_place_of_losses_that_are_none():
    _, (axis,) = figure(1)
    draw_sweeps(axis, {"a": {0.1: SETTLED, 1.0: LOST}})
    (curve,) = (line for line in axis.lines if line.get_marker() == ".")
    assert curve.get_xydata()[0].tolist() == [0.1, 1.0] and math.isnan(curve.get_xydata()[1, 1])
    assert marks(axis) == [(COLORS[0], 1.0, axis.get_ylim()[1])]


def test_the_table_of_runs_has_no_number_where_there_is_none():
    lost = LOST._replace(curves={"loss": [2.0], "accuracy": [0.1]})
    table = table_of_runs("caption", {"a": SETTLED, "b": lost})
    assert table.rows == [["a", "1", "0.900"], ["b", "diverged at step 3", "diverged at step 3"]]


@pytest.mark.parametrize("rates", [(), (1.0, 0.0), (1.0, -1.0), (math.nan,)])
def test_every_number_of_a_list_of_options_is_checked(rates):
    from experiments.scaled_loss import ScaledLoss

    with pytest.raises(BadOption, match="scales"):
        ScaledLoss(scales=rates)
