"""What is wrong with a data set: copies, label conflicts, leaks, shortcuts."""

from kneeedge.audit.groups import read_groups, write_groups
from kneeedge.audit.quick import Copies, quick_audit

__all__ = ["Copies", "quick_audit", "read_groups", "write_groups"]
