"""Metrics, benchmark protocols and reports. May import: everything below."""
