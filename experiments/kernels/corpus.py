"""All kernels by name."""

from experiments.kernels import (
    algebra,
    attentions,
    choices,
    convolutions,
    gates,
    indexing,
    layouts,
    losses,
    metrics,
    norms,
    recurrent,
    scans,
    softmaxes,
)
from experiments.kernels.kernel import Kernel

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
