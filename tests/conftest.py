"""What all tests share: the test data, hypothesis without surprises, and MPI tests that cannot hang."""
import os
import pathlib
import sys

import hypothesis
import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]

# Examples are the same in every run where CI is set, and always under MPI: ranks must draw alike.
UNDER_MPI = int(os.environ.get("OMPI_COMM_WORLD_SIZE") or os.environ.get("PMI_SIZE") or 1) > 1
hypothesis.settings.register_profile(
    "mpixfel", max_examples=25, deadline=None, database=None, derandomize=UNDER_MPI or bool(os.environ.get("CI")),
    suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("mpixfel")


@pytest.fixture(scope="session")
def shared_data():
    """The folder of the test data beside the checkout; tests that need it skip where it is missing."""
    folder = CHECKOUT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no test data in {folder}")
    return folder


def world():
    """COMM_WORLD in a run with --with-mpi on several ranks, otherwise None (and mpi4py stays unimported)."""
    if "mpi4py" not in sys.modules or not UNDER_MPI:
        return None
    from mpi4py import MPI
    return MPI.COMM_WORLD if MPI.COMM_WORLD.size > 1 else None


def pytest_configure(config):
    """Refuse ranks that do not see each other; let rank 0 alone talk."""
    if not config.getoption("--with-mpi", False):
        return
    from mpi4py import MPI
    started = int(os.environ.get("OMPI_COMM_WORLD_SIZE") or os.environ.get("PMI_SIZE") or 1)
    if MPI.COMM_WORLD.size != started:
        raise pytest.UsageError(f"mpirun started {started} ranks, this MPI sees {MPI.COMM_WORLD.size}: use the mpirun "
                                "of the environment (. bin/env)")


def pytest_sessionstart(session):
    if (comm := world()) and comm.rank > 0:
        session.config.pluginmanager.get_plugin("terminalreporter")._tw._file = open(os.devnull, "w")


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    """One rank that fails leaves the others in a collective for ever: say why, and end them all."""
    if report.failed and (comm := world()):
        print(f"\nrank {comm.rank} of {comm.size}: {report.nodeid} failed ({report.when})\n{report.longreprtext}",
              file=sys.__stderr__, flush=True)
        comm.Abort(1)
