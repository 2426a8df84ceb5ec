"""Motion capture as joint rotations on the 24-joint tree: one reader a source, all to one form (`motion`).

World: y up, metres. May import what `kouros.data` may.
"""
