"""The bytes that a process has sent, as the kernel counts them, and what formulas say that a step of each scheme sends.

Linux counts for each TCP connection what the other side has acknowledged. Gloo sends along a ring, each piece in messages
with headers: so what is counted is the formula and a number of headers, which the size of a tensor does not change.

    scheme                        bytes that a rank sends, b a number
    all-reduce of n numbers       2 (R - 1)/R b n              each 1/R of them is added up around the ring, then goes around
    all-gather of n of each       (R - 1) b n                  each rank's go around
"""

import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

TCP_INFO_SIZE, ACKNOWLEDGED = 232, 120  # of struct tcp_info, and where in it tcpi_bytes_acked stands
HEADERS = 288  # bytes of the messages of one piece on its way to the next rank


def sent() -> dict[Any, int]:
    """The bytes that this process has sent and that have arrived, for each TCP connection that it has now."""
    found = {}
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):
                continue
            copy = socket.socket(fileno=os.dup(int(descriptor)))
        except OSError:
            continue  # it was closed in the meantime
        with copy:
            try:
                info = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
                ends = copy.getsockname(), copy.getpeername()
            except OSError:
                continue  # no TCP, or nobody at the other end
            if len(info) >= ACKNOWLEDGED + 8:
                found[ends] = struct.unpack_from("Q", info, ACKNOWLEDGED)[0]
    return found


def settled() -> dict[Any, int]:
    """The same once nothing is on its way any more."""
    before, now = None, sent()
    while now != before:
        time.sleep(0.05)
        before, now = now, sent()
    return now


def counted(step: Callable[[], Any], times: int = 4) -> float:
    """The bytes that this rank sends for a call of a function that all ranks call, the mean over some calls."""
    step()
    before = settled()
    for _ in range(times):
        step()
    after = settled()
    dist.barrier()  # a rank that is done closes its connections
    return sum(after[ends] - before[ends] for ends in before) / times


def of_ranks(number: float) -> list[float]:
    """What every rank has for this number."""
    table = [torch.zeros(1, dtype=torch.float64, device="cpu") for _ in range(dist.get_world_size())]
    dist.all_gather(table, torch.tensor([number], dtype=torch.float64, device="cpu"))
    return [float(x) for x in table]


def all_reduce(numbers: int, ranks: int, size: int) -> float:
    """Bytes that a rank sends in an all-reduce."""
    return 2 * (ranks - 1) / ranks * size * numbers


def all_gather(numbers: int, ranks: int, size: int) -> float:
    """Bytes that a rank sends in an all-gather of so many numbers of each rank."""
    return (ranks - 1) * size * numbers
