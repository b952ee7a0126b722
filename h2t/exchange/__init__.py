"""What comes in and what goes out.

export.py: a trained step as files that other software reads
predict.py: labels for new images
reference.py: a trained network of others as a run's stage 1
"""
