"""What people touch: the notebooks, the fusion explorer, the toy of notebook 00.

books: the notebooks, run by papermill, and what their cells call
explorer: the fusion explorer, as a widget and as a page
toy: two classes in the plane, for notebook 00
front.py: the front ends of static/ as scripts and as pages
payload.py: the format in which what they show travels
server.py: a page's server
"""
