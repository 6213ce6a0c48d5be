import pytest
from synthetic_run import SyntheticRun, two_part_run


@pytest.fixture(scope="session")
def run() -> SyntheticRun:
    return two_part_run()
