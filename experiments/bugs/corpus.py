"""The corpus: every planted bug of every catalogue, by name."""

from experiments.bugs import functions, layers, losses, networks, parts, state
from experiments.bugs.mistakes import Bug

CATALOGUES = (layers, losses, functions, networks, parts, state)
CORPUS: dict[str, Bug] = {name: bug for catalogue in CATALOGUES for name, bug in catalogue.BUGS.items()}
