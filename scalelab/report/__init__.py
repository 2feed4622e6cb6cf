"""What is written for people: tables as CSV, figures as SVG and PNG, and HTML pages that need no other file.

files (figures, checks) · sections of laws → laws.html · found (a study's folder), its sections → report.html · inline
(figures), page (the one template)
"""

from scalelab.report.files import save, write_check
from scalelab.report.laws import write_laws
from scalelab.report.study import write_html

__all__ = ["save", "write_check", "write_html", "write_laws"]
