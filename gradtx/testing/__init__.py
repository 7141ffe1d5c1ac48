"""Check any transformation against the laws that all of them obey."""

from .check import LAWS as LAWS
from .check import check_transformation as check_transformation
from .laws import LawBroken as LawBroken
