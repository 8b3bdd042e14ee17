"""The gradient check that says what is wrong: see `check`; and `vjp`, the same for a backward rule alone."""
