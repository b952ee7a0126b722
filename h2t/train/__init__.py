"""Both stages of training, on one device or in several processes.

prepare.py: from a source of images to a run's long-tailed data, recorded
rundata.py: those data, loaded and checked once, and handed from step to step
device.py: device, precision, threads and optimiser
stage1.py: the representation, on instance-wise batches
stage2.py: the classifier, on fused features of the frozen backbone
methods.py: what stage 2 may train besides the classifier, and by which loss
mixing.py: batches whose images are mixtures of two: mixup, CMO
schedule.py: the learning rate of an epoch
update.py: one step of the weights, eager or captured as a CUDA graph
loop.py: epochs, checkpoints and the result
evaluate.py: what a trained step answers
ready.py: what a process imports with its first optimiser
bn_statistics.py: statistics of batch normalisation, estimated for a frozen backbone
cached/: stage 2 on a bank of features, many ratios at once
processes/: several GPUs or machines
"""
