"""The fusion explorer: one front end, drawn in the browser, for notebooks, as a page, and as one
file.

boundary.py: the plane that two decision boundaries span, and how far all of them moved
embedding.py: maps of features in the plane
engine.py: classifiers trained on a run's feature bank, and what follows from them
feed.py: frames on their way to whoever shows them
frames.py: what the front end is given
page.py: the explorer as a page, with a session behind it or saved as one file
session.py: the threads that train and make maps, and what they answer
widget.py: the explorer in a notebook
"""
