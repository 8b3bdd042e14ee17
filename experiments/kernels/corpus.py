"""All kernels by name, and all cases."""

from experiments.kernels import (
    algebra,
    arguments,
    attentions,
    choices,
    convolutions,
    gates,
    indexing,
    layouts,
    losses,
    memory,
    metrics,
    norms,
    outputs,
    precisions,
    recurrent,
    scans,
    softmaxes,
)
from experiments.kernels.kernel import Kernel
from experiments.kernels.operands import Case

FILES = (
    norms,
    softmaxes,
    attentions,
    convolutions,
    scans,
    recurrent,
    losses,
    indexing,
    algebra,
    gates,
    metrics,
    layouts,
    choices,
)
KERNELS: dict[str, Kernel] = {kernel.name: kernel for file in FILES for kernel in file.KERNELS}
CASES: dict[str, Case] = {case.name: case for file in (arguments, outputs, memory, precisions) for case in file.CASES}
