"""People and their keypoints in images: the built-in detector, and files of other detectors. May import geometry, body, networks."""
