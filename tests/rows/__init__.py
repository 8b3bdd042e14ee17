"""The rows of the layers beyond dense, a file for each file of funcnn/layers."""

from rows import attention, branches, convolution, embedding, pooling, recurrent

ROWS = attention.ROWS | branches.ROWS | convolution.ROWS | embedding.ROWS | pooling.ROWS | recurrent.ROWS
