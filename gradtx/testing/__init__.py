"""Check any transformation against the laws that all of them obey, and add laws of your own."""

from .case import Case as Case
from .case import law as law
from .check import LAWS as LAWS
from .check import Note as Note
from .check import Report as Report
from .check import check_transformation as check_transformation
from .compare import LawBroken as LawBroken
