"""What leaves the program: rigged GLB, OBJ and PLY meshes, NPZ and JSON results, pictures; written whole or
not at all.

Each format is a function from people to a file's bytes; `kouros.files` writes them. People come in as anything that
has a `PosedPerson`'s fields. May import: render, body, geometry.
"""
