"""Keypoint files of other detectors: one module a family, each of which knows its own files by their content.

May import what `kouros.detection` may.
"""
