"""Stage 2 on a bank of features: many fusion ratios and seeds in seconds.

bank.py: the features of a run's frozen backbone
fill.py: how they are computed, once
encode.py: and those of an encoder
key.py: where a bank lies, and which files it has
fit.py: classifiers for many ratios and seeds, trained at once
descent.py: their steps, with the gradients written out
encoded.py: both stages of a run with an encoder
steps.py: one of them as a step of the run; exact beside cached
"""
