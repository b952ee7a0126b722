"""The toy of notebook 00: two classes in the plane, or in as many dimensions as a network has.

classes.py: two clouds of points, a linear classifier, and the forces that fusion puts on it
figure.py: the picture that a slider redraws
"""
