"""Several ranks on this machine, over gloo on loopback: python tests/together.py MODULE FUNCTION RANKS FOLDER.

One process imports the library and forks the ranks, which call FUNCTION(rank, size, folder) of MODULE; what each returns is
in the file FOLDER/RANK. The exit code of a rank is that of its process, and none outlives the time given.
"""

import importlib
import os
import subprocess
import sys
import time
import traceback
import warnings
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

import funcnn as fn

SECONDS = 120


def together(module, function, size, folder, seconds=SECONDS):
    """What the ranks return, in their order; None of one that was killed."""
    root = Path(fn.__file__).parents[1]
    paths = os.pathsep.join([str(root), str(root / "tests")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, __file__, module, function, str(size), str(folder), str(seconds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds + 30)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [folder / str(rank) for rank in range(size)]
    return [torch.load(path, weights_only=False) if path.exists() else None for path in found]


def main(module, function, size, folder, seconds):
    """Forks the ranks and waits for them; ends those that are left, and exits with 1 where one raised an error."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)  # torch's own, at its first jvp
    call = getattr(importlib.import_module(module), function)
    children = {}
    for rank in range(size):
        child = os.fork()
        if not child:
            os._exit(work(call, rank, size, folder))
        children[child] = rank
    failed, end = 0, time.monotonic() + seconds
    while children and time.monotonic() < end:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            children.pop(child)
            failed |= os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0
        time.sleep(0.01)
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
    if children:
        print(f"ranks {sorted(children.values())} of {size} did not end within {seconds} s", file=sys.stderr)
    return int(failed or bool(children))


def work(call, rank, size, folder):
    """One rank: 0 where it returned, 1 where it raised an error, which is printed."""
    try:
        store = f"file://{folder}/store"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=timedelta(seconds=60))
        torch.save(call(rank, size, folder), folder / f"{rank}.part")
        (folder / f"{rank}.part").rename(folder / str(rank))
        dist.destroy_process_group()
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3], int(sys.argv[3]), Path(sys.argv[4]), float(sys.argv[5])))
