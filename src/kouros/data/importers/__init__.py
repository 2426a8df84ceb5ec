"""One file a data set: from the files its owners distribute to an annotation table. Images stay where they
are.

Each importer is a function ``import_<name>(source, out, ...) -> ImportReport``. What it cannot use it lists;
a wrong folder stops it with the file it expected; interrupted, it goes on where it was. May import what
`kouros.data` may.
"""
