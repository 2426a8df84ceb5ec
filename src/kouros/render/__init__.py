"""Rasterizer, shading and dense maps. May import: body, geometry."""
