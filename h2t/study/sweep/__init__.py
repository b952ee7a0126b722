"""Many runs: a grid planned, its jobs run, watched, and gone on with after whatever stopped them.

plan.py: from a recipe with lists to jobs, checked as a whole
drive.py: the jobs in their order, until none is left
job.py: one job, in a process and a run directory of its own
pool.py: the processes of this machine
cluster.py: those of a Ray cluster
store.py: runs that lie in an object store
board.py: how far a sweep is
"""
