"""What each test costs in processor seconds, children included: ``pytest -n0 -p tests.cpu``.

Unlike the wall time of ``--durations`` it says the same on a machine that others use too.
"""

import contextlib
import resource

import psutil
import pytest

SPENT: dict[str, float] = {}
MOST = 30


def _now() -> float:
    """The seconds so far of this process, of those that it started and of those they started."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    ended = sum(used.ru_utime + used.ru_stime for used in both)
    return ended + sum(map(_running, psutil.Process().children(recursive=True)))


def _running(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        return sum(process.cpu_times()[:4])
    return 0.0


def _phase(name: str):
    @pytest.hookimpl(wrapper=True)
    def counted(item):
        before = _now()
        try:
            return (yield)
        finally:
            test = item.nodeid if name == "call" else f"{item.nodeid} ({name})"
            SPENT[test] = _now() - before

    return counted


pytest_runtest_setup = _phase("setup")
pytest_runtest_call = _phase("call")
pytest_runtest_teardown = _phase("teardown")


def pytest_terminal_summary(terminalreporter) -> None:
    """A line for each of the costliest tests, then one for each file, and the whole."""
    files: dict[str, float] = {}
    for test, spent in SPENT.items():
        files[test.split("::")[0]] = files.get(test.split("::")[0], 0.0) + spent
    for costs in (SPENT, files):
        terminalreporter.write_sep("-", "processor seconds")
        for name in sorted(costs, key=costs.get, reverse=True)[:MOST]:
            terminalreporter.write_line(f"{costs[name]:8.2f} {name}")
    terminalreporter.write_line(f"{_now():8.2f} in all, {sum(SPENT.values()):.2f} in tests")
