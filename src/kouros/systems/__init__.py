"""One file per published system, readable beside its paper, and the learned start of the default fit.

May import data and everything below; knows nothing of engines, files of datasets, or devices.
"""
