"""`python -m experiments` runs every experiment; `python -m experiments NAME` runs one. Both take `--help`."""

import contextlib
import dataclasses
import io
import sys
from collections.abc import Callable
from itertools import dropwhile, takewhile
from typing import Any

import torch
import tyro

import funcnn as fn
from experiments import (
    autoencoder,
    autograd,
    benchmark,
    bugs,
    clipped_loss,
    computation_graph,
    deep_network,
    differences,
    geometry,
    hidden_layer,
    jacobian,
    lecture_notes,
    minimize,
    momentum,
    per_sample,
    perceptron,
    providers,
    scaled_loss,
    step_size,
    tensors,
    torch_operators,
    wild,
)
from experiments.core.options import BadOption, Missing, Options
from experiments.core.report import write_report
from experiments.core.result import Result, save

EXPERIMENTS: dict[str, tuple[type[Options], Callable[[Any], Result]]] = {
    "perceptron": (perceptron.Perceptron, perceptron.run),
    "hidden_layer": (hidden_layer.HiddenLayer, hidden_layer.run),
    "providers": (providers.Providers, providers.run),
    "bugs": (bugs.Bugs, bugs.run),
    "wild": (wild.Wild, wild.run),
    "lecture_notes": (lecture_notes.LectureNotes, lecture_notes.run),
    "tensors": (tensors.Tensors, tensors.run),
    "geometry": (geometry.Geometry, geometry.run),
    "computation_graph": (computation_graph.ComputationGraph, computation_graph.run),
    "autograd": (autograd.Autograd, autograd.run),
    "differences": (differences.Differences, differences.run),
    "minimize": (minimize.Minimize, minimize.run),
    "deep_network": (deep_network.DeepNetwork, deep_network.run),
    "step_size": (step_size.StepSize, step_size.run),
    "momentum": (momentum.Momentum, momentum.run),
    "clipped_loss": (clipped_loss.ClippedLoss, clipped_loss.run),
    "scaled_loss": (scaled_loss.ScaledLoss, scaled_loss.run),
    "jacobian": (jacobian.Jacobian, jacobian.run),
    "autoencoder": (autoencoder.Autoencoder, autoencoder.run),
    "per_sample": (per_sample.PerSample, per_sample.run),
    "torch_operators": (torch_operators.TorchOperators, torch_operators.run),
    "benchmark": (benchmark.Benchmark, benchmark.run),
}


def main(arguments: list[str]) -> int:
    """Runs what the command line asks for and returns the exit code: 2 for a bad one, 130 after Ctrl-C."""
    command = "python -m experiments"
    name = arguments[0] if arguments and not arguments[0].startswith("-") else None
    try:
        if name is None:
            about = f"Runs {', '.join(EXPERIMENTS)}. `{command} NAME --help` tells more of one."
            shared = dataclasses.asdict(parse(Options, arguments, command, about))
            runs = {name: EXPERIMENTS[name][0](**shared) for name in EXPERIMENTS}
        elif name in EXPERIMENTS:
            kind = EXPERIMENTS[name][0]
            runs = {name: parse(kind, arguments[1:], f"{command} {name}", kind.__doc__ or "")}
        else:
            raise BadOption(f"unknown experiment {name}; there are {', '.join(EXPERIMENTS)}")
        for options in runs.values():
            options.output.mkdir(parents=True, exist_ok=True)  # before the work, not after it
        for name, options in runs.items():
            try:
                run_one(name, options)
            except Missing as missing:
                if len(runs) == 1:
                    raise
                print(f"  skipped: {missing}", flush=True)
    except (BadOption, Missing, fn.InputError, OSError) as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. What was finished before is whole and in the report.", file=sys.stderr)
        return 130
    return 0


def run_one(name: str, options: Options) -> None:
    """Runs an experiment, keeps its result, and renders the report anew, so that it is whole after each."""
    print(f"{name} ...", flush=True)
    result = EXPERIMENTS[name][1](options)
    save(name, result, options)
    for line in result.observations:
        print(f"  {line}")
    print(f"  {write_report(options.output, EXPERIMENTS)}", flush=True)


def parse(kind: type[Options], arguments: list[str], program: str, about: str) -> Options:
    """The options from the flags. Raises BadOption with tyro's complaint in one line, where tyro would print a box."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, args=arguments, prog=program, description=about)
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
