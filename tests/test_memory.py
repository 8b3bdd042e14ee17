import subprocess
import sys

import pytest
import torch
from helpers import classifier, labels, normal, says, seeded

import funcnn as fn
from experiments.core.memory import peak
from funcnn import memory
from funcnn.memory import _of_groups

pytestmark = pytest.mark.usefixtures("as_users_run_it")

OBJECTIVE, PARAMS, BATCH = classifier((40, 50, 20), count=30)
LAYER, SINE = fn.dense(60, 50), fn.Objective(lambda w, x: w.sin().sum())
PARAMS, W = fn.tree.map(torch.Tensor.double, (PARAMS, LAYER.init(seeded())))


def quasi_newton():
    *_, last = fn.train(fn.func_grad(SINE), fn.bfgs(), normal(900), [BATCH] * 3)
    return last


# name: (a call, the place that would be too small, what is there)
CALLS = {
    "bfgs": (quasi_newton, "params", "900 numbers, for which bfgs keeps matrices"),
    "jacobian": (lambda: fn.jacobian(LAYER, W, normal(8, 60)), "x", "derivatives of 400 outputs"),
    "per_sample": (
        lambda: fn.per_sample(fn.explicit(OBJECTIVE))(PARAMS, BATCH),
        "batch",
        "30 samples, each with a gradient,",
    ),
    "per_sample by vmap": (lambda: fn.per_sample(fn.func_grad(OBJECTIVE))(PARAMS, BATCH), "batch", "30 samples"),
    "per_sample_norms by vmap": (lambda: fn.per_sample_norms(fn.func_grad(OBJECTIVE))(PARAMS, BATCH), "batch", "30 samples"),
    "finite_difference": (
        lambda: fn.finite_difference(SINE, chunk_size=400)(normal(3000), normal(1)),
        "chunk_size",
        "800 evaluations at once",
    ),
    "complex_step": (
        lambda: fn.complex_step(OBJECTIVE, chunk_size=2000)(PARAMS, BATCH),
        "chunk_size",
        "50 evaluations at once",
    ),
    "split": (lambda: fn.data.split(normal(900, 900), labels(900, 2), generator=seeded()), "inputs", "copies in float64"),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_does_not_fit_is_refused_with_the_figure_before_it_starts(name, monkeypatch):
    call, place, found = CALLS[name]
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "free_memory", lambda device: 100_000)
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, place, found, "at most the 0.1 MB of memory that are free")


@pytest.mark.parametrize("provider", [fn.finite_difference, fn.complex_step])
def test_no_leaf_is_moved_before_all_are_known_to_fit(provider, monkeypatch):
    evaluations = []

    def value(params, batch):
        evaluations.append(params)
        return params["a"].sum() + params["w"].sum()

    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "free_memory", lambda device: 100_000)
    with pytest.raises(fn.InputError, match="^chunk_size"):
        provider(fn.Objective(value), chunk_size=400)({"a": normal(2), "w": normal(3000)}, normal(1))
    assert len(evaluations) == 1


@pytest.mark.parametrize("name", CALLS)
def test_the_figure_is_what_is_really_taken(name, monkeypatch):
    call, asked = CALLS[name][0], []
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "free_memory", lambda device: None)
    for module in ("optimizers.quasi_newton", "layers.jacobian", "samples", "providers.differences", "data"):
        monkeypatch.setattr(f"funcnn.{module}.check_memory", lambda place, what, size, device: asked.append(size))
    taken = peak(call)
    # What fits is never refused; and beside what is counted there are at most a few tensors of its size.
    assert max(asked) <= taken <= 4 * max(asked)


@pytest.mark.parametrize("name", CALLS)
def test_what_fits_is_computed(name):
    assert CALLS[name][0]() is not None


def test_no_machine_has_the_memory_for_bfgs_on_many_parameters():
    with pytest.raises(fn.InputError, match="^params: got 10000000 numbers, for which bfgs keeps matrices of 2 PB"):
        fn.bfgs().init(torch.zeros(10**7, dtype=torch.float32))


def test_the_limit_of_the_process_counts():
    code = """
import resource, torch, funcnn as fn
resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34))
try:
    fn.bfgs().init(torch.zeros(40_000))
except fn.InputError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.startswith("params: got 40000 numbers, for which bfgs keeps matrices of 32 GB, needs at most the")


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_device_that_says_nothing_refuses_nothing(device):
    free = memory.free_memory(torch.device(device))
    assert (free is None) if device == "meta" else free > 0


# name: (the line of /proc/self/cgroup, {file: content}, what is left)
GROUPS = {
    "no limit": ("0::/a", {"a/memory.max": "max", "a/memory.current": "5"}, []),
    "version 2": ("0::/a/b", {"a/b/memory.max": "90", "a/b/memory.current": "50"}, [40]),
    "a container that sees its own group as the root": ("0::/x", {"memory.max": "90", "memory.current": "50"}, [40]),
    "the group above": (
        "0::/a/b",
        {"a/b/memory.max": "max", "a/b/memory.current": "1", "a/memory.max": "70", "a/memory.current": "50"},
        [20],
    ),
    "pages of files": (
        "0::/a",
        {"a/memory.max": "90", "a/memory.current": "50", "a/memory.stat": "anon 3\ninactive_file 30\n"},
        [70],
    ),
    "version 1": (
        "4:cpu,memory:/a",
        {"memory/a/memory.limit_in_bytes": "90", "memory/a/memory.usage_in_bytes": "50"},
        [40],
    ),
    "other controllers": ("3:cpu:/a", {"memory/a/memory.limit_in_bytes": "90", "memory/a/memory.usage_in_bytes": "50"}, []),
    "nothing to read": ("0::/a", {}, []),
}


@pytest.mark.parametrize("name", GROUPS)
def test_the_limits_of_a_container_count(name, tmp_path):
    line, files, left = GROUPS[name]
    (tmp_path / "cgroup").write_text(f"{line}\n")
    for file, content in files.items():
        path = tmp_path / "fs" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert _of_groups(tmp_path / "cgroup", tmp_path / "fs") == left
