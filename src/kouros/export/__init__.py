"""What users keep: rigged GLB, OBJ and PLY, NPZ and JSON, overlay pictures. May import geometry, body and render."""
