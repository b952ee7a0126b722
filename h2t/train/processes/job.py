"""One job of several processes: how they find one another, and end together, with one message."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from h2t.base.errors import Error

# messages with it begin a line, since a progress bar may stand unfinished
KEPT = (
    "what was trained up to the last checkpoint is kept: run the same command again, with any "
    "number of processes, to go on"
)


@contextlib.contextmanager
def job(device: str = "auto", minutes: float = 30.0) -> Iterator[str]:
    """Join the processes that torchrun started; end the job in all when one of them fails.

    What ends it is said once, on standard error; only the first process writes to standard output.

    Arguments: ``device`` auto or cuda, a GPU for each process and NCCL between them, or cpu and
    Gloo; ``minutes`` that a process waits for the others. Yields: the device of this process.
    Exits: 2 where ``h2t.Error`` is raised, 130 on Ctrl-C, 143 on SIGTERM, else 1.
    """
    end = _Ending()
    try:
        with _joined(device, minutes, end) as own:
            yield own
    except Error as e:
        end(f"Error: {e}", 2)
    except KeyboardInterrupt:
        end(f"interrupted; {KEPT}", 130)
    except Exception as e:
        if isinstance(e, dist.DistError) or "gloo" in str(e):  # Gloo raises plain RuntimeErrors
            end(f"\nError: another process has ended, or does not answer; {KEPT}", 1)
        end(traceback.format_exc(), 1)


@contextlib.contextmanager
def _joined(device: str, minutes: float, end: Callable[[str, int], None]) -> Iterator[str]:
    gpus = device != "cpu" and torch.cuda.is_available()
    patience = timedelta(minutes=minutes)
    store, rank, world = next(dist.rendezvous("env://", timeout=patience))
    store = dist.PrefixStore(_restart(), store)  # torchrun may keep it when it restarts
    how = {"store": store, "rank": rank, "world_size": world, "timeout": patience}
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", **how)
    master = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    end.store = dist.TCPStore(*master, is_master=False, timeout=timedelta(seconds=10))
    _on_sigterm(lambda: end(f"\nError: this job was stopped; {KEPT}", 143))
    own = own_device(device, int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]))
    on_gpu = torch.tensor(int(own.startswith("cuda")))
    dist.all_reduce(on_gpu)
    if int(on_gpu) not in (0, dist.get_world_size()):
        raise Error(
            f"{int(on_gpu)} of {dist.get_world_size()} processes have a GPU; use --device cpu, or "
            "only machines with GPUs"
        )
    with contextlib.ExitStack() as stack:
        if dist.get_rank():
            os.environ["TQDM_DISABLE"] = "1"
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        yield own
    dist.destroy_process_group()


def own_device(device: str, local_rank: int, local_world: int) -> str:
    """The device of one of ``local_world`` processes on a machine: a GPU of its own, or the CPU."""
    if device.startswith("cuda:"):
        raise Error(
            f"device is {device!r}, but each process takes a GPU of its own; use cuda, and choose "
            "GPUs by CUDA_VISIBLE_DEVICES"
        )
    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    gpus = torch.cuda.device_count()
    if local_world > gpus:
        raise Error(
            f"{local_world} processes on a machine with {gpus} GPUs; start at most that many "
            f"(--nproc_per_node={gpus}), or use --device cpu"
        )
    torch.cuda.set_device(local_rank)
    return f"cuda:{local_rank}"


def _restart() -> str:
    return f"h2t/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"


class _Ending:
    """Ends this process. Of all processes of a job, the first to end says why."""

    def __init__(self):
        self.store, self.lock = None, threading.Lock()

    def __call__(self, message: str, code: int) -> None:
        self.lock.acquire()  # for good: a signal may come while this process is about to speak
        if self._is_first():
            print(message.rstrip(), file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(code)  # tearing the connections down would wait for processes that are gone

    def _is_first(self) -> bool:
        if self.store is None:  # not joined yet
            return os.environ.get("RANK", "0") == "0"
        try:
            return self.store.add(f"{_restart()}/ended", 1) == 1
        except RuntimeError:  # the store went with who held it: better twice than not at all
            return True


def _on_sigterm(act: Callable[[], None]) -> None:
    """Call a function when SIGTERM arrives, in a thread: the main one may wait, deaf to signals."""
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(sender)

    def as_before() -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    os.register_at_fork(after_in_child=as_before)

    def wait() -> None:
        while os.read(receiver, 1)[0] != signal.SIGTERM:
            pass
        act()

    threading.Thread(target=wait, daemon=True).start()
