"""`python -m experiments` runs every experiment; `python -m experiments NAME` runs one. Both take `--help`."""

import contextlib
import dataclasses
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain, dropwhile, takewhile
from typing import Any, Literal

import torch
import tyro

import funcnn as fn
from experiments import (
    addition,
    autoencoder,
    autograd,
    benchmark,
    bigram,
    bugs,
    characters,
    clipped_loss,
    computation_graph,
    deep_network,
    differences,
    distributed,
    estimators,
    geometry,
    hidden_layer,
    jacobian,
    lecture_notes,
    lenet,
    minimize,
    momentum,
    names,
    per_sample,
    perceptron,
    providers,
    recurrent,
    scaled_loss,
    step_size,
    tensors,
    torch_operators,
    variance,
    wild,
)
from experiments.core.formulas import plain
from experiments.core.options import BadOption, Missing, Options
from experiments.core.report import duration, write_report
from experiments.core.result import Result, check_output
from experiments.core.runner import Job, in_turn

Experiment = tuple[type[Options], Callable[[Any], Result]]

TOPICS: dict[str, dict[str, Experiment]] = {
    "First networks": {
        "perceptron": (perceptron.Perceptron, perceptron.run),
        "hidden_layer": (hidden_layer.HiddenLayer, hidden_layer.run),
        "providers": (providers.Providers, providers.run),
    },
    "Tensors and derivatives": {
        "tensors": (tensors.Tensors, tensors.run),
        "geometry": (geometry.Geometry, geometry.run),
        "computation_graph": (computation_graph.ComputationGraph, computation_graph.run),
        "autograd": (autograd.Autograd, autograd.run),
        "differences": (differences.Differences, differences.run),
        "jacobian": (jacobian.Jacobian, jacobian.run),
    },
    "Descent": {
        "step_size": (step_size.StepSize, step_size.run),
        "momentum": (momentum.Momentum, momentum.run),
        "minimize": (minimize.Minimize, minimize.run),
    },
    "By random directions": {
        "variance": (variance.Variance, variance.run),
        "estimators": (estimators.Estimators, estimators.run),
    },
    "Networks and losses": {
        "deep_network": (deep_network.DeepNetwork, deep_network.run),
        "clipped_loss": (clipped_loss.ClippedLoss, clipped_loss.run),
        "scaled_loss": (scaled_loss.ScaledLoss, scaled_loss.run),
        "autoencoder": (autoencoder.Autoencoder, autoencoder.run),
        "per_sample": (per_sample.PerSample, per_sample.run),
    },
    "Images": {
        "lenet": (lenet.LeNet, lenet.run),
    },
    "Names and texts": {
        "bigram": (bigram.Bigram, bigram.run),
        "names": (names.Names, names.run),
        "recurrent": (recurrent.Recurrent, recurrent.run),
        "characters": (characters.Characters, characters.run),
        "addition": (addition.Addition, addition.run),
    },
    "Is the gradient right?": {
        "lecture_notes": (lecture_notes.LectureNotes, lecture_notes.run),
        "wild": (wild.Wild, wild.run),
        "bugs": (bugs.Bugs, bugs.run),
        "torch_operators": (torch_operators.TorchOperators, torch_operators.run),
    },
    "Many machines": {
        "distributed": (distributed.Distributed, distributed.run),
    },
    "How fast?": {
        "benchmark": (benchmark.Benchmark, benchmark.run),
    },
}
EXPERIMENTS = {name: experiment for group in TOPICS.values() for name, experiment in group.items()}
LONG = (
    "characters",
    "addition",
    "lenet",
    "recurrent",
    "bugs",
    "names",
    "torch_operators",
    "wild",
    "distributed",
    "benchmark",
)  # these come last, the longest first, so that none of them is waited for at the end
ALONE = ("distributed", "benchmark")  # and nothing runs beside what compares times


