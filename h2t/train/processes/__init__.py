"""Training in several processes, with the numbers of one.

ranks.py: what a share of the batch and one writer mean
job.py: how the processes find one another, and end together
"""
