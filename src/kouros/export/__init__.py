"""What leaves the program: rigged GLB, OBJ and PLY meshes, NPZ and JSON results, pictures; written whole or
not at all.

Each format is a function from people to a file's bytes; `kouros.files` writes them. May import: pipeline, systems,
render, body, geometry.
"""
