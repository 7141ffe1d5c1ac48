"""The studies, a file each."""
