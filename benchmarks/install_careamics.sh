#!/usr/bin/env bash
# Makes the environment that `python -m benchmarks.careamics --peers DIR` trains CAREamics in:
#
#     benchmarks/install_careamics.sh DIR
#
# torch and numpy are those of constraints.txt, so that no difference is theirs. torch is the build
# for CPUs: where pip does not find it, name its index in PIP_EXTRA_INDEX_URL as pytorch.org says.
# CAREamics comes without its dependencies, since it asks for a torchvision that asks for an older
# torch; what it imports for Noise2Noise is named here and needs no torchvision.
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: $0 DIR" >&2
  exit 2
fi

python3 -m venv "$1"
python=$1/bin/python
"$python" -m pip install --quiet --disable-pip-version-check \
  torch==2.13.0+cpu numpy==2.4.6 bioimageio-core==0.11.0 lightning==2.6.6 matplotlib==3.11.2 \
  microssim==0.0.5 pillow==13.0.0 psutil==7.2.2 pydantic==2.14.1 pyyaml==6.0.3 \
  scikit-image==0.26.0 scipy==1.17.1 tifffile==2026.3.3 torchmetrics==1.8.2 zarr==3.1.6
"$python" -m pip install --quiet --disable-pip-version-check --no-deps careamics==0.3.5
cd "$(dirname "$0")/.."
# What it imports leaves folders in the home of who imports it.
HOME=$1 "$python" -c "import benchmarks.careamics_worker"
