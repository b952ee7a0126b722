"""What each test costs in processor seconds, children included: ``pytest -n0 -p tests.cpu``.

Unlike the wall time of ``--durations`` it says the same on a machine that others use too. A child
counts where it is waited for, so a server's seconds stand at the teardown that ends it.
"""

import resource

import pytest

SPENT: dict[str, float] = {}
MOST = 30


def _now() -> float:
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


@pytest.hookimpl(hookwrapper=True)
def _phase(item):
    before = _now()
    yield
    SPENT[item.nodeid] = SPENT.get(item.nodeid, 0.0) + _now() - before


pytest_runtest_setup = pytest_runtest_call = pytest_runtest_teardown = _phase


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
