"""The steps that build the free body from its source: mesh, rest pose, shapes, pose blend shapes, keypoints.

A build-time folder: nothing that reads or uses a body imports it.
"""
