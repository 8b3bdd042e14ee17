"""A Ctrl-C comes at any line. It ends the call, and leaves nothing behind that later calls would stumble over."""

import re
import sys

import pytest
import torch
from planting import scene
from torch._C._functorch import get_dynamic_layer_stack_depth, pop_dynamic_layer_stack_and_undo_to_depth
from torch._functorch import eager_transforms
from torch.autograd import forward_ad

import funcnn as fn

pytestmark = pytest.mark.usefixtures("as_users_run_it")

OBJECTIVE, PARAMS, BATCH = scene((2, 2, 2), count=2)
POINT = PARAMS, BATCH
LAYER = fn.mlp((2, 2, 2), fn.tanh)


def training(step_fn):
    return list(fn.train(step_fn, fn.momentum(0.1), PARAMS, [BATCH] * 2))


ALIKE = {"backward_difference", "central_difference"}  # forward_difference with other numbers
CALLS = {
    **{name: lambda p=provider: p(OBJECTIVE)(*POINT) for name, provider in fn.PROVIDERS.items() if name not in ALIKE},
    "per_sample": lambda: fn.per_sample(fn.func_grad(OBJECTIVE))(*POINT),
    "per_sample of the tape": lambda: fn.per_sample(fn.autograd(OBJECTIVE))(*POINT),
    "per_sample_clip": lambda: fn.per_sample_clip(fn.func_grad(OBJECTIVE), 0.1)(*POINT),
    "train by func_grad": lambda: training(fn.func_grad(OBJECTIVE)),
    "train by a function of the user's": lambda: training(lambda p, b: fn.explicit(OBJECTIVE)(p, b)),
    "check": lambda: fn.check(fn.explicit(OBJECTIVE), *POINT),
    "check_vjp": lambda: fn.check_vjp(fn.tanh(), ((), BATCH[0])),
    "jacobian": lambda: fn.jacobian(LAYER, PARAMS, BATCH[0]),
    "laws": lambda: fn.laws(LAYER, PARAMS, BATCH[0]),
}
# Where a mode begins and ends: every line of these; of others, which are alike, a sample.
SWITCHES = re.compile(r"_nesting|set_inplace|disable_saved|dual_level|__enter__|__exit__|without_tape")


def modes():
    """What outlives a call in torch, beside its tensors."""
    return {
        "the grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "the levels of torch.func": get_dynamic_layer_stack_depth(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "function modes": torch._C._len_torch_function_stack(),
        "the level of forward mode": forward_ad._current_level,
        "the levels of jvp": eager_transforms.JVP_NESTING,
        "hooks of saved tensors": torch._C._autograd._saved_tensors_hooks_is_enabled(),
    }


BEFORE = modes()


@pytest.fixture(autouse=True)
def clean():
    """One failure is no reason for the tests after it to fail."""
    yield
    while torch._C._len_torch_dispatch_stack():
        torch._C._pop_torch_dispatch_stack(None)
    if get_dynamic_layer_stack_depth():
        pop_dynamic_layer_stack_and_undo_to_depth(0)
    torch._C._autograd._saved_tensors_hooks_enable()
    torch._C._set_grad_enabled(True)
    forward_ad._current_level, eager_transforms.JVP_NESTING = -1, 0


def of_the_library(frame):
    """Whether users run this: what checks the annotations under pytest has locks that an interrupt leaves closed."""
    return re.search(r"/(funcnn|torch|optree|tests)/|contextlib", frame.f_code.co_filename) is not None


def lines(call):
    """The number of every line that a call runs, in order, with its place."""
    found = []

    def trace(frame, event, argument):
        if event == "line":
            found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        return trace if of_the_library(frame) else None

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return found


def interrupted(call, place, times):
    """Whether a call ended with the Ctrl-C that came before a line when it was run for the nth time; None without one."""
    left, (file, line, function) = times, place

    def trace(frame, event, argument):
        # Only the function of that line is followed line by line: to follow all of them takes most of the time.
        return trace_line if frame.f_code.co_name == function and frame.f_code.co_filename == file else None

    def trace_line(frame, event, argument):
        nonlocal left
        if event == "line" and frame.f_lineno == line:
            left -= 1
            if not left:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace_line

    sys.settrace(trace)
    try:
        call()
        sys.settrace(None)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return None if left > 0 else False


@pytest.mark.parametrize("name", CALLS)
def test_a_ctrl_c_at_any_line_leaves_torch_as_it_was(name):
    call, sample = CALLS[name], 8
    call()  # what is imported or cached at first is done
    # Python itself swallows what is raised in the callback of a weak reference, so no Ctrl-C can come from there.
    run = [place for place in lines(call) if not place[0].endswith("weakref.py")]
    counts = {place: run.count(place) for place in dict.fromkeys(run)}
    at_switches = [place for place in counts if SWITCHES.search(place[2])]
    others = [place for place in counts if place not in set(at_switches)]
    chosen = at_switches + others[:: 1 + len(others) // sample]
    came = 0
    for number, place in enumerate(chosen):
        times = (1, counts[place], 1 + counts[place] // 2)[number % 3]
        ended = interrupted(call, place, times)
        now = modes()
        assert now == BEFORE, f"{place}, time {times}: { ({k: v for k, v in now.items() if v != BEFORE[k]}) }"
        assert ended is not False, f"the Ctrl-C was lost: {place}, time {times}"
        came += bool(ended)
    assert came > len(chosen) / 2
    call()  # and all is well


def test_a_ctrl_c_inside_a_transform_of_the_caller_leaves_the_level_of_the_caller():
    def stops(w, batch):
        raise KeyboardInterrupt

    levels = []

    def outer(w):
        try:
            fn.func_grad(fn.Objective(stops))(w, torch.ones(1))
        except KeyboardInterrupt:
            levels.append(get_dynamic_layer_stack_depth())
        return (w * w).sum()

    assert torch.equal(torch.func.grad(outer)(torch.ones(2)), 2 * torch.ones(2)) and levels == [1]
    assert modes() == BEFORE


def test_an_error_is_no_ctrl_c_where_one_is_being_handled():
    def fails(w, batch):
        raise RuntimeError("of the user's")

    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        with pytest.raises(RuntimeError, match="of the user's"):
            fn.func_grad(fn.Objective(fails))(torch.ones(2), torch.ones(1))


def test_a_step_that_fails_in_any_mode_leaves_that_of_the_caller():
    def leaks(w, batch):
        torch._C._set_grad_enabled(False)
        raise ZeroDivisionError

    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            with pytest.raises(ZeroDivisionError):
                fn.finite_difference(fn.Objective(leaks))(torch.ones(2), torch.ones(1))
            assert torch.is_grad_enabled() == enabled
