"""The report: a static site that opens from disk, without a network and without JavaScript."""

from experiments.findings import StudyResults as StudyResults
from experiments.site.writer import write_site as write_site
