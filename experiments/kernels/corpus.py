"""All kernels by name."""

from experiments.kernels import attentions, convolutions, norms, recurrent, scans, softmaxes
from experiments.kernels.kernel import Kernel

FILES = (norms, softmaxes, attentions, convolutions, scans, recurrent)
KERNELS: dict[str, Kernel] = {kernel.name: kernel for file in FILES for kernel in file.KERNELS}
