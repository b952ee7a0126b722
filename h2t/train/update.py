"""One update of the weights, operation by operation or captured once as a CUDA graph and replayed.

Launching the many small kernels of a step one by one takes longer than they run. A graph reads its
inputs from fixed buffers, so each new batch is copied into them; the learning rate is a tensor on
the device; nothing may draw random numbers or wait for the host.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable

import torch
from torch import nn

from h2t.train.processes.ranks import ALONE, Ranks

# updates before a capture, in which libraries choose their kernels; the weights are then put back
WARM_UP = 3


class Update:
    """``loss = update(*inputs)``: gradients of ``loss_of(*inputs)``, one step of the optimiser, the
    loss (a scalar, detached).

    Inputs are tensors or None. For each combination of shapes and Nones a graph of its own is
    captured, so that a short last batch has one too. Capturing changes no result.

    Arguments: ``optimizer`` with its state restored; ``capturable`` False where ``loss_of`` needs
    the host; ``capture`` from a function to its result and what computes that anew in its place, by
    default ``cuda_graph`` on CUDA unless H2T_EAGER=1; ``ranks`` whose gradients are added up.
    """

    def __init__(
        self,
        loss_of: Callable,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        *,
        capturable: bool = True,
        capture: Callable | None = None,
        ranks: Ranks = ALONE,
    ):
        eager = os.environ.get("H2T_EAGER", "0") not in ("", "0")
        if capture is None and device.type == "cuda" and not eager:
            capture = cuda_graph(device)
        self.loss_of, self.model, self.optimizer, self.ranks = loss_of, model, optimizer, ranks
        self.capture = capture if capturable else None
        self.graphs: dict[tuple, tuple] = {}  # signature: (static inputs, static loss, replay)
        for group in optimizer.param_groups:
            rate = float(group["lr"])  # a number would be captured as a constant
            group["lr"] = torch.tensor(rate, device=device) if self.capture else rate

    @property
    def kind(self) -> str:
        return "graph" if self.capture else "eager"

    def __call__(self, *inputs: torch.Tensor | None) -> torch.Tensor:
        if self.capture is None:
            return self._once(inputs)
        signature = tuple(None if t is None else (t.shape, t.dtype) for t in inputs)
        if signature not in self.graphs:
            try:
                self.graphs[signature] = self._captured(inputs)
            except RuntimeError as e:
                warnings.warn(
                    "the update cannot be captured as a CUDA graph, training goes on without, "
                    f"more slowly: {e}",
                    stacklevel=2,
                )
                self.capture = None
                return self._once(inputs)
        static, loss, replay = self.graphs[signature]
        for own, given in zip(static, inputs, strict=True):
            if given is not None:
                own.copy_(given, non_blocking=True)
        replay()
        return loss.clone()

    def _once(self, inputs) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss_of(*inputs)
        loss.backward()
        self.ranks.sum_gradients(self.model)
        self.optimizer.step()
        return loss.detach()

    def _captured(self, inputs) -> tuple:
        static = tuple(None if t is None else t.detach().clone() for t in inputs)
        with _unchanged(self.model, self.optimizer), _fastest():
            with _side_stream(self.model):
                for _ in range(WARM_UP):
                    self._once(static)
            # gradients then live in the graph's own memory
            self.optimizer.zero_grad(set_to_none=True)
        with _fastest():
            loss, replay = self.capture(lambda: self._once(static))
        return static, loss, replay


@contextlib.contextmanager
def _fastest():
    """Let cuDNN try its kernels and keep the fastest, once for all replays, unless deterministic
    ones are asked for."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark
    cudnn.benchmark = not cudnn.deterministic
    try:
        yield
    finally:
        cudnn.benchmark = before


@contextlib.contextmanager
def _unchanged(model: nn.Module, optimizer: torch.optim.Optimizer):
    """Put weights, statistics and momenta back afterwards; one that was not there becomes zero,
    which is the same."""
    tensors = [*model.parameters(), *model.buffers()]
    momenta = {
        p: state["momentum_buffer"].clone()
        for p, state in optimizer.state.items()
        if state.get("momentum_buffer") is not None
    }
    kept = [t.detach().clone() for t in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for t, old in zip(tensors, kept, strict=True):
                t.copy_(old)
            for p, state in optimizer.state.items():
                if (buffer := state.get("momentum_buffer")) is not None:
                    buffer.copy_(momenta[p]) if p in momenta else buffer.zero_()


@contextlib.contextmanager
def _side_stream(model: nn.Module):
    """Work on another stream than the default one, as a capture's warm-up must."""
    device = next(model.parameters()).device
    if device.type != "cuda":
        yield
        return
    stream, main = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(main)
    with torch.cuda.stream(stream):
        yield
    main.wait_stream(stream)


def cuda_graph(device: torch.device) -> Callable:
    """A ``capture`` of ``Update``, by CUDA graphs in one pool of memory. ``torch.cuda.graph`` would
    capture on the current device, whatever the model's, and where that fails leave its stream
    current and hide the error behind a second.
    """
    stream, pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def capture(work: Callable) -> tuple:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):  # which makes its device the current one
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                result = work()
            except BaseException:
                with contextlib.suppress(RuntimeError):  # of the capture that is void by now
                    graph.capture_end()
                raise
            graph.capture_end()
        torch.cuda.current_stream(device).wait_stream(stream)
        return result, graph.replay

    return capture
