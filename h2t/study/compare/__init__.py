"""Which of many runs is really better: tables, averages, paired tests, and what may be said.

table.py: every finished step under a folder as a row
choose.py: rows by a condition, which is read and never run
groups.py: rows that may be averaged, and what of them is unlike
units.py: what counts as one observation: a stage 1 on a split
significance.py: paired tests across stage 1s
images.py: tests across test images, of two networks
overview.py: a run or a folder in a few lines, and how a run ends
ledger.py: rows of a table with what they rest on
control.py: fusion by BN statistics
reproduce.py: beside the published numbers
select.py: the best setting by a validation part
paste.py: the comparison in Markdown and LaTeX
heads.py: all heads on frozen features, tuned alike
"""
