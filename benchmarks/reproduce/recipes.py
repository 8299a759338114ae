"""How the networks of the figures are trained: as in the papers, or in minutes on two cores.

The rates are pairs per minute on two cores of an AMD EPYC machine, rounded down.
"""

from benchmarks.reproduce.study import Budget, Recipe

# Lefebvre et al.: U-Net of 48 filters, crops of 64 px, batches of 128, Adam at 1e-4.
LEFEBVRE_PAPER = Recipe(
    {
        "network": "unet",
        "width": 48,
        "patch_size": 64,
        "batch_size": 128,
        "learning_rate": 1e-4,
        "loss": "smooth_l1",
    },
    pairs_per_minute=2_900,
)
# The same network with half of its filters, in small batches and with a step size that falls: what
# a thousandth of the paper's work is best spent on.
LEFEBVRE_MINUTES = Recipe(
    {
        "network": "unet",
        "width": 24,
        "patch_size": 64,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "schedule": "linear",
        "loss": "smooth_l1",
        "precision": "auto",
    },
    pairs_per_minute=12_000,
)
# Berberich et al.: pix2pix on crops of 512 px, one at a time.
BERBERICH_PAPER = Recipe(
    {
        "network": "pix2pix",
        "width": 64,
        "patch_size": 512,
        "batch_size": 1,
        "learning_rate": 2e-4,
        "beta_1": 0.5,
    },
    pairs_per_minute=30,
)
# The same network with a quarter of the filters on crops of 256 px.
BERBERICH_MINUTES = Recipe(
    {
        "network": "pix2pix",
        "width": 16,
        "patch_size": 256,
        "batch_size": 4,
        "learning_rate": 3e-3,
        "beta_1": 0.5,
        "schedule": "linear",
        "precision": "auto",
    },
    pairs_per_minute=1_400,
)


def lefebvre(budget: Budget) -> Recipe:
    """Choose the recipe that a budget allows."""
    return LEFEBVRE_PAPER if budget.is_paper else LEFEBVRE_MINUTES


def berberich(budget: Budget) -> Recipe:
    """Choose the recipe that a budget allows."""
    return BERBERICH_PAPER if budget.is_paper else BERBERICH_MINUTES
