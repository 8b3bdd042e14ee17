"""What would take more memory than there is, is refused before it starts, with the figure.

A system that promises more memory than it has ends a process without a word once it is used, so a failing allocation is no
warning. What is free is the least that the machine, the container (its control group) and the process's own limit leave.
"""

import os
from pathlib import Path

import torch

from .errors import InputError

SMALL = 2**28  # bytes that are not worth a look
UNITS = {"PB": 1e15, "TB": 1e12, "GB": 1e9, "MB": 1e6}


def check_memory(place: str, what: str, size: int, device: torch.device | str = "cpu") -> None:
    """Raises InputError, saying what takes so many bytes, unless they are free on the device."""
    if size <= SMALL or torch.compiler.is_compiling():
        return
    free = free_memory(torch.device(device))
    if free is not None and size > free:
        raise InputError(place, f"{what} of {in_units(size)}", f"at most the {in_units(free)} of memory that are free")


def in_units(size: float) -> str:
    """Bytes as they are read, such as 41.4 GB."""
    unit = next((unit for unit, least in UNITS.items() if size >= least), "MB")
    return f"{size / UNITS[unit]:.3g} {unit}"


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had there; None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    left = [free for free in (_of_machine(), *_of_groups(), _of_process()) if free is not None]
    return max(0, min(left)) if left else None


def _of_machine() -> int | None:
    """What Linux can give without swapping; elsewhere all that is built in."""
    available = _field(Path("/proc/meminfo"), "MemAvailable:", 1024)
    if available is None and hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return available


def _of_groups(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What the control groups of the process leave, of version 2 or 1, each with those above it.

    A container often sees its own group as the root, whatever the process is told that its path is.
    """
    left = []
    for line in _text(proc).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "memory" if controllers else root
        limit, used = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        below = base / path.lstrip("/")
        for folder in dict.fromkeys((below, *(parent for parent in below.parents if parent.is_relative_to(base)), base)):
            most, now = _text(folder / limit).strip(), _text(folder / used).strip()
            if most.isdigit() and now.isdigit():
                # Pages of files that nobody has looked at lately are given back where they are wanted.
                cached = _field(folder / "memory.stat", "inactive_file ") or 0
                left.append(int(most) - int(now) + cached)
    return left


def _of_process() -> int | None:
    """What the limit of the process's addresses leaves."""
    limit = _field(Path("/proc/self/limits"), "Max address space")
    return None if limit is None else limit - (_field(Path("/proc/self/status"), "VmSize:", 1024) or 0)


def _field(path: Path, name: str, unit: int = 1) -> int | None:
    """The number that follows a name at the start of a line; None where there is none, or something else."""
    for line in _text(path).splitlines():
        number, *_ = line.removeprefix(name).split() or [""]
        if line.startswith(name) and number.isdigit():
            return int(number) * unit
    return None


def _text(path: Path) -> str:
    """What a file of the system says, nothing where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""
