"""Damaged files by the thousand: `python -m tests.fuzz KIND --count N`.

A kind is a module here with ``run(seed, folder)``: it makes the damaged file of that seed in a
folder, reads it as h2t does, and returns what came of it, read or refused; whatever else is raised
is a fault. So is a case that takes more than ten seconds of the processor, or that asks for
gigabytes which no small file explains. ``damage.kind`` makes one of files that are there undamaged.
"""
