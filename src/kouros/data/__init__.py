"""Sample schema, annotation tables, importers, augmentation, synthetic people. May import geometry, body, render."""
