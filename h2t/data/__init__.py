"""Images: where they come from, how a long tail is cut from them, how they reach the device.

arrays.py: one npz file in the MedMNIST layout, read and checked; a long tail packed into one
augment.py: mixup, CutMix and colour jitter
cache.py: image files decoded once, into a memory-mapped file
embeddings.py: features that others computed, in place of images
folders.py: which image files there are, by class folders
images.py: one image file as pixels
large.py: ImageNet-LT, Places-LT and iNaturalist 2018 by their list files
lists.py: which image files there are, by list files
longtail.py: class counts of a long tail, the seeded draw, what is held out
manifest.py: the record of which images a run is made from
resident.py: the loader of a set that lies on the device
samplers.py: an epoch of image indices, by which class is drawn how often
sources.py: every kind of source behind one ``load``
split.py: a part of a set: images, labels, classes
streamed.py: the loader of image files that are decoded whenever they are used
twins.py: images that are in two parts of a set, or nearly so
"""

# Names to choose from, here and not beside their code, since that needs torch.
SAMPLERS = ("instance", "balanced", "class_aware", "reversed", "effective_number", "square_root")
CROPS = ("padded", "resized")
PAD_VALUES = ("zero", "mean")
