"""NCCL calls whose NVTX ranges carry payloads: communicator and size, or nothing that is wrong."""

import struct
from pathlib import Path

import pytest

from perfkit.trace.model import NONE, RankTrace
from perfkit.trace.run import load_rank, open_run
from tests.trace.nsys_files import Export

INIT, REDUCE, GATHER, SEND, RECV = range(16777218, 16777223)
COMM = 0xFEDCBA9876543210  # more than a signed 64-bit number holds
ENTRIES = {  # as in mfu_2gpu_before: an offset of zero is NULL
    INIT: ((18, "NCCL communicator ID", None), (5, "No. of ranks", 8), (5, "Rank", 12)),
    REDUCE: ((18, "NCCL communicator ID", None), (22, "Message size [bytes]", 8)),
    GATHER: ((18, "NCCL communicator ID", None), (22, "Message size [bytes]", 8)),
    SEND: ((18, "NCCL communicator ID", None), (22, "Message size [bytes]", 8), (5, "Peer", 16)),
    RECV: ((18, "NCCL communicator ID", None), (22, "Message size [bytes]", 8), (5, "Peer", 16)),
}
SIZES = {INIT: 24, REDUCE: 24, GATHER: 16, SEND: 24, RECV: 24}


def blob(schema: int, *words: int, comm: int = COMM) -> bytes:
    """Return a header and a payload of the size that the schema declares."""
    size = SIZES[schema]
    form = "<QII" if schema == INIT else "<QQ"
    payload = struct.pack(form, comm, *words).ljust(size, b"\0")
    return struct.pack("<QQQQ", 1, schema, size, 32 + size) + payload


def export() -> Export:
    made = Export()
    rows = [(1, s, i, *e) for s, entries in ENTRIES.items() for i, e in enumerate(entries)]
    columns = ("domainId", "schemaId", "idx", "type", "name", "offset")
    made.add("NVTX_PAYLOAD_SCHEMA_ENTRIES", columns, rows)
    sizes = [(1, schema, size) for schema, size in SIZES.items()]
    made.add("NVTX_PAYLOAD_SCHEMAS", ("domainId", "schemaId", "payloadSize"), sizes)
    return made


def call(made: Export, name: str, at: int, data: object, kernel: str = "") -> None:
    """Add an NCCL call of 20 us, and its kernel, launched within it."""
    made.payload(name, at, at + 20_000, data)
    if kernel:
        made.call("cudaLaunchKernel", at + 5_000, at + 6_000, at)
        made.kernel(kernel, at + 10_000, at + 90_000, at)


def load(made: Export, tmp_path: Path) -> RankTrace:
    path = made.write(tmp_path / "r.sqlite")
    return load_rank(open_run([path]).ranks[0], cache=None)


def test_sizes_and_communicators(tmp_path: Path) -> None:
    made = export()
    call(made, "ncclCommInitRankConfig", 0, blob(INIT, 4, 1))
    call(made, "ncclAllReduce", 100_000, blob(REDUCE, 4096), "ncclDevKernel_AllReduce(x)")
    call(made, "ncclAllGather", 200_000, blob(GATHER, 1000), "ncclDevKernel_AllGather(x)")
    call(made, "ncclAllReduce", 300_000, blob(REDUCE, 8, comm=5), "ncclDevKernel_AllReduce(x)")
    trace = load(made, tmp_path)
    found = trace.collectives
    assert found.op == ("all_reduce", "all_gather", "all_reduce")
    assert found.size_bytes.tolist() == [4096, 4 * 1000, 8]  # S of all_gather: what all have after
    groups = [trace.groups[i].name for i in found.group.tolist()]
    assert groups == [f"nccl {COMM:016x}"] * 2 + [f"nccl {5:016x}"]


def test_gathers_of_an_unknown_communicator_have_no_size(tmp_path: Path) -> None:
    made = export()
    call(made, "ncclAllGather", 200_000, blob(GATHER, 1000), "ncclDevKernel_AllGather(x)")
    found = load(made, tmp_path).collectives
    assert (found.size_bytes.tolist(), found.group.tolist()) == ([NONE], [0])


def test_all_to_all_is_what_its_sends_pass(tmp_path: Path) -> None:
    made = export()
    made.payload("nccl:all_to_all", 0, 90_000, None)
    for peer in range(2):
        call(made, "ncclSend", 1_000 + 40_000 * peer, blob(SEND, 300 + peer))
        call(made, "ncclRecv", 21_000 + 40_000 * peer, blob(RECV, 500))
    made.call("cudaLaunchKernel", 82_000, 84_000, 9)
    made.kernel("ncclDevKernel_SendRecv(x)", 90_000, 99_000, 9)
    found = load(made, tmp_path).collectives
    assert (found.op, found.size_bytes.tolist()) == (("all_to_all",), [601])


def test_digits_instead_of_bytes(tmp_path: Path) -> None:
    made = export()
    text = blob(REDUCE, 4096).hex()
    call(made, "ncclAllReduce", 100_000, text, "ncclDevKernel_AllReduce(x)")
    assert load(made, tmp_path).collectives.size_bytes.tolist() == [4096]


good = blob(REDUCE, 4096)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        good[:-1],
        good + b"\0",
        good[:8] + struct.pack("<Q", 99) + good[16:],  # no such schema
        struct.pack("<Q", 2) + good[8:],  # another domain's
        good[:16] + struct.pack("<Q", 16) + good[24:],  # not the schema's size
        "not hexadecimal",
    ],
)
def test_payloads_that_do_not_fit_their_schema_are_counted(tmp_path: Path, data: object) -> None:
    made = export()
    call(made, "ncclAllReduce", 100_000, data, "ncclDevKernel_AllReduce(x)")
    trace = load(made, tmp_path)
    assert trace.collectives.size_bytes.tolist() == [NONE]
    assert [i.code for i in trace.issues if i.code.startswith("PAYL")] == ["PAYLOADS_NOT_READ"]


def test_an_absurd_size_is_unknown(tmp_path: Path) -> None:
    made = export()
    call(made, "ncclAllReduce", 100_000, blob(REDUCE, 1 << 63), "ncclDevKernel_AllReduce(x)")
    assert load(made, tmp_path).collectives.size_bytes.tolist() == [NONE]


def test_two_kernels_of_one_call_share_no_size(tmp_path: Path) -> None:
    made = export()
    call(made, "ncclAllReduce", 100_000, blob(REDUCE, 4096), "ncclDevKernel_AllReduce(x)")
    made.call("cudaLaunchKernel", 107_000, 108_000, 9)
    made.kernel("ncclDevKernel_AllReduce(x)", 200_000, 210_000, 9)
    assert load(made, tmp_path).collectives.size_bytes.tolist() == [NONE, NONE]
