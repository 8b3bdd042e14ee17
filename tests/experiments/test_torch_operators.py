import contextlib
import importlib.util
import io
import json
import warnings

import pytest
import torch
from helpers import normal

from experiments import __main__ as command_line
from experiments.core.options import BadOption
from experiments.torch_operators import TorchOperators
from experiments.torch_operators.cases import Case, Unfit, joined
from experiments.torch_operators.defects import DEFECTS
from experiments.torch_operators.explain import KINDS, explain
from experiments.torch_operators.presentation import draw, objections, observations
from experiments.torch_operators.structures import distinct, structures
from experiments.torch_operators.witnesses import Scene

# A few operators of the database, for the rest see below; the first is right.
EXPECTED = {
    "sin": None,
    "as_strided_scatter": "backward",
    "bfloat16": "cast",
    "cholesky": "structure",
    "scatter_reduce.prod": "forward mode",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def printed(folder):
    # In a process of its own, as for users; and what it prints is what a terminal would show.
    out, err = io.StringIO(), io.StringIO()
    before = state()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command_line.main(["torch_operators", "--output", str(folder), "--only", *EXPECTED])
    assert code == 0 and state() == before
    return out.getvalue(), err.getvalue()


def state():
    flags = torch.backends.flags_frozen(), torch.get_num_threads(), torch.get_default_dtype()
    return *flags, torch.get_rng_state().tolist(), list(warnings.filters)


def records(folder):
    return json.loads((folder / "torch_operators" / "result.json").read_text())["numbers"]["samples"]


def test_each_operator_is_explained_as_it_is_known_to_be(printed, folder):
    found = {name: {r.get("kind") for r in records(folder) if r["operator"] == name} - {None} for name in EXPECTED}
    # What check_vjp says may change, and with it whether there is something to explain; an explanation may not.
    assert all(kinds <= {EXPECTED[name]} for name, kinds in found.items()), found
    assert found["as_strided_scatter"] == {"backward"} and found["cholesky"] == {"structure"}


def test_nothing_that_torch_prints_reaches_the_terminal(printed, folder):
    out, err = printed
    assert all(line.isdigit() for line in err.splitlines())  # how far it is
    assert out.startswith("torch_operators ...\n") and "Warning" not in out
    assert (folder / "torch_operators" / "witnesses.png").read_bytes().startswith(b"\x89PNG")
    assert "torch.as_strided_scatter(x, src" in (folder / "report.html").read_text()


def test_without_expecttest_the_others_run_and_a_line_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ran = []
    other = (TorchOperators, lambda options: ran.append(options) or command_line.Result("t", "a", {}, ["o"]))
    own = command_line.EXPERIMENTS["torch_operators"]
    monkeypatch.setattr(command_line, "EXPERIMENTS", {"torch_operators": own, "other": other})
    assert command_line.main(["--processes", "1", "--output", str(tmp_path)]) == 0 and len(ran) == 1
    assert "skipped: " in (out := capsys.readouterr().out) and "pip install expecttest" in out
    assert command_line.main(["torch_operators", "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("defect", DEFECTS, ids=[defect.operators[0] for defect in DEFECTS])
def test_the_lines_show_the_defect(defect):
    shown = defect.shown()
    if shown is None:
        pytest.skip(f"torch {torch.__version__} has no {defect.operators[0]}")
    wrong, right = shown
    assert wrong.shape == right.shape and not torch.allclose(wrong, right), "torch is right by now: drop it from DEFECTS"
    assert "return" in defect.lines and "def _" not in defect.lines


def case(f, *inputs, bound=(), rebound=None):
    return Case("f", 0, f, inputs, bound, rebound or (lambda bound: f))


class Doubled(torch.autograd.Function):
    """x * x with twice its derivative."""

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, dy):
        return 4 * ctx.saved_tensors[0] * dy


def symmetric():
    x = normal(3, 3)
    return x + x.mT + 6 * torch.eye(3)


def scattered(index):
    return lambda src: torch.zeros(4).scatter(0, index, src)


def drawn():
    return torch.rand(3, generator=torch.Generator().manual_seed(0))


INDEX = torch.tensor([1, 1, 2])
EXPLAINED = {
    "backward": (case(Doubled.apply, normal(3)), ["inputs[0]"]),
    "cast": (case(lambda x: x.float().double(), normal(3)), ["inputs[0]"]),
    "collision": (case(scattered(INDEX), normal(3), bound=(INDEX,), rebound=lambda b: scattered(*b)), ["inputs[0]"]),
    "kink": (case(torch.relu, torch.zeros(3)), ["inputs[0]"]),
    "random": (case(lambda x: 0 * x + x.detach() + drawn(), normal(3)), ["inputs[0]"]),
    "rounding": (case(lambda x: x / x.norm(), normal(1)), ["additivity"]),
    "staircase": (case(lambda x: torch.round(x, decimals=1) + 0 * x, torch.tensor([0.123]).double()), ["inputs[0]"]),
    "structure": (case(torch.linalg.cholesky, symmetric()), ["inputs[0]"]),
    "undefined": (case(torch.log, torch.tensor([-1.0])), ["inputs[0]"]),
    "unexplained": (case(torch.sin, normal(3)), ["inputs[0]"]),
}


@pytest.mark.parametrize("kind", EXPLAINED)
def test_an_explanation_is_given_where_it_holds(kind):
    assert explain(*EXPLAINED[kind]).kind == kind


def test_forward_mode_and_vmap_are_told_apart():
    index = torch.tensor([0])
    product = case(lambda src: torch.scatter_reduce(normal(2), 0, index, src, "prod"), normal(1))
    filled = case(lambda value: torch.index_fill(torch.zeros(2), 0, index, value), torch.tensor(3.0))
    assert [explain(one, [place]).kind for one, place in ((product, "adjoint"), (filled, "inputs[0]"))] == [
        "forward mode",
        "vmap",
    ]


def test_the_witnesses_agree_on_what_is_smooth_and_doubt_what_they_cannot_see():
    scene = Scene(case(lambda x, y: torch.tanh(x) * y.sum(), normal(3), normal(2, seed=1)))
    found = scene.testify()
    assert {t.position for t in found} == {0, 1}
    assert all(t.distance(t.backward) < 1e-9 and t.distance(t.forward) < 1e-9 for t in found)
    (nowhere,) = (Scene(case(torch.asin, torch.tensor([2.0]))).slope(0, torch.ones(1)),)
    assert nowhere.doubt == float("inf") or nowhere.value != nowhere.value


def test_structures_are_those_that_a_tensor_has():
    assert [name for name, _ in structures(symmetric())] == ["symmetric"]
    assert [name for name, _ in structures(normal(3, 3).tril())] == ["lower triangular"]
    assert list(structures(normal(3, 3))) == []
    ((name, onto),) = structures(normal(2, 4).log_softmax(1))
    assert name == "normalised log-probabilities"
    for index in distinct(torch.zeros(2, 3, dtype=torch.int64)):
        assert index.shape == (2, 3) and index.dtype == torch.int64


def test_several_outputs_become_one_real_tensor():
    x = torch.arange(3.0)
    assert joined([x, torch.complex(x, -x)]).tolist() == [0, 1, 2, 0, 0, 1, -1, 2, -2]
    with pytest.raises(Unfit, match="output"):
        joined([])


def test_an_operator_that_is_not_there_is_a_bad_option(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.torch_operators.measured", lambda options: iter([]))
    with pytest.raises(BadOption, match="only: got nope"):
        command_line.EXPERIMENTS["torch_operators"][1](TorchOperators(only=("nope",), output=tmp_path))


def test_what_is_not_explained_and_what_fails_is_said():
    said = [["adjoint", "wrong", "", "words"]]
    torn = {"verdict": "objects", "said": said, "evidence": "", "backward_off": 1.0, "forward_off": None}
    found = [
        {"operator": "a", "sample": 0, "verdict": "ok", "seconds": 1.0},
        {"operator": "b", "sample": 0, "kind": "unexplained", **torn},
        {"operator": "c", "sample": 0, "kind": "backward", **torn},
        {"operator": "d", "sample": 0, "verdict": "raises", "why": "ValueError: x"},
        {"operator": "e", "sample": 0, "verdict": "refused", "why": "words"},
        {"operator": "f", "sample": 0, "verdict": "unfit", "why": "a sparse tensor"},
    ]
    lines = "\n".join(observations(found, {defect.operators[0]: None for defect in DEFECTS}))
    assert "3 samples of 3 operators were checked in 1 s: 1 are right and 2 meet an objection, 1 of them rightly" in lines
    assert "0 in vain, 1 unexplained" in lines and "Not explained: b." in lines and "wrong for c too" in lines
    assert "refuses 1 samples: e." in lines and "error at 1 samples: d." in lines and "1 for a sparse tensor" in lines
    rows = objections(found).rows
    assert [row[0] for row in rows] == ["b", "c", "d"] and [row[-1] for row in rows] == ["no", "yes", "no"]
    assert draw(found)[0].axes and KINDS.keys() >= {"unexplained", "backward"}


def test_what_is_wrong_at_another_point_alone_is_explained_there():
    x, y = torch.tensor([300.0, -400.0], dtype=torch.float64), torch.tensor([3.0, 4.0], dtype=torch.float64)
    one = case(lambda x: torch.nn.functional.cosine_similarity(x, y, dim=0, eps=1.0), x)
    found = explain(one, ["elsewhere"])
    assert found.kind == "backward" and "with input 0 times 0.001" in found.evidence
    assert explain(one, ["inputs[0]"]).kind == "unexplained"
