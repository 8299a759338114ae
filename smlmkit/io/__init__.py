"""Files: one module a format; tables and images find the right one."""

from smlmkit.io.acquisitions import scan_acquisitions
from smlmkit.io.images import write_image
from smlmkit.io.ome_zarr import read_image
from smlmkit.io.tables import read_localizations, write_localizations

__all__ = [
    "read_image",
    "read_localizations",
    "scan_acquisitions",
    "write_image",
    "write_localizations",
]
