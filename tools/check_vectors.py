#!/usr/bin/env python3
"""Recomputes schema/vectors.json from schema/README.md alone, with cbor2 and blake3."""

import json
import sys
from pathlib import Path

import cbor2
from check_export import derive, encode

KIND = {1: "created", 2: "updated", 3: "deleted"}


def meta_map(meta):
    """The map of metadata. Fields with numbers are given in hexadecimal."""
    if meta is None:
        return None
    numbered = meta.get("numbered", {}).items()
    numbered = {int(number): cbor2.loads(bytes.fromhex(value)) for number, value in numbered}
    return numbered | {name: value for name, value in meta.items() if value and name != "numbered"}


def check(vectors):
    store = bytes.fromhex(vectors["store_id"])
    chain = derive("genesis", store)
    assert chain.hex() == vectors["genesis"], "genesis"
    chains = [chain]
    for place, change in enumerate(vectors["changes"], start=1):
        assert change["seq"] == place and KIND[change["kind"]], "place or kind"
        value_hash = None
        if change["value"] is not None:
            value_hash = derive("value", bytes.fromhex(change["salt"]), bytes.fromhex(change["value"]))
            assert value_hash.hex() == change["value_hash"], f"value hash of {place}"
        meta = meta_map(change["meta"])
        if meta is not None:
            assert encode(meta).hex() == change["meta_cbor"], f"metadata of {place}"
        names = ["seq", "commit_seq", "at", "kind", "key", "version", "created_at", "prev"]
        names += ["until"] if "until" in change else []
        header = encode([1, *(change[name] for name in names), value_hash, meta])
        assert header.hex() == change["header"], f"header of {place}"
        header_hash = derive("header", header)
        assert header_hash.hex() == change["header_hash"], f"header hash of {place}"
        chain = derive("chain", chain, header_hash)
        assert chain.hex() == change["hash"], f"hash of {place}"
        chains.append(chain)
    for base in vectors["bases"]:
        floor, seqs = base["floor"], [change["seq"] for change in base["changes"]]
        assert chains[floor].hex() == base["hash"], f"hash at the floor {floor}"
        for change in base["changes"]:
            assert chains[change["seq"] - 1].hex() == change["before"], f"chain before {change['seq']}"
        parts = [store, floor.to_bytes(8, "big"), chains[floor], *(chains[seq] for seq in seqs)]
        assert derive("base", *parts).hex() == base["digest"], f"digest at {floor}"
    return len(vectors["changes"]), len(vectors["bases"])


if __name__ == "__main__":
    default = Path(__file__).resolve().parent.parent / "schema" / "vectors.json"
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    changes, bases = check(json.loads(path.read_text()))
    print(f"{changes} changes and {bases} bases recomputed: all hashes match")
