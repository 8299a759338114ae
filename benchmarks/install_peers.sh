#!/usr/bin/env bash
# Makes the environment of the peers that `python -m benchmarks.rendering --peers DIR` and
# `python -m benchmarks.frc --peers DIR` measure:
#
#     benchmarks/install_peers.sh DIR
#
# They are no dependencies of the project. numpy, scipy and numba are those of constraints.txt, so
# that no difference is theirs. Picasso and SMAPpy come without their dependencies, most of which
# are for windows and cameras; named here is what importing their renderers and FRC takes.
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: $0 DIR" >&2
  exit 2
fi

python3 -m venv "$1"
python=$1/bin/python
"$python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.4.6 fast-histogram==0.14 boost-histogram==1.8.1 locan==0.22.0 nanopyx==2.1.5 \
  h5py==3.16.0 imageio==2.37.3 matplotlib==3.10.8 nd2==0.11.3 numba==0.68.1 pandas==2.3.3 \
  playsound3==3.3.1 pyyaml==6.0.3 scikit-learn==1.7.2 scipy==1.17.1 sqlalchemy==2.0.49 \
  statsmodels==0.15.0 tifffile==2026.3.3 tqdm==4.67.3
"$python" -m pip install --quiet --disable-pip-version-check --no-deps \
  picassosr==0.11.3 smappy-smlm==0.4.1
# NanoPyx leaves a folder in the home of who imports it.
HOME=$1 "$python" -c "
import boost_histogram, fast_histogram, locan.analysis.fourier_ring_correlation
import nanopyx.core.analysis.frc, picasso.postprocess, picasso.render, smappy.frc, smappy.render
assert smappy.render._render is not None, 'SMAPpy came without its C++ renderer'
"
