"""The toy of notebook 00: two classes in the plane, or in as many dimensions as a network has.

classes.py: two clouds of points, a linear classifier, and the forces that fusion puts on it
front.py: the toy whose points one drags, in a notebook or as a page
figure.py: the same on paper
"""
