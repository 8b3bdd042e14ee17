"""The rows of the layers beyond dense, a file for each file of funcnn/layers."""

from rows import activations, attention, branches, convolution, embedding, modules, normalisation, pooling, recurrent

SUBJECTS = activations, attention, branches, convolution, embedding, modules, normalisation, pooling, recurrent
ROWS = {name: row for subject in SUBJECTS for name, row in subject.ROWS.items()}
