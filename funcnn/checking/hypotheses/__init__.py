"""Hypotheses on a wrong gradient: generators of the causes that explain it."""
