"""The process in which one number of threads is measured: `python -m experiments.benchmark.worker THREADS SEED DEVICE ...`.

A process of its own because JAX and OpenMP fix their threads when they start. With one thread it is also bound to one
core, so that no side can use a second one unnoticed. Prints a JSON line for each row.
"""

import json
import os
import sys


def confine(threads: int) -> None:
    """Sets the environment before any library reads it."""
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])


def main(threads: int, seed: int, device: str, sections: list[str]) -> None:
    """Runs the sections and prints what they find as it comes."""
    import torch

    from experiments.benchmark import differences, files, growth, networks, overheads, samples, steps
    from experiments.benchmark.measure import Race

    torch.set_num_threads(threads)
    race = Race(threads, device)
    of_sections = {
        "step": steps.run,
        "large": steps.run_large,
        "networks": networks.run,
        "differences": differences.run,
        "samples": samples.run,
        "overheads": overheads.run,
        "files": files.run,
    }
    for section in sections:
        generator = torch.Generator().manual_seed(seed)
        if section == "growth":
            print(json.dumps(["growth", growth.run(threads, generator, device)]), flush=True)
            continue
        for row in of_sections[section](race, generator):
            print(json.dumps(["row", row]), flush=True)


if __name__ == "__main__":
    confine(int(sys.argv[1]))
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
