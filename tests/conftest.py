import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data():
    """Give the folder of real files; without it a test is skipped, except where CI must have it."""
    folder = os.environ.get("SMLMKIT_TEST_DATA")
    if folder:
        return Path(folder)
    message = "SMLMKIT_TEST_DATA names no folder of real files"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
