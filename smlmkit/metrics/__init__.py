"""Measures of images as pure functions: arrays in, numbers out.

`rings` correlates two images in Fourier space, `frc` reads from this up to which spatial frequency
they agree, `spurious` takes off what emitters that blink often add to it, `local` does it tile by
tile, `decorrelation` judges one image. `likelihood` says how well an expected density foretells
localizations that it has not seen, `similarity` how close an image is to what it should be,
`filaments` whether two of them side by side are seen as two. Tables and DataArrays are known one
level up, in `smlmkit.resolution` and `smlmkit.scoring`.
"""
