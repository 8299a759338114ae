"""Measures of images as pure functions: arrays in, numbers out.

`frc` says up to which spatial frequency two images agree, `likelihood` how well an expected density
foretells localizations that it has not seen. Tables and DataArrays are known one level up, in
`smlmkit.resolution` and `smlmkit.scoring`.
"""
