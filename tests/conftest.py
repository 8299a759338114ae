import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from joblib.externals.loky import get_reusable_executor

from smlmkit import _threads


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


@pytest.fixture
def joblib_workers():
    """End joblib's processes after a test that has used them.

    They end themselves after five idle minutes; a search that begins just then may never end.
    """
    yield
    get_reusable_executor().shutdown(wait=True)


@pytest.fixture
def nine_threads(monkeypatch):
    """Let up to nine threads work, however few cores there are."""
    with ThreadPoolExecutor(9, thread_name_prefix="smlmkit") as pool:
        monkeypatch.setattr(_threads, "default_threads", lambda: 9)
        monkeypatch.setattr(_threads, "_pool", pool)
        yield
