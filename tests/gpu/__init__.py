"""Everything worth knowing of h2t on a GPU, in two guarded calls.

prepare.py: what is carried to a machine without a network
plan.py: the sections in the order of their worth, and what each may take
lease.py: a child process each, results on file as they come
pages.py: what is brought home
trial.py: a stage of the product on random pixels
facts.py, parity.py, steps.py, whole.py, seeds.py, others.py: the sections
"""
