import json
import math
import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch.autograd.gradcheck import GradcheckError

import funcnn as fn
from experiments import __main__ as command_line
from experiments.bugs import Bugs, checkers, correct, one_thread, presentation, worth
from experiments.bugs.corpus import CORPUS
from experiments.bugs.subject import relative_error, true_error
from experiments.bugs.trials import Trial, rows
from experiments.core.options import BadOption
from experiments.core.result import save
from experiments.core.scene import SIZES
from experiments.core.timing import Timing

# In a process of its own, as users run it: beartype makes a check ten times as slow, and there are hundreds.
PROGRAM = """
import json
from experiments.bugs import Bugs, checkers, on_bugs, on_correct, one_thread

with one_thread():
    options = Bugs(networks=30, every=1)
    print(json.dumps([f("funcnn", checkers.ours, options) for f in (on_bugs, on_correct)]))
"""


@pytest.fixture(scope="module")
def trials():
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, check=True)
    return [{trial[0]: Trial(*trial) for trial in trials} for trials in json.loads(found.stdout)]


@pytest.fixture
def planted(trials):
    return trials[0]


HYPOTHESES = {
    *("sign", "factor N", "factor 2", "transposed", "permuted", "activation derivative", "bias reduction"),
    *("single entry", "single row", "single column", "zero", "not finite"),
}
TRIALS = {"nondeterministic", "mutation", "strides", "linearity", "value", "stale", "upstream"}
NAMED_OTHERWISE: dict[str, str] = {}  # bug: why another cause than the planted one is as good


@pytest.mark.parametrize("name", CORPUS)
def test_a_planted_bug_is_detected(planted, name):
    found = planted[name]
    if found.due:
        assert found.verdict == "detected"
    elif found.cause == "kink":
        assert found.verdict == "kink"
    else:
        assert 1e-9 < found.error < 1e-6


def test_the_diagnosis_names_the_planted_class_of_nine_in_ten(planted):
    meant = [trial for trial in planted.values() if trial.cause not in ("", "kink")]
    other = {trial.name for trial in meant if not trial.named}
    assert len(other - NAMED_OTHERWISE.keys()) <= len(meant) / 10, other
    assert NAMED_OTHERWISE.keys() <= other


def test_what_is_correct_raises_no_alarm(trials):
    on_kinks = [trial for trial in trials[1].values() if trial.cause == "kink"]
    assert len(trials[1]) > 100 and any(trial.verdict == "kink" for trial in on_kinks)
    assert [t.name for t in trials[1].values() if t.verdict != "passed" and (t.cause, t.verdict) != ("kink", "kink")] == []


def test_the_corpus_has_every_class_of_mistake_several_times_over():
    counts = Counter(bug.cause for bug in CORPUS.values())
    assert counts.keys() == HYPOTHESES | TRIALS | {"", "kink"}
    assert all(counts[cause] >= 3 for cause in HYPOTHESES) and all(counts[cause] >= 2 for cause in TRIALS)
    assert {bug.level for bug in CORPUS.values()} == {"layer", "loss", "network", "function"}
    assert len(CORPUS) >= 60


def test_a_twin_differs_from_itself_by_nothing():
    twins = {name.split(":")[0]: bug.right for name, bug in CORPUS.items()}
    assert all(true_error(right(), right()) == 0 for right in twins.values())


def test_the_error_of_a_bug_is_that_of_its_leaf():
    bug = CORPUS["network: a bias 2e-6 too small"]
    assert true_error(bug.right(), bug.wrong()) == pytest.approx(2e-6, rel=1e-3)
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0
    assert (
        relative_error(torch.ones(2), torch.ones(3)) == math.inf == relative_error(torch.tensor([math.nan]), torch.ones(1))
    )
    assert relative_error(torch.tensor([3.0, 0]), torch.tensor([3.0, 4.0])) == pytest.approx(0.8)


