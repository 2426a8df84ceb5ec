"""From photos to people: load, detect, estimate, refine, collect. May import everything below the command line."""
