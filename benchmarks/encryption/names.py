"""Names of all rows: what is not measured any more is missed by this list."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.encryption.bench import KEY_BITS, RINGS, SIZES, WIDTHS, Extent, by_phe, weights


def expected(extent: Extent) -> Iterator[str]:
    """The rows of a run of this extent."""
    yield from _of_devices(extent)
    yield from _beside_others(extent)
    yield from _of_sums(extent)


def _of_devices(extent: Extent) -> Iterator[str]:
    for size in map(weights, SIZES):
        for bits in WIDTHS:
            case = f"{size}, {bits} bits"
            yield f"online encrypt / A, {case}"
            yield f"float32 to integers, before it / A, {case}"
            for key in KEY_BITS:
                yield f"cold encrypt / A, {case}, key of {key}"
            yield f"preparation / A, {case}, key of 3072"
            yield f"preparation with Paillier randomness made ahead / A, {case}, key of 3072"
            yield f"hop add / float32, {case}"
            yield f"hop from bytes to bytes / float32, {case}"
            yield f"hop chunk by chunk / float32, {case}"
            yield f"hop of a member, chunks verified, added, signed / float32 chunks, {case}"
            yield f"bytes on the wire / float32, {case}, key of 3072"
    for key in KEY_BITS:
        for ring in RINGS:
            yield f"pads and release, ring of {ring} / A of 100k weights, key of {key}"
        yield f"table of powers, once a process / A of 100k weights, key of {key}"
    for n_values in extent.packed:
        case = f"suite paillier, {n_values} weights, 16 bits, key of 3072"
        yield f"online encrypt / A, {case}"
        yield f"cold encrypt / A, {case}"
        yield f"preparation with Paillier randomness made ahead / A, {case}"
        yield f"hop from bytes to bytes / float32, {case}"
        yield f"bytes on the wire / float32, {case}"
        if extent.packed_by_phe:
            yield f"{by_phe(extent)} / cold encrypt, {case}"
            yield f"{by_phe(extent)} / decrypt a sum of 16, {case}"


def _beside_others(extent: Extent) -> Iterator[str]:
    for key in extent.against_phe:
        case = f"100k weights, 16 bits, key of {key}"
        yield f"{by_phe(extent)} / cold encrypt, {case}"
        yield f"{by_phe(extent)} / decrypt a sum of 16, {case}"
    case = "100k weights, 16 bits, key of 3072"
    yield f"TenSEAL BFV, encrypted / cold encrypt, {case}"
    yield f"TenSEAL BFV, encrypted and as bytes / cold encrypt, {case}"
    yield f"TenSEAL BFV / bytes on the wire, {case}"
    for same in extent.same:
        vectors = f"{same.n_contributors} {same.kind} vectors"
        yield (
            f"TenSEAL BFV gives the same sum of {vectors}, "
            f"{same.n_values} weights, {same.bits} bits"
        )


def _of_sums(extent: Extent) -> Iterator[str]:
    for key, bits, n in extent.sums:
        yield f"open a sum of {n} / A, {weights(extent.opened)}, {bits} bits, key of {key}"
        if n == 1:
            yield f"decryptions on all cores / on one, wall time, key of {key}"
    for bits, most in ((16, 1024), (8, 512)):
        for part in (
            "preparation",
            "online encrypt",
            "hop",
            "opening",
            f"{most} releases multiplied and opened",
        ):
            yield f"temporaries / float32 vector, {part}, 1M weights, {bits} bits"
            yield f"resident memory that is added / float32 vector, {part}, 1M weights, {bits} bits"
    yield "sums that opened exactly"