def test_the_correct_networks_are_of_all_sizes_depths_and_losses():
    drawn = [correct.network(seed) for seed in range(30)]
    sizes = [network.parameters for network in drawn]
    assert min(sizes) < 10 and max(sizes) > 30_000
    assert 3 < sum(network.kinks for network in drawn) < 15
    assert {len(fn.tree.leaves(network.subject.inputs[0])) // 2 for network in drawn} == {1, 2, 3, 4, 5}


def test_every_witness_and_hypothesis_has_a_name_of_its_own():
    names = [each.__name__ for table in worth.tables().values() for each in table]
    assert len(set(names)) == len(names) and not any(name.startswith("_") for name in names)


# name: (the bug, what is said of it by all, what without this one)
WITHOUT = {
    "scaled": ("tanh: y^2 - 1", ("detected", ("sign",)), ("detected", ())),
    "brackets": ("relu at zeros: 2 where x = 0", ("detected", ()), ("kink", ())),
    "form": ("abs at zeros: x / |x|", ("detected", ("not finite",)), ("detected", ())),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_what_a_witness_or_hypothesis_is_worth(name):
    bug, whole, less = WITHOUT[name]
    for without, said in (("", whole), (name, less)):
        tally, tables = Counter(), checkers.without(without)
        check = checkers.available(**worth.counted(tables, tally))["funcnn"]
        assert checkers.judged(check, CORPUS[bug].wrong())[:2] == said
        told = [row for row in worth.table(tables, tally).rows if row[0] == name]
        assert [row[2] for row in told] == ([] if without else [str(tally[name])])
        assert bool(tally[name]) == (not without and name != "brackets")  # which hands its case on


def test_nobody_else_can_be_left_out():
    with pytest.raises(BadOption, match="nobody"):
        checkers.without("nobody")


@pytest.mark.parametrize("checker", checkers.available())
@pytest.mark.parametrize("where", ["dW", "half squared error", "square", "network"])
def test_an_adapter_passes_what_is_right_and_detects_what_is_wrong(checker, where):
    check = checkers.available()[checker]
    bug = next(bug for name, bug in CORPUS.items() if name.startswith(f"{where}: ") and bug.cause in ("sign", "factor 2"))
    assert checkers.judged(check, bug.right()).verdict == "passed"
    assert checkers.judged(check, bug.wrong()).verdict == "detected"


@pytest.mark.parametrize("checker", checkers.available())
def test_every_peer_is_told_of_a_gradient_of_the_wrong_shape(checker):
    bug = CORPUS["db: not summed at all"]
    assert checkers.judged(checkers.available()[checker], bug.wrong()).verdict == "detected"


def test_what_a_checker_raises_is_a_refusal_unless_it_is_what_it_raises_on_a_wrong_gradient():
    def raising(error):
        def check(subject):
            raise error

        return checkers.judged(check, None).verdict

    assert raising(AssertionError()) == raising(GradcheckError()) == "detected"
    assert raising(RuntimeError()) == raising(NotImplementedError()) == "refused"
    assert checkers.judged(lambda subject: None, None).verdict == "passed"


def made(checker, name, cause, error, verdict, causes=(), seconds=0.001):
    return Trial(name, checker, cause, error, verdict, causes, seconds)


def test_the_observations_tell_what_was_missed_misnamed_and_called_wrong_in_vain():
    planted = [
        made("funcnn", "found", "sign", 1.0, "detected", ("sign",)),
        made("funcnn", "misnamed", "factor 2", 0.5, "detected", ("sign",)),
        made("funcnn", "missed", "", 1e-6, "passed"),
        made("funcnn", "small", "", 1e-8, "passed"),
        made("funcnn", "refused", "", 1.0, "refused"),
        made("funcnn", "zeros", "kink", 1.0, "kink"),
        *(made("theirs", name, "", 1.0, "detected") for name in "abcd"),
    ]
    right = [
        made("funcnn", "smooth", "", 0, "passed"),
        made("funcnn", "alarming", "", 0, "detected"),
        made("funcnn", "kinked", "kink", 0, "kink"),
        made("theirs", "kinked", "kink", 0, "detected"),
    ]
    shown = rows(["funcnn", "theirs"], planted, right)
    assert presentation.table(shown).rows[0] == ["funcnn", "2 of 6", "2 of 4", "1", "1 of 2", "0 of 1", "1.0"]
    assert shown[1].due == (4, 4) and shown[1].kinks == (1, 1)
    timing = Timing({"fn.check": [0.01] * 3, "gradcheck, slow": [1.0] * 3})
    lines = presentation.observations(shown, planted, right, timing, ["jax"])
    assert "funcnn finds 2 of 4; theirs 4 of 4" in lines[0]
    assert "misses: missed; refused." in lines[1] and "Of the 1 with a smaller error" in lines[1]
    assert "1 of 2 false alarms, and 0 of 1 on a kink: alarming." in lines[2]
    assert "1 of 2 bugs" in lines[3] and "misnamed (factor 2; named: sign)" in lines[3]
    assert "100 times as long" in lines[-2] and lines[-1].endswith("measured: jax.")


def test_a_small_run_shows_every_checker_and_leaves_torch_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setitem(SIZES, "tiny", (4, 3, 2, 2))
    threads = torch.get_num_threads()
    options = Bugs(output=tmp_path, networks=4, sample=2, every=50)
    result = command_line.EXPERIMENTS["bugs"][1](options)
    save("bugs", result, options)
    assert [row[0] for row in result.tables[0].rows] == list(checkers.available())
    assert len(result.numbers["bugs"]) == len(checkers.available()) * len(range(0, len(CORPUS), 50))
    assert (tmp_path / "bugs" / "checkers.png").read_bytes().startswith(b"\x89PNG")
    assert torch.get_num_threads() == threads
    with pytest.raises(InterruptedError), one_thread():
        raise InterruptedError
    assert torch.get_num_threads() == threads


MUTATIONS = [name for name, bug in CORPUS.items() if bug.cause == fn.Cause.MUTATION]


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_function_that_writes_to_its_arguments_is_found_and_named_not_refused(name):
    assert checkers.judged(checkers.ours, CORPUS[name].wrong())[:2] == ("detected", (fn.Cause.MUTATION,))


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_a_function_that_writes_shows_is_wrong(name):
    assert true_error(CORPUS[name].right(), CORPUS[name].wrong()) > 1e-7  # what fn.check tolerates
