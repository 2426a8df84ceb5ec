"""The benchmarks' protocols, one file a benchmark: who is judged, how, and what the papers report by it.

May import what evaluation may.
"""

from kouros.evaluation.protocols.protocol import EvaluationProtocol, ProtocolError, TruthBodies

__all__ = ["EvaluationProtocol", "ProtocolError", "TruthBodies", "all_protocols", "protocol"]


def all_protocols() -> dict[str, EvaluationProtocol]:
    """By name.

    Raises:
        ImportError: torchmetrics is not installed.
    """
    from kouros.evaluation.protocols import (
        densepose_coco,
        human36m,
        humaneva,
        lsp,
        mpi_inf_3dhp,
        mpii,
        occlusion,
        synthetic_val,
        tables,
        three_doh,
        three_dpw,
        up_3d,
        videos,
    )

    files = (
        human36m, occlusion, three_dpw, mpi_inf_3dhp, lsp, mpii, up_3d, humaneva, three_doh, densepose_coco,
        synthetic_val, tables, videos,
    )  # fmt: skip
    return {p.name: p for file in files for p in file.PROTOCOLS}


def protocol(name: str) -> EvaluationProtocol:
    """The protocol of that name.

    Raises:
        ProtocolError: there is none.
    """
    known = all_protocols()
    if name not in known:
        raise ProtocolError(f"there is no protocol {name!r}; the protocols are: {', '.join(known)}.")
    return known[name]
