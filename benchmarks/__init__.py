"""Measurements of speed and quality; each module runs on its own and says how."""
