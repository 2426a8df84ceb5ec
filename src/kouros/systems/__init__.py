"""One file per published system, readable beside its paper, and the learned start of the default fit.

Knows nothing of engines, files of datasets, or devices. May import: everything below.
"""
