"""Many runs, and images of one's own.

sweep: a grid of runs, planned, driven and gone on with
compare: tables, tests and verdicts
report: static pages
own.py: all heads on an encoder's features, and the best of them
"""
