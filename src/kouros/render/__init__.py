"""Rasterizer, shading and dense maps. May import geometry and body."""
