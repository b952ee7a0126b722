"""What everything stands on.

choices.py: names to choose from whose own files need torch
errors.py: the one exception that a user meets
files.py: whose a folder is, and files written and removed safely
machine.py: the machine and the code that a result comes from
progress.py: progress bars
readers.py: the one door for every file that is read
rng.py: random streams
tables.py: tables as text or Markdown
"""
