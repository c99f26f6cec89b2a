"""A run of train.py that nothing disturbs, for those that something does."""

import pytest

from tests.training.running import Runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def undisturbed(runs):
    """Its losses."""
    code, _, err = runs.start("undisturbed").ended()
    assert code == 0, err
    return runs.losses("undisturbed")
