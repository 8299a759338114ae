import filecmp
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from smlmkit import Localizations, N2NReconstructor, reconstruct_field
from smlmkit.batch.events import Progress
from smlmkit.errors import StoppedError


@pytest.fixture(scope="session")
def blinks():
    """Give clusters on a field of view of 4 x 4 tiles of 256 pixels, some of which are empty."""
    random = np.random.default_rng(0)
    centers = random.uniform([0, 0], [4000, 10_000], size=(60, 2))
    points = (centers[:, np.newaxis] + random.normal(0, 60, size=(60, 50, 2))).reshape(-1, 2)
    columns = {
        "y": points[:, 0].clip(0, 7699),
        "x": points[:, 1].clip(0, 9999),
        "frame": np.arange(3000),
        "photons": random.integers(100, 1000, 3000),
        "uncertainty_x": random.uniform(5, 15, 3000),
        "uncertainty_y": random.uniform(5, 15, 3000),
    }
    metadata = {"source": "blinks"}
    return Localizations(columns, field_of_view=(0, 0, 7705, 10_000), metadata=metadata)


@pytest.fixture(scope="session")
def network(blinks):
    """Give a small network that has learned a little."""
    model = N2NReconstructor(
        *("dynamic",), pixel_size=10, depth=2, width=4, patch_size=32, batch_size=8,
        max_samples=64, epoch_size=32, random_state=0, device="cpu", verbose=0,
    )  # fmt: skip
    return model.fit(blinks)


@pytest.fixture
def differing_files():
    """Give a function that lists the files which differ between two folders."""

    def list_differing(first, second):
        names = [
            {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
            for root in (first, second)
        ]
        _, mismatched, errors = filecmp.cmpfiles(first, second, names[0] & names[1], shallow=False)
        return sorted((names[0] ^ names[1]) | set(mismatched) | set(errors))

    return list_differing


class StopAfter(Progress):
    """Stop a run when so many pieces of work are done, as Ctrl-C would."""

    def __init__(self, n, stop):
        super().__init__(enabled=False)
        self.n, self.stop_event = n, stop

    @contextmanager
    def stage(self, *args, **kwargs):
        with super().stage(*args, **kwargs) as advance:

            def count(n):
                self.n -= n
                if self.n <= 0:
                    self.stop_event.set()
                advance(n)

            yield count


@pytest.fixture
def stop_after():
    """Give a function that reconstructs so many tiles of a field, or a few more, and stops."""

    def stop_field_after(n, estimator, table, store, **options):
        stop = threading.Event()
        with pytest.raises(StoppedError):
            reconstruct_field(
                estimator, table, store, tile=256, progress=StopAfter(n, stop), stop=stop, **options
            )

    return stop_field_after
