"""All kernels by name, and all cases."""

from experiments.kernels import (
    algebra,
    arguments,
    attentions,
    choices,
    contrasts,
    convolutions,
    gates,
    indexing,
    layouts,
    likelihoods,
    losses,
    masks,
    memory,
    metrics,
    mixing,
    norms,
    outputs,
    pairs,
    precisions,
    recurrent,
    rotary,
    scans,
    sequences,
    softmaxes,
    statistics,
    systems,
)
from experiments.kernels.kernel import Kernel
from experiments.kernels.operands import Case

FILES = (
    norms,
    softmaxes,
    attentions,
    rotary,
    convolutions,
    scans,
    recurrent,
    losses,
    contrasts,
    indexing,
    algebra,
    gates,
    metrics,
    layouts,
    choices,
    statistics,
    mixing,
    sequences,
    likelihoods,
    systems,
)
KERNELS: dict[str, Kernel] = {kernel.name: kernel for file in FILES for kernel in file.KERNELS}
CASES: dict[str, Case] = {
    case.name: case for file in (arguments, masks, outputs, pairs, memory, precisions) for case in file.CASES
}
