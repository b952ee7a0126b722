"""The kernel that runs the notebooks: this environment's own, whatever Jupyter's path holds."""

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager


class OwnKernel(AsyncKernelManager):
    """A manager that looks into no folder of kernels: python3 is this Python's ipykernel."""

    def __init__(self, **how):
        super().__init__(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]), **how)
