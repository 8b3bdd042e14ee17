"""Processes in which cases run: what they take of memory is bounded, and a case may end one without ending the run."""

import contextlib
import json
import resource
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from queue import Empty, Queue
from typing import Any, NamedTuple

import torch

from experiments.fuzz.case import Call, Case, case
from experiments.fuzz.hostile import spoilers
from experiments.fuzz.judge import SECONDS, Ending, judged

GIB = 2**30
ROWS, PLANTED = "experiments.fuzz.rows", "experiments.fuzz.planted"


class Ended(NamedTuple):
    """A case by its number, what it was, and how it ended."""

    number: int
    what: str
    ending: Ending


def table(module: str) -> Mapping[str, Call]:
    """The calls of a module."""
    calls: Mapping[str, Call] = import_module(module).CALLS
    return calls


def drawn(module: str, seed: int, number: int) -> Case:
    """The case of a number."""
    return case(table(module), spoilers, seed, number)


def run(
    seed: int, numbers: Sequence[int], *, processes: int = 2, module: str = ROWS, seconds: float = SECONDS
) -> Iterator[Ended]:
    """Every case of these numbers, in the order in which they end."""
    results: Queue[Ended | None] = Queue()
    threads = []
    for index in range(processes):
        arguments = (module, seed, list(numbers)[index::processes], seconds, results)
        threads.append(threading.Thread(target=_supervised, args=arguments, daemon=True))
        threads[-1].start()
    left = len(threads)
    while left:
        ended = results.get()
        left -= ended is None
        if ended is not None:
            yield ended


def _supervised(module: str, seed: int, numbers: list[int], seconds: float, results: "Queue[Ended | None]") -> None:
    """Runs cases in a process, and in another one from the next on where it ended or came to no end."""
    while numbers:
        command = [sys.executable, "-m", "experiments.fuzz.workers", module, str(seed), str(seconds)]
        worker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert worker.stdin is not None and worker.stdout is not None
        lines: Queue[str] = Queue()
        reader = threading.Thread(target=_lines, args=(worker.stdout, lines), daemon=True)
        reader.start()
        with contextlib.suppress(OSError):
            worker.stdin.write(f"{json.dumps(numbers)}\n")
            worker.stdin.close()
        what, number = "the first case", numbers[0]
        try:
            while numbers:
                line = lines.get(timeout=60 + 3 * seconds)
                if not line:
                    raise EOFError
                record = json.loads(line)
                number, what = record["number"], record["what"]
                if "ending" in record:
                    results.put(Ended(number, what, Ending(*record["ending"])))
                    numbers.remove(number)
        except (Empty, EOFError) as error:
            worker.kill()
            how = "no end" if isinstance(error, Empty) else "the end of the process"
            results.put(Ended(number, what, Ending(how, f"exit status {worker.wait()}", what)))
            numbers.remove(number)
        worker.wait()
        reader.join()
        worker.stdout.close()
    results.put(None)


def _lines(stream: Any, lines: "Queue[str]") -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _work(module: str, seed: int, seconds: float) -> None:
    """Runs the cases that standard input names, a line before and a line after each."""
    calls = table(module)
    for name in calls:
        calls[name].draw(torch.Generator().manual_seed(0))  # what is imported and kept by the first call
    within(GIB)
    out = sys.stdout
    sys.stdout = sys.stderr
    for number in json.loads(sys.stdin.readline()):
        one = drawn(module, seed, number)
        print(json.dumps({"number": number, "what": str(one)[:300]}), file=out, flush=True)
        ending = judged(one, seconds)
        print(json.dumps({"number": number, "what": str(one)[:300], "ending": ending}), file=out, flush=True)


def within(more: int) -> None:
    """From now on this process may have so many bytes more than it has."""
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + more, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    _work(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
