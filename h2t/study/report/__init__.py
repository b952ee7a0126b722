"""A folder of runs for people who have no h2t: static pages, and event files for TensorBoard.

site.py: which pages there are, made again only where something has changed
pages.py: a notebook or the index as a page, by the templates beside it
tensorboard.py: learning curves as event files
"""
