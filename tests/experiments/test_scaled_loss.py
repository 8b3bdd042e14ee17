from functools import cache

import pytest

from experiments.scaled_loss import ScaledLoss, run

ON_SCALED, WITH_RATE, ADAM = "sgd on S L", "sgd on L, S lr", "Adam on S L"
POWERS, DECADES, FAR = (0.25, 4.0), (0.1, 10.0), 1e4


@cache
def result():
    return run(ScaledLoss(epochs=2, hidden=8, scales=(1e-7, *POWERS, *DECADES, FAR)))


def test_scaling_the_loss_is_scaling_the_rate_to_the_bit_for_powers_of_two_and_to_rounding_for_others():
    differences, curves = result().numbers["differences"], result().numbers["curves"]
    assert all(differences[scale] == 0 for scale in POWERS)
    assert all(differences[scale] < 1e-14 for scale in DECADES)
    for scale in POWERS:
        assert curves[ON_SCALED][scale] == curves[WITH_RATE][scale]
    for scale in DECADES:
        assert curves[ON_SCALED][scale]["loss"] == pytest.approx(curves[WITH_RATE][scale]["loss"], rel=1e-12)


def test_sgd_depends_on_the_scale_and_adam_nearly_not_unless_eps_does():
    ends = {
        name: {scale: run["loss"][-1] for scale, run in runs.items()} for name, runs in result().numbers["curves"].items()
    }
    assert ends[ON_SCALED][0.1] > 1.5 * ends[ON_SCALED][10.0]
    assert all(ends[ADAM][scale] == pytest.approx(ends[ADAM][4.0], rel=1e-4) for scale in (*POWERS, *DECADES, FAR))
    assert ends[ADAM][1e-7] > 1.2 * ends[ADAM][4.0]  # there S sqrt(v) is no longer large beside eps


def test_where_it_diverges_every_place_says_so():
    numbers, step = result().numbers, result().numbers["diverged"][ON_SCALED][FAR]
    assert step is not None and numbers["diverged"][WITH_RATE][FAR] == step and FAR not in numbers["differences"]
    assert result().tables[0].rows[-1][1] == f"diverged at step {step}"
    assert f"S = 10000 diverged at step {step}" in result().observations[1]
    drawing, _ = result().figures["convergence"]
    left, _, right = drawing.axes[:3]
    assert f"S = 10000: diverged at step {step}" in [text.get_text() for text in left.get_legend().get_texts()]
    crosses = [line for line in right.lines if line.get_marker() in ("x", "+")]
    assert [line.get_xdata().tolist() for line in crosses] == [[FAR], [FAR]]


def test_what_is_measured_is_the_loss_without_its_scale():
    starts = {curves["loss"][0] for runs in result().numbers["curves"].values() for curves in runs.values()}
    assert len(starts) == 1
