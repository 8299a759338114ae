"""The report on a folder of reconstructions: one page that needs nothing but a browser."""

from smlmkit.report.page import write_report

__all__ = ["write_report"]
