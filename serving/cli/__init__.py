"""The `aisle` command, which trains and evaluates models as well as serves them: so this package imports from all of `models`."""
