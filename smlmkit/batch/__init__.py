"""Fields of any size and folders of acquisitions: tile by tile, on Dask, with nothing ever lost."""
