import pytest
import torch

import funcnn as fn
from experiments.bugs import checkers
from experiments.bugs.peers import missing
from experiments.bugs.subject import cotangents, opened, relative_error, true_error
from experiments.core.result import save
from experiments.wild import CASES, MISTAKES, Wild, acquitted, compare, presentation
from experiments.wild.case import plain, subject
from experiments.wild.trials import OURS, USUAL, Trial, answer, named, sentences, usual

AT_POINTS = [pytest.param(case, point, id=f"{case.name}, {name}") for case in CASES for name, point in case.points.items()]
USUALLY_MISSED = {"nnabla#690: gelu(x)", "chainer: Huber(x), entry by entry", "Liger-Kernel#1305: rms_norm(x), in place"}


@pytest.mark.parametrize(("case", "point"), AT_POINTS)
def test_the_right_rule_gives_the_gradient_of_autograd(case, point):
    forward, inputs = plain(case, point)
    taped = [leaf.requires_grad_() for leaf in inputs]
    y = forward(*taped)
    for dy in cotangents(y.detach()):
        expected = torch.autograd.grad(y, taped, dy, retain_graph=True)
        own = subject(case, point, case.right)
        value, pull = opened(own)[1](*own.inputs)
        assert torch.equal(value, y)
        assert all(relative_error(g, r) < 1e-12 for g, r in zip(pull(dy), expected, strict=True))


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case.name)
def test_the_wrong_rule_shows_at_an_ordinary_point_and_hides_at_the_author_s(case):
    errors = {
        name: true_error(subject(case, point, case.right), subject(case, point, case.wrong))
        for name, point in case.points.items()
    }
    assert errors["ordinary"] > 0.1
    assert errors.get("author's", 0) < 1e-12


def test_what_takes_sides_does_so_both_ways():
    points = {case.name: case.ordinary.inputs for case in MISTAKES}
    (a, b), (x,) = points["caffe#7100: contrastive loss of a - b"], points["mamba#574: softplus(x)^2, linear above 20"]
    a_, b_ = points["candle#534: max(a, b)"]
    for sides in ((a - b).square().sum(1) < 1, x > 20, a_ > b_, points["chainer: Huber(x), entry by entry"][0].abs() < 1):
        assert sides.any() and not sides.all()


def test_every_case_has_a_name_of_its_own_and_says_where_it_is_from():
    assert len({case.name for case in CASES}) == len(CASES) == 22 and len(MISTAKES) == 18
    assert sum(case.authors is not None for case in MISTAKES) == 7
    assert all(case.hid and case.names and case.mistake for case in MISTAKES)
    links = {case.name: case.link for case in CASES}
    assert links["mlx#2453: atan2(a, b)"] == "https://github.com/ml-explore/mlx/issues/2453"
    assert links["chainer: Huber(x), entry by entry"] == "https://github.com/chainer/chainer"


def test_the_test_that_everybody_writes_misses_a_lost_upstream_gradient():
    def verdict(case, rule):
        return checkers.judged(usual(case, case.ordinary), subject(case, case.ordinary, rule)).verdict

    assert {verdict(case, case.right) for case in CASES} == {"passed"}
    assert {case.name for case in MISTAKES if verdict(case, case.wrong) != "detected"} == USUALLY_MISSED


def test_ours_acquits_what_was_reported_in_vain_and_finds_what_was_not(as_users_run_it):
    for case in acquitted.CASES:
        assert answer(checkers.ours, subject(case, case.ordinary, case.right), "")[:3] == ("passed", (), "")
    case = next(case for case in MISTAKES if case.name == "candle#211: a / b")
    verdict, said, naming, _ = answer(checkers.ours, subject(case, case.ordinary, case.wrong), case.names)
    assert (verdict, naming) == ("detected", "named right") and said[0].startswith("sign: ")


def test_a_cause_is_named_if_one_of_the_sentences_fits():
    assert named((), "sign") == "not named"
    assert named(("factor 2: it is twice the reference",), r"\bsign\b") == "misnamed"
    assert named(("factor 2: twice", "sign: The Negative"), "negative") == "named right"
    atan2 = next(case for case in MISTAKES if "atan2" in case.name).names
    assert named(("factor: the factor inputs[1] is missing",), atan2) == "named right"
    assert named(("factor N: the 1/N is missing",), atan2) == "misnamed"
    wrong, fine = fn.Finding("wrong", 1.0, cause="sign", diagnosis="negative"), fn.Finding("ok", 0.0)
    report = fn.Report({"a": wrong, "b": wrong, "c": fine}, {"adjoint": fn.Finding("wrong", 1.0, diagnosis="no cause")})
    assert sentences(report) == ("sign: negative",)


def test_the_observations_tell_who_finds_misses_and_misnames_what():
    cases = [MISTAKES[1], *(case for case in MISTAKES if case.authors is None)][:3]
    first, second, third = (case.name for case in cases)

    def told(case, rule, point, checker, verdict, said=(), naming=""):
        return Trial(case, rule, point, checker, 1.0, verdict, said, naming, 0.1)

    trials = [
        told(first, "wrong", "ordinary", OURS, "detected", ("sign: -",), "misnamed"),
        told(second, "wrong", "ordinary", OURS, "detected", ("sign: -", "zero: 0"), "named right"),
        told(third, "wrong", "ordinary", OURS, "passed"),
        told(first, "wrong", "author's", OURS, "passed"),
        told(first, "right", "ordinary", OURS, "passed"),
        *(told(case, "wrong", "ordinary", USUAL, "detected") for case in (first, second)),
        told(third, "wrong", "ordinary", USUAL, "refused"),
        told(first, "wrong", "author's", USUAL, "detected"),
        told(first, "right", "ordinary", USUAL, "detected"),
    ]
    lines = presentation.observations(cases, trials, ["jax"])
    assert f"the 3 mistakes are found so: {OURS} 2 of 3; {USUAL} 2 of 3." in lines[0]
    assert f"{OURS}: {third}. {USUAL}: {third} (fails with another error)." in lines[1]
    assert f"{OURS} 0 of 1; {USUAL} 1 of 1." in lines[2]
    assert f"{OURS} 0 of 1; {USUAL} 1 of 1. Objections and failures: {first} ({USUAL})." in lines[3]
    assert "a true cause of 1 of the 2" in lines[4] and "beside it in 1. " in lines[4]
    assert f"Misnamed: {first} (sign). Not named: none." in lines[4] and lines[5].endswith("jax.")
    rows = presentation.table(cases, trials).rows
    assert [row[3:6] for row in rows] == [
        [f"found by all but {OURS}", "found by all", "misnamed"],
        ["-", "found by all", "named right"],
        ["-", "found by none", "-"],
    ]
    left, right = presentation.draw(cases, trials)[0].axes
    assert [len(line.get_xdata()) for line in left.lines] == [4, 1, 1]
    assert [len(line.get_xdata()) for line in right.lines] == [1, 1, 0]
    assert {"misnamed", "named right", ""} <= {text.get_text() for text in left.texts}


def test_a_small_run_has_every_part_of_a_result(tmp_path, as_users_run_it):
    options = Wild(output=tmp_path, every=11)
    result = compare({OURS: checkers.ours}, options)
    save("wild", result, options)
    assert len(result.tables[0].rows) == len(MISTAKES[::11]) and len(result.observations) == 5 + bool(missing())
    assert result.numbers["sources"].keys() == {trial["case"] for trial in result.numbers["trials"]}
    assert (tmp_path / "wild" / "mistakes.png").read_bytes().startswith(b"\x89PNG")