@dataclass(frozen=True, kw_only=True)
class Course(Options):
    """The options of a run of all experiments."""

    dtype: Literal["float32", "float64"] | None = None  # type: ignore[assignment]
    """Precision of the data and the parameters; None is that of each experiment."""
    brief: bool = False
    """Leaves out those that take long."""
    processes: int = 2
    """Experiments that run at a time; the benchmark runs alone."""


def main(arguments: list[str]) -> int:
    """Runs what the command line asks for and returns the exit code: 2 for a bad one, 130 after Ctrl-C."""
    command = "python -m experiments"
    name = arguments[0] if arguments and not arguments[0].startswith("-") else None
    try:
        if name is None:
            about = f"Runs {', '.join(EXPERIMENTS)}. `{command} NAME --help` tells more of one."
            run_all(parse(Course, arguments, command, about))
        elif name in EXPERIMENTS:
            kind = EXPERIMENTS[name][0]
            run_one(name, parse(kind, arguments[1:], f"{command} {name}", kind.__doc__ or ""))
        else:
            raise BadOption(f"unknown experiment {name}; there are {', '.join(EXPERIMENTS)}")
    except (BadOption, Missing, fn.InputError, OSError) as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. What was finished before is whole and in the report.", file=sys.stderr)
        return 130
    return 0


def run_one(name: str, options: Options) -> None:
    """Runs an experiment."""
    check_output(options.output)
    for job, result in in_turn([Job(name, EXPERIMENTS[name][1], options)], 1):
        tell(job, result)


def run_all(course: Course) -> None:
    """Runs the experiments, the long ones last. What needs a package that is missing is skipped."""
    check_output(course.output)
    told = {field.name: getattr(course, field.name) for field in dataclasses.fields(Options)}
    shared = {name: value for name, value in told.items() if value is not None}
    early = [name for name in EXPERIMENTS if name not in LONG]
    late = [] if course.brief else [name for name in LONG if name in EXPERIMENTS]
    jobs = {}
    for name in [*early, *late]:
        kind, run = EXPERIMENTS[name]
        jobs[name] = Job(name, run, kind(**shared, **(kind.FULL if course.full else {})))
    print(f"{len(jobs)} experiments: {', '.join(early)}", end="")
    print(f"; then the long ones, which --brief leaves out: {', '.join(late)}." if late else ".", flush=True)
    beside = [job for name, job in jobs.items() if name not in ALONE]
    alone = [job for name, job in jobs.items() if name in ALONE]
    for job, result in chain(in_turn(beside, course.processes), in_turn(alone, 1)):
        try:
            tell(job, result)
        except Missing as missing:
            print(f"  skipped: {missing}", flush=True)


def tell(job: Job, done: Callable[[], Result]) -> None:
    """Says what an experiment has found, and renders the report anew, so that it is whole after each."""
    print(f"{job.name} ...", flush=True)
    result = done()
    for line in result.observations:
        print(f"  {plain(line)}")
    took = duration(result.seconds or 0)
    print(f"  {took}; {write_report(job.options.output, TOPICS)}", flush=True)


def parse(kind: type[Options], arguments: list[str], program: str, about: str) -> Options:
    """The options from the flags. Raises BadOption with tyro's complaint in one line, where tyro would print a box."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            command_line = partial(tyro.cli, kind, args=arguments, prog=program, description=about)
            options: Options = command_line()
            return command_line(default=kind(**kind.FULL)) if options.full and kind.FULL else options
    except SystemExit as stop:
        if not stop.code:
            raise
        # A box: its title, then the complaint, then a rule and hints. Terminals without line drawing get another rule.
        lines = [line.strip("│| ") for line in complaint.getvalue().splitlines()[1:]]
        message = " ".join(takewhile(has_words, dropwhile(lambda line: not has_words(line), lines)))
        raise BadOption(message.removeprefix(f"Error parsing {kind.__name__}: ")) from None


def has_words(line: str) -> bool:
    """Whether a line is more than a rule."""
    return any(map(str.isalnum, line))


if __name__ == "__main__":
    torch.set_num_threads(1)  # the networks here are so small that threads would wait for one another
    sys.exit(main(sys.argv[1:]))
