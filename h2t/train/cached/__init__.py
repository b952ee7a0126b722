"""Stage 2 on a bank of features: many fusion ratios and seeds in seconds.

bank.py: the features of a run's frozen backbone, computed once
key.py: what tells one bank from another
fit.py: classifiers for many ratios and seeds, trained at once
descent.py: their steps, with the gradients written out
encode.py: the bank of an encoder
encoded.py: both stages of a run with an encoder
steps.py: one of them as a step of the run; exact beside cached
"""
