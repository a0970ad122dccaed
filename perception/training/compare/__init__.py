"""A comparison of systems: a list of rows, each trained, evaluated and timed under one budget.

A row is a configuration and a seed. Its phases (train, test, without_<sensor>, latency) leave a JSON each in
the row's folder; a phase whose file is there, made with the same settings, is left out. `table` makes the
table of these files.
"""
