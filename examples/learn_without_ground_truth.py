"""Learn to reconstruct sparse fields of view, choose between estimators, and write the image.

python examples/learn_without_ground_truth.py --seconds 120 --out reconstruction.png
"""

import argparse
from pathlib import Path

from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from smlmkit import (
    FRCScorer,
    GaussianKDE,
    N2NReconstructor,
    PoissonScorer,
    Renderer,
    make_microtubules,
    write_image,
)

parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float, default=120)
parser.add_argument("--out", type=Path, default=Path("reconstruction.png"))
options = parser.parse_args()

# Four fields of view; with your own: [read_localizations(path) for path in ...].
fovs = [
    make_microtubules(field_size=5000, n_filaments=12, density=150, random_state=seed)[0]
    for seed in range(4)
]
training, unseen = fovs[:3], fovs[3]
print(unseen)

# The best Gaussian, by the likelihood of held-out localizations: the FRC is blind to its width.
gaussian = GridSearchCV(
    Pipeline([("render", Renderer(pixel_size=10)), ("kde", GaussianKDE())]),
    {"kde__sigma": [10, 20, 30, 40, 60]},
    scoring=PoissonScorer(),
    cv=3,
    error_score="raise",
).fit(training)
print("best Gaussian:", gaussian.best_params_)

n2n = N2NReconstructor(
    width=16,
    batch_size=16,
    learning_rate=1e-3,
    schedule="linear",
    max_seconds=options.seconds,
    random_state=0,
).fit(training)

for name, estimator in {"Gaussian": gaussian.best_estimator_, "Noise2Noise": n2n}.items():
    frc, likelihood = FRCScorer()(estimator, unseen), PoissonScorer()(estimator, unseen)
    print(f"{name:>12}: held-out FRC area {frc:.3f}, log-likelihood {likelihood:.3f}")

write_image(n2n.predict(unseen), options.out, overwrite=True)
print(options.out)
