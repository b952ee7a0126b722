"""Damaged files by the thousand: `python -m tests.fuzz KIND --count N`.

A kind is a module here with ``run(seed, folder)``: it makes the damaged file of that seed in a
folder, reads it as h2t does, and returns what came of it, read or refused; whatever else is raised
is a fault.
"""
