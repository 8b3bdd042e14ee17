import json
import subprocess
import sys
from pathlib import Path

import funcnn as fn
from experiments.distributed.measure import environment
from experiments.distributed.wire import HEADERS


def test_two_ranks_show_all_of_it_under_torchrun(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "experiments", "distributed", "--steps=3", "--hidden=2", f"--output={tmp_path}"]
    root = Path(fn.__file__).parents[1]
    done = subprocess.run(command, env=environment(), cwd=root, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "distributed" / "result.json").read_text())["numbers"]
    assert numbers["ranks"] == 2
    for name, each in numbers["distances"].items():
        assert each["between ranks"] == 0
        assert each["from one process"] < (1e-5 if "difference" in name else 1e-12), name
    for each in numbers["traffic"].values():
        assert each["counted"] == each["formula"] + HEADERS * each["pieces"]
    life = numbers["life"]
    assert life["named"] == "rank 1 of 2 ended" and life["seconds"] < 60
    assert life["steps kept"] == 20 < life["steps"] and life["from one process"] < 1e-12
