"""Check any transformation against the laws that all of them obey."""

from .case import LAWS as LAWS
from .case import LawBroken as LawBroken
from .check import check_transformation as check_transformation
