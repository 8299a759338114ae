import subprocess
import sys

import pytest

import smlmkit

HEAVY = ("torch", "dask", "matplotlib")


def modules_after(code):
    """Run code in a fresh interpreter and list the modules that it loaded."""
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import smlmkit",
        "from smlmkit import Localizations, Renderer, read_localizations",
    ],
)
def test_importing_loads_nothing_heavy(code):
    assert not modules_after(code).intersection(HEAVY)


def test_importing_the_package_alone_loads_no_other_library():
    loaded = modules_after("import smlmkit")
    assert not loaded.intersection({"numpy", "pandas", "xarray", "sklearn", "numba"})


@pytest.mark.parametrize("name", smlmkit.__all__)
def test_every_public_name_can_be_reached(name):
    value = getattr(smlmkit, name)
    assert getattr(value, "__name__", name) == name
    assert getattr(smlmkit, name) is value


def test_dir_lists_the_public_names():
    assert set(smlmkit.__all__) <= set(dir(smlmkit))
    assert len(set(smlmkit.__all__)) == len(smlmkit.__all__)


def test_public_names_can_be_imported_by_star():
    namespace = {}
    exec("from smlmkit import *", namespace)
    assert set(smlmkit.__all__) <= set(namespace)


def test_a_wrong_name_raises_as_everywhere():
    with pytest.raises(AttributeError, match="'smlmkit' has no attribute 'Rendrer'"):
        smlmkit.Rendrer  # noqa: B018
    with pytest.raises(ImportError):
        exec("from smlmkit import Rendrer", {})
