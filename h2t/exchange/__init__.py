"""What comes in and what goes out.

answers.py: what a run's steps answered, from what is recorded
export.py: a trained step as files that other software reads
predict.py: labels for new images
reference.py: a trained network of others as a run's stage 1
used.py: which step is used, what its classes are called, how images come to it
"""
