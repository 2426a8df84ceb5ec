import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from kouros.body.surface.planar import PlanarMesh


@given(st.integers(0, 2**31))
def test_points_are_found_where_scipy_finds_them(seed):
    rng = np.random.default_rng(seed)
    points = rng.random((40, 2)) * [1.0, 0.1 + 3 * rng.random()]
    peer = Delaunay(points)
    mesh = PlanarMesh(points, peer.simplices)
    queries = rng.random((200, 2)) * 3 - 1
    found = mesh.locate(queries)
    np.testing.assert_array_equal(found.inside, peer.find_simplex(queries) >= 0)
    places = (points[peer.simplices[found.face]] * found.barycentric[..., None]).sum(axis=1)
    np.testing.assert_allclose(places[found.inside], queries[found.inside], atol=1e-9)
    assert (found.barycentric >= 0).all()


def test_outside_the_nearest_point_of_the_outline_answers():
    square = PlanarMesh(np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]), np.array([[0, 1, 2], [0, 2, 3]]))
    queries = np.array([[2.0, 0.5], [-3, -4], [0.25, 1.5], [np.nan, 0]])
    found = square.locate(queries[:3])
    corners = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])[np.array([[0, 1, 2], [0, 2, 3]])[found.face]]
    places = (corners * found.barycentric[..., None]).sum(axis=1)
    np.testing.assert_allclose(places, [[1, 0.5], [0, 0], [0.25, 1]], atol=1e-12)
    assert not found.inside.any()


def test_degenerate_triangles_are_never_answers():
    points = np.array([[0.0, 0], [1, 0], [0, 1], [0.5, 0], [0.2, 0.2]])
    mesh = PlanarMesh(points, np.array([[0, 1, 3], [4, 4, 4], [0, 1, 2]]))
    assert mesh.locate(np.array([[0.2, 0.2], [0.5, 0.0]])).face.tolist() == [2, 2]
