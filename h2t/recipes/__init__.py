"""What a run is made from, and what it is called.

parameters.py: the parameters of both stages, each with its default, limits and text
images.py: those of the images and their long tail
validation.py: how they are checked, and what is refused in one sentence
combinations.py: what goes together and what does not
listing.py: the parameters as people read them
grid.py: from a recipe with lists and ranges to the points of a grid
methods.py: methods by name, read from methods.yaml
published.py: the numbers that others published, read from published.csv
names.py: what the field calls a step
shipped.py: the recipes that come with h2t, by name
"""
