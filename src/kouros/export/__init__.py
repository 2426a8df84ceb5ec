"""What leaves the program: rigged and animated GLB, OBJ and PLY meshes, BVH, NPZ, CSV and JSON results, pictures and
films; written whole or not at all.

Each format is a function from people to a file's bytes; `kouros.files` writes them. May import: pipeline, data, render,
body, geometry.
"""
