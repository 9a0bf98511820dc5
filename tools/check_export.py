#!/usr/bin/env python3
"""Recomputes the chain of exported logs from schema/README.md and schema/change.cddl alone, with cbor2 and blake3."""

import io
import sys
from pathlib import Path

import cbor2
from check_vectors import derive


def items(data):
    """The items of a CBOR sequence, and their bytes."""
    stream = io.BytesIO(data)
    while stream.tell() < len(data):
        start = stream.tell()
        # A decoder for each item: one that reads ahead would hide where it ends.
        item = cbor2.CBORDecoder(stream, read_size=1).decode() if READ_SIZE else cbor2.CBORDecoder(stream).decode()
        yield item, data[start : stream.tell()]


def has_read_size():
    try:
        cbor2.CBORDecoder(io.BytesIO(b""), read_size=1)
        return True
    except TypeError:
        return False


READ_SIZE = has_read_size()


def check(path):
    """Checks one export; returns how many changes are shown, withheld, and without their value."""
    sequence = items(path.read_bytes())
    (magic, form, store, seq, chain), first = next(sequence)
    assert (magic, form) == ("univrs-state log", 1), "start"
    assert cbor2.dumps([magic, form, store, seq, chain], canonical=True) == first, "start is not canonical"
    assert seq > 0 or chain == derive("genesis", store), "genesis"
    shown, withheld, erased, ended = 0, 0, 0, None
    for item, data in sequence:
        assert ended is None, "something follows the end"
        assert cbor2.dumps(item, canonical=True) == data, f"the item after {seq} is not canonical"
        if isinstance(item, list) and item[0] == "end":
            ended = item[1:]
            continue
        seq += 1
        if isinstance(item, bytes):
            assert len(item) == 32, f"header hash of {seq}"
            header_hash, withheld = item, withheld + 1
        else:
            header, *rest = item
            assert header[0] == 1 and header[1] == seq <= header[2] and header[4] in (1, 2, 3), f"header of {seq}"
            value_hash, shown = header[9], shown + 1
            if rest:
                salt, value = rest
                assert len(salt) == 16 and derive("value", salt, value) == value_hash, f"value of {seq}"
            else:
                erased += value_hash is not None
            header_hash = derive("header", cbor2.dumps(header, canonical=True))
        chain = derive("chain", chain, header_hash)
    assert ended == [shown + withheld, seq, chain], "the hashes do not lead to the head"
    return shown, withheld, erased


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:]]
    assert paths, "usage: check_export.py FILE..."
    for path in paths:
        shown, withheld, erased = check(path)
        print(f"{path.name}: {shown} changes recomputed, {withheld} withheld, {erased} without their value: the head matches")
