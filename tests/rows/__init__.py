"""The rows of the layers beyond dense, a file for each file of funcnn/layers."""

from rows import attention, branches, embedding, recurrent

ROWS = attention.ROWS | branches.ROWS | embedding.ROWS | recurrent.ROWS
