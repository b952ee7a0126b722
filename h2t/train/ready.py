"""What a process imports with its first optimiser, some seconds' worth: for those that jobs are
forked from."""

import torch

torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
