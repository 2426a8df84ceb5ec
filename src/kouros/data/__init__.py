"""Sample schema, annotation tables, importers, augmentation, synthetic people.

May import: detection, fitting, priors, render, body, geometry.
"""
