#!/usr/bin/env python3
"""Tests tools/check_export.py with exports that the other tests have kept: each is proved as it is; cut, altered,
continued, or under a wrong anchor it is refused in words. UNIVRS_SEED repeats a run, UNIVRS_FLIPS says how many copies
there are of each kind of damage."""

import io
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import cbor2

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "tools" / "check_export.py"
sys.path.insert(0, str(PROGRAM.parent))
from check_export import Wrong, check_mark, follow  # noqa: E402

SEED = int(os.environ.get("UNIVRS_SEED") or random.randrange(2**32))
FLIPS = int(os.environ.get("UNIVRS_FLIPS") or 100)


def is_refused(data):
    """Whether an export is refused. Anything else that is raised ends the test."""
    try:
        follow(io.BytesIO(data), set())
    except Wrong as wrong:
        assert str(wrong), "it is refused without a word"
        return True
    return False


def check_marks():
    """What the value of a mark may be, as schema/README.md says."""
    mark = {"v": 1, "seq": 3, "hash": "0f" * 32}
    for good in (mark, {**mark, "seq": 0, "hold": [1]}, {"seq": 3, "hash": "0f" * 32}, {"v": 2}):
        check_mark(json.dumps(good).encode(), 4)
    wrong = ({**mark, "seq": 4}, {**mark, "seq": -1}, {**mark, "hash": "0F" * 32}, {"v": 1, "seq": 3}, [], 7)
    for bad in (b"", b"\xff", b"[" * 100_000, *(json.dumps(value).encode() for value in wrong)):
        try:
            check_mark(bad, 4)
        except Wrong:
            continue
        raise AssertionError(bad[:80])


def names_another_store(data, whole):
    """Whether only the store id differs, in an export that does not begin with the hash of its store. Only an anchor
    could tell."""
    _, _, store, floor, _ = cbor2.loads(whole)
    place = whole.index(store)
    return floor > 0 and data[:place] + store + data[place + 16 :] == whole


def damaged(whole, chance):
    """Copies of an export that are not whole."""
    for _ in range(FLIPS):
        place, bit = chance.randrange(len(whole)), 1 << chance.randrange(8)
        yield f"bit {bit} of byte {place}", whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :]
        length = chance.randrange(len(whole))
        yield f"cut to {length}", whole[:length]
        start = chance.randrange(len(whole))
        yield f"random bytes from {start}", whole[:start] + chance.randbytes(64) + whole[start + 64 :]
    for tail in (b"\0", whole, b"\x82\x63end\1"):
        yield f"{len(tail)} bytes behind its end", whole + tail


def run(*arguments):
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def check_command(path, folder):
    log, _ = follow(io.BytesIO(path.read_bytes()), set())
    head = f"{log.seq}:{log.chain.hex()}"
    anchor = {"v": 1, "type": "anchor", "store": log.store.hex(), "seq": log.seq, "hash": log.chain.hex()}
    anchors = folder / "anchors"

    def under(**other):
        anchors.write_text(json.dumps({**anchor, **other}) + "\n")
        return run("--anchor", anchors, path)

    true, wrong = under(), under(hash="00" * 32)
    assert true.returncode == 0 and head in true.stdout and "is in this chain" in true.stdout, true
    assert wrong.returncode == 1 and f"contradicted  at {log.seq}" in wrong.stdout, wrong
    for outside in (under(seq=log.seq + 1), under(store="00" * 16)):
        assert outside.returncode == 0 and "not provable  the anchor" in outside.stdout, outside
    anchors.write_text("no anchor\n")
    assert run("--anchor", anchors, path).returncode == 2
    assert run(path, folder / "missing").returncode == 2
    assert run(path, folder).returncode == 2
    assert run("/dev/zero").returncode == 1
    assert run().returncode == 2
    assert run("--help").returncode == 0


if __name__ == "__main__":
    paths = sorted(Path(argument) for argument in sys.argv[1:])
    assert paths, "usage: check_export.py EXPORT..."
    print(f"seed {SEED}")
    chance, copies = random.Random(SEED), 0
    for path in paths:
        whole = path.read_bytes()
        assert not is_refused(whole), f"{path} is refused"
        for how, data in damaged(whole, chance):
            copies += 1
            assert names_another_store(data, whole) or is_refused(data), f"{path}, {how}: it is not refused"
    # Bytes that claim more than there is, or nest deeply.
    claims = (b"\x9b" + b"\xff" * 8, b"\x5b" + b"\x7f" * 8, b"\x81" * 100_000)
    for data in (*claims, b"\xd8\x1d\0", b"\xa1\x80\0", b"\xff", b"\xf9\x7e\0"):
        assert is_refused(data), data[:20]
    check_marks()
    with tempfile.TemporaryDirectory() as folder:
        check_command(paths[0], Path(folder))
    print(f"{len(paths)} exports are proved, {copies} damaged copies of them are refused")
