"""Reproduce a figure of Lefebvre et al. 2020 or Berberich et al. 2021.

python -m benchmarks.reproduce lefebvre-2b --budget 30min

The budget is what all trainings of the figure take together on two cores: minutes (``30min``),
hours (``4h``), pairs for each training (``100000samples``), or ``paper``: a million pairs each and
the paper's own network, batches and step sizes. Simulating, predicting and scoring come on top,
some minutes. A command that was interrupted goes on where it was if it is given again.

Into --out come the table (CSV), everything with the published findings beside ours (JSON) and a
picture (PNG). Berberich's figures need the real fields: set SMLMKIT_TEST_DATA to the folder that
holds ``frcnet``, or give --data.
"""

import argparse
import os
from importlib import import_module
from pathlib import Path

from benchmarks.rendering import as_markdown
from benchmarks.reproduce.study import Budget, Study

FIGURES = (
    "lefebvre-2a",
    "lefebvre-2b",
    "lefebvre-3",
    "berberich-2",
    "berberich-3",
    "berberich-4a",
    "berberich-4c",
)


def main() -> None:
    """Reproduce the figures that are asked for, one after another."""
    options = parse_options()
    for name in options.figures:
        study = Study(name, options.budget, options.seed, options.out / name)
        module = import_module(f"benchmarks.reproduce.{name.replace('-', '_')}")
        if name.startswith("berberich"):
            finding = module.reproduce(study, options.data)
        else:
            finding = module.reproduce(study)
        study.write(finding)
        claims = [
            {"published": claim.published, "ours": claim.ours, "holds": str(claim.holds)}
            for claim in finding.claims
        ]
        print(f"\n{as_markdown(claims)}\n", flush=True)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reproduce", description=__doc__, formatter_class=formatter
    )
    data = os.environ.get("SMLMKIT_TEST_DATA")
    parser.add_argument(
        "figures", nargs="+", choices=FIGURES, metavar="FIGURE", help=", ".join(FIGURES)
    )
    parser.add_argument("--budget", type=Budget.parse, default="30min", help="30min by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=Path(data) / "frcnet" if data else None)
    parser.add_argument("--out", type=Path, default=Path("reproduction"))
    options = parser.parse_args()
    if options.data is None and any(name.startswith("berberich") for name in options.figures):
        parser.error("give --data or set SMLMKIT_TEST_DATA")
    return options


if __name__ == "__main__":
    main()
