"""Synthetic people: drawn by seed, stored as parameters, rendered with all that is known of them when asked."""

from kouros.data.synthetic.source import SyntheticSource
from kouros.data.synthetic.validation import synthetic_val

__all__ = ["SyntheticSource", "synthetic_val"]
