"""Neural networks: everything that needs torch."""
