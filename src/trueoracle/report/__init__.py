"""What a study found, as one self-contained HTML page. Reads only the store."""

from trueoracle.report.page import write_report

__all__ = ["write_report"]
