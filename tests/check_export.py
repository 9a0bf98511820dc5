#!/usr/bin/env python3
"""Tests tools/check_export.py with exports that the other tests have kept: each is proved as it is; cut, altered,
continued, or under a wrong anchor it is refused in words. UNIVRS_SEED repeats a run, UNIVRS_FLIPS says how many copies
there are of each kind of damage."""

import functools
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
from check_export import Wrong, check_mark, derive, encode, follow, items, matches  # noqa: E402

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


def check_patterns():
    """What a pattern matches, as schema/README.md says."""
    good = {
        "/a": ["/a"], "/n/*": ["/n/1", "/n/1/x"], "/n*": ["/n", "/nx/y"], "/n/*/s": ["/n/1/s"], "/*": ["/a", "/a/b"],
        "/**/s": ["/s", "/a/s", "/a/b/s"], "/a/**": ["/a", "/a/b/c"], "/**/b/**/d*": ["/b/d", "/a/b/c/dx/y"],
        "/.univrs/*": ["/.univrs/x"], "/.univrs/marks/m": ["/.univrs/marks/m"],
    }
    bad = {
        "/a": ["/ab", "/a/b"], "/n/*": ["/n", "/nx"], "/n/*/s": ["/n/s", "/n/1/2/s", "/n/1/s/t"], "/**/s": ["/s/t"],
        "/**": ["/.univrs/x"], "/*": ["/.univrs/x"], "/a/**": ["/b"], "/**/b/**/d*": ["/b", "/d/b", "/b/c"], "": ["/a"],
    }
    for pattern, keys in good.items():
        assert all(matches(pattern, key) for key in keys), pattern
    for pattern, keys in bad.items():
        assert not any(matches(pattern, key) for key in keys), pattern
    assert not matches("/**" * 300 + "/x", "/a" * 500), "it takes no long time"


def based(before, item):
    """A change of a base: an item of a change, with the chain before it."""
    item = cbor2.loads(item)
    return encode(["base", before, *(item if isinstance(item, list) else [item])])


def export(store, floor, items, more=(), base=()):
    """An export of these items, each with the hash of its header, after a floor and the items of a base."""
    seq, chain = floor
    data = cbor2.dumps(["univrs-state log", 1, store, seq, chain, *more], canonical=True)
    data += b"".join(base)
    for item, header_hash in items:
        chain = derive("chain", chain, header_hash)
        data += item
    return data + cbor2.dumps(["end", len(items), seq + len(items), chain], canonical=True)


def of_vectors():
    """Whole and later exports of the log of schema/vectors.json, which has each kind of change."""
    vectors = json.loads((ROOT / "schema" / "vectors.json").read_text())
    store, items = bytes.fromhex(vectors["store_id"]), []
    for change in vectors["changes"]:
        header = bytes.fromhex(change["header"])
        item = b"\x81" + header
        if change["value"] is not None:
            rest = [bytes.fromhex(change[name]) for name in ("salt", "value")]
            item = b"\x83" + header + b"".join(map(cbor2.dumps, rest))
        items.append((item, derive("header", header)))
    changes = vectors["changes"]
    heads = [(0, derive("genesis", store)), *((c["seq"], bytes.fromhex(c["hash"])) for c in changes)]
    hidden = [(cbor2.dumps(header_hash), header_hash) for _, header_hash in items]
    good = {
        "as the first exports": export(store, heads[0], items),
        "whole": export(store, heads[0], items, (None, 0)),
        "after 4, at no known time": export(store, heads[4], items[4:], (None, None)),
        "after 4": export(store, heads[4], items[4:], (changes[3]["at"], None)),
        # Its time is before that of the change before, which only a clock commit may have.
        "a base of nothing": export(store, heads[4], items[4:], (changes[3]["at"], 0)),
        "the clock commit withheld": export(store, heads[0], [*items[:6], hidden[6], *items[7:]], (None, 0)),
    }
    bad = {
        "a base": export(store, heads[4], items[4:], (changes[3]["at"], 1)),
        "a time at 0": export(store, heads[0], items, (1, 0)),
        "a base at 0": export(store, heads[0], items, (None, 1)),
        "no base at 0": export(store, heads[0], items, (None, None)),
        "a base of more changes than there were": export(store, heads[4], items[4:], (changes[3]["at"], 5)),
        "a floor that is later": export(store, heads[4], items[4:], (changes[4]["at"], None)),
        "six fields": export(store, heads[0], items, (None,)),
    }
    for base in vectors["bases"]:
        floor, rows = base["floor"], [(row["seq"], bytes.fromhex(row["before"])) for row in base["changes"]]
        shown = [based(before, items[seq - 1][0]) for seq, before in rows]
        withheld = [based(before, hidden[seq - 1][0]) for seq, before in rows]
        more = (changes[floor - 1]["at"], len(rows))
        for kind, base_items in (("", shown), (", withheld", withheld)):
            data = export(store, heads[floor], items[floor:], more, base_items)
            assert follow(io.BytesIO(data), set())[0].base.digest() == base["digest"], floor
            good[f"a base at {floor}{kind}"] = data
    return good, bad, (store, heads, items, changes)


def check_base(store, heads, items, changes):
    """What a base may be: each is refused, or passes, by its own rule."""
    hidden = [cbor2.dumps(header_hash) for _, header_hash in items]
    other = bytes([9] * 32)

    def row(seq, before=None, **fields):
        """The change at a position, or from there on the hash of its header."""
        item = items[abs(seq) - 1][0] if seq > 0 else hidden[-seq - 1]
        if fields:
            header = cbor2.loads(item)[0]
            names = ["layout", "seq", "commit_seq", "at", "kind", "key", "version", "created_at", "prev"]
            order = [*names, *(["until"] if len(header) == 12 else []), "value_hash", "meta"]
            header = [fields.get(name, value) for name, value in zip(order, header)]
            item = encode([header])
        return based(before or heads[abs(seq) - 1][1], item)

    def passes(*rows, floor=8, count=None, floor_at=0, after=None):
        at = None if floor_at is None else changes[floor - 1]["at"] + floor_at
        rows = [row(seq) if type(seq) is int else seq for seq in rows]
        more = (at, len(rows) if count is None else count)
        return not is_refused(export(store, heads[floor], items[floor:] if after is None else after, more, rows))

    assert passes(3, 4, 6, 7, 8) and passes() and passes(8) and passes(1, 2, 3, 4, 5, 6, 7, 8)
    assert passes(-3, 4, -6, -7, 8) and passes(-1, -2, -3, -4, -5, -6, -7, -8) and passes(-8) and passes(-3, -6, 8)
    assert passes(3, 4, floor=4) and passes(2, floor=3) and passes(-2, -3, floor=3)
    for rows in ([4, 3], [3, 3], [9], [8, -3], [-8, 3], [-8, -3], [-2, -4, 3], [-1, -3, -5, -7, -8, -8]):
        assert not passes(*rows), rows
    assert not passes(3, 4, count=1) and not passes(3, 4, count=3) and not passes(3, 4, count=0)
    assert not passes(row(1, other)), "not the hash of the store"
    assert not passes(2, row(3, other)) and not passes(2, row(4, heads[2][1])), "the chain tells what is there"
    assert passes(2, row(4, other)), "whatever was before it"
    assert not passes(row(8, other)) and not passes(7, row(-1, heads[7][1])), "the floor has one hash"
    # 5 and 6 are one commit, and 4 is one of its own.
    assert passes(row(4, commit_seq=4)) and not passes(row(4, commit_seq=9)) and not passes(row(4, commit_seq=3))
    early = changes[3]["at"] - 1
    assert not passes(5, row(6, at=early)) and not passes(5, row(6, commit_seq=7)), "a commit has one time and end"
    assert not passes(4, row(5, at=early, created_at=early)) and passes(3, row(5, at=early, created_at=early))
    assert not passes(8, floor_at=-1) and passes(8, floor_at=None), "it has the time of the floor, if that is known"
    assert passes(row(4, commit_seq=8), floor_at=None) and not passes(row(4, commit_seq=9), floor_at=None)
    assert not passes(row(4, version=1)) and not passes(row(4, prev=0)) and not passes(row(6, kind=2))
    assert not passes(row(2, key="/nodes/n1/x"), row(4, key="/nodes/n1/x", version=4)), "a version is left out"
    # 8 follows 5.
    last = items[7:]
    assert passes(5, floor=7, after=last) and passes(-5, floor=7, after=last)
    assert not passes(6, floor=7, after=last) and not passes(row(5, key="/other"), floor=7, after=last)
    assert passes(6, -7, floor=7, after=last), "it may be withheld"
    assert not passes(row(5, key="/other"), -7, floor=7, after=last), "another change is there"


def made(*changes):
    """A whole log of changes, each in a commit of its own: kind, key, version, position before, value."""
    store, built, created = bytes(16), [], {}
    for seq, (kind, key, version, prev, value) in enumerate(changes, 1):
        salt = bytes([seq] * 16)
        value_hash = None if value is None else derive("value", salt, value)
        created[key] = seq if kind == 1 else created[key]
        header = [1, seq, seq, seq, kind, key, version, created[key], prev, value_hash, None]
        rest = [] if value is None else [salt, value]
        built.append((encode([header, *rest]), derive("header", encode(header))))
    return store, built


def record(**other):
    """The value of the key of compactions; a field that is none is left out."""
    said = {"v": 1, "floor": 3, "hash": "0f" * 32, "at": 3, "keep": [], **other}
    return json.dumps({name: value for name, value in said.items() if value is not None}).encode()


def is_whole(store, built, hide=None):
    """Whether a whole export of these changes is taken, one of which may be withheld."""
    if hide:
        built[hide - 1] = (cbor2.dumps(built[hide - 1][1]), built[hide - 1][1])
    return not is_refused(export(store, (0, derive("genesis", store)), built, (None, 0)))


def check_forgotten():
    """A key that a compaction forgot begins anew, behind all versions that there were."""

    def passes(*more, hide=None, version=7, **forgotten):
        value = record(floor=4, forgotten={"floor": 4, "version": version, **forgotten})
        before = ((1, "/b", 1, 0, b""), (1, "/a", 1, 0, b""), (3, "/a", 2, 2, None), (1, "/z", 1, 0, b""))
        store, built = made(*before, (1, "/.univrs/compaction", 1, 0, value), *more)
        return is_whole(store, built, hide)

    assert passes() and passes((1, "/a", 8, 0, b"")) and passes((1, "/c", 8, 0, b"")) and passes((2, "/b", 2, 1, b""))
    for version in (1, 2, 3, 7, 9):
        assert not passes((1, "/a", version, 0, b"")) and not passes((1, "/c", version, 0, b"")), version
    assert not passes((1, "/a", 3, 3, b"")), "it was forgotten"
    for kept in ({"keep": ["/*"]}, {"keep": ["/x", "/a"]}, {"floor": 3}):
        assert passes((1, "/a", 3, 3, b""), **kept) and not passes((1, "/a", 8, 0, b""), **kept), kept
    assert not passes((1, "/b", 8, 0, b"")), "it exists"
    assert passes((1, "/c", 9, 0, b""), hide=5), "what is withheld may have forgotten more"
    assert not passes((1, "/c", 7, 0, b""), hide=4) and passes((1, "/c", 9, 0, b""), hide=4), "it is the least version"


def check_records():
    """What the record of a compaction may say, and which base it names."""

    def says(value):
        others = [(1, f"/{key}", 1, 0, b"") for key in "abc"]
        store, built = made(*others, (1, "/.univrs/compaction", 1, 0, value))
        return is_whole(store, built)

    base = {"count": 1, "digest": "0f" * 32}
    assert says(record()) and says(record(v=None)) and says(record(**base)) and says(b'{"v":2}')
    wrong = (record(floor=4), record(floor=0), record(hash="0F" * 32), record(at=None))
    for value in (b"", b"[]", b"{}", b"[" * 100_000, *wrong):
        assert not says(value), value[:80]
    for other in ({"count": 1}, {"digest": "0f" * 32}, {**base, "count": -1}, {**base, "digest": 1}, {"keep": [1]}):
        assert not says(record(**other)), other
    forgotten = {"floor": 3, "version": 3}
    for other in ({"floor": 4}, {"version": -1}, {"keep": "/a"}):
        assert not says(record(forgotten={**forgotten, **other})), other
    assert says(record(forgotten=forgotten)) and not says(record(forgotten=[]))

    # The base at 1: nothing, as if the key there had been forgotten, or withheld.
    store, [(_, first)] = made((1, "/a", 1, 0, b""))
    genesis = derive("genesis", store)
    floor = derive("chain", genesis, first)

    def names(*records, at=1, base=(), last=2):
        before = [(1, "/a", 1, 0, b"")]
        records = [(1 + (seq > 2), "/.univrs/compaction", seq - 1, seq - 1 if seq > 2 else 0, value)
                   for seq, value in enumerate(records, 2)]
        _, built = made(*before, *records, (1, "/c", last, 0, b""))
        return not is_refused(export(store, (1, floor), built[1:], (at, len(base)), base))

    hashes = [store, (1).to_bytes(8, "big"), floor]
    end = {"floor": 1, "hash": floor.hex(), "at": 1, "forgotten": {"floor": 1, "version": 1}}
    right = {**end, "count": 0, "digest": derive("base", *hashes).hex()}
    assert names(record(**right)) and names(record(**right), at=None)
    for other in ({"at": 2}, {"count": 1}, {"digest": "0f" * 32}, {"hash": "0f" * 32}):
        wrong = record(**{**right, **other})
        assert not names(wrong) and not names(record(**right), wrong) and names(wrong, record(**right)), other
        assert names(wrong, record(**end)), "another compaction to this floor goes on"
        assert names(wrong, b'{"v":2}') and not names(wrong, record(**{**end, "floor": 2})), other
    withheld = based(genesis, cbor2.dumps(first))
    named = record(**{**right, "count": 1, "digest": derive("base", *hashes, floor).hex()})
    hidden = [withheld]
    assert names(named, base=hidden) and names(named, base=hidden, last=9), "what is withheld may have forgotten more"
    assert not names(record(**right), last=9), "it is known what was forgotten"


def check_named_base(whole):
    """An export whose log names its base has this base and no other."""
    decoded = [item for item, _ in items(io.BytesIO(whole))]
    start, rows, rest = decoded[0], decoded[1 : decoded[0][6] + 1], decoded[decoded[0][6] + 1 :]

    def refusal(rows, **other):
        fields = [*start[:5], other.get("at", start[5]), len(rows)]
        data = b"".join(map(encode, [fields, *rows, *rest]))
        try:
            log, _ = follow(io.BytesIO(data), set())
        except Wrong as wrong:
            return str(wrong)
        assert log.record is not None
        return None

    named = f"its base is not the one that its log says was left at {start[3]}"
    assert refusal(rows) is None
    # That of a key which nothing goes on from.
    assert refusal(rows[1:]) == named and refusal(rows, at=start[5] + 1) is not None
    # What was directly before the change at 7 is gone.
    moved = [*rows[:3], ["base", bytes(32), *rows[3][2:]], *rows[4:]]
    assert refusal(moved) == named


def check_headers(store, heads, items, changes):
    """What a header may say: each is refused, or passes, by its own rule, with the right hashes."""

    def passes(seq, write=encode, **other):
        header = cbor2.loads(bytes.fromhex(changes[seq - 1]["header"]))
        names = ["layout", "seq", "commit_seq", "at", "kind", "key", "version", "created_at", "prev", "until"]
        names = [*(names if len(header) == 12 else names[:-1]), "value_hash", "meta"]
        fields = {**dict(zip(names, header)), **other}
        if fields.get("until", 1) is None:
            del fields["until"]
        order = [name for name in [*names[:9], "until", "value_hash", "meta"] if name in fields]
        encoded = write([fields[name] for name in order])
        item = (b"\x81" + encoded, derive("header", encoded))
        floor = heads[seq - 1]
        more = (changes[seq - 2]["at"], None) if seq > 1 else (None, 0)
        return not is_refused(export(store, floor, [item], more))

    assert passes(4) and passes(7) and passes(8) and passes(9)
    assert passes(9, until=1) and passes(9, until=253402300799999999) and passes(9, until=-8)
    for until in (0, 253402300800000000, -9, -(2**63), "1", 1.5):
        assert not passes(9, until=until), until
    assert not passes(3, kind=3, value_hash=None, until=1, commit_seq=3), "a deletion ends"
    early = changes[5]["at"] - 1
    assert passes(7, at=early, created_at=early) and passes(7, at=changes[5]["at"], created_at=changes[5]["at"])
    for other in ({"meta": None}, {"meta": {"cause": "restored"}}, {"key": "/clock"}, {"commit_seq": 8}):
        assert not passes(7, **other), other
    assert not passes(9, meta=None) and not passes(9, created_at=changes[8]["at"] + 1)
    for meta in ({0: None}, {0: [1, {"a": b"", 7: 1.5}], 2**40: "x", "actor": "a"}, {0: [[[[[[[0]]]]]]]}, {"actor": ""}):
        assert passes(8, meta=meta), meta
    # As much as the largest limit of a store allows, which counts the head of the map and of the text, and the name.
    longest = {"actor": "a" * ((64 << 10) - 10)}
    assert len(encode(longest)) == 64 << 10 and passes(8, meta=longest)
    for meta in ({"actor": longest["actor"] + "a"}, {**longest, 0: 0}, {0: b"a" * (64 << 10)}):
        assert not passes(8, meta=meta), "its metadata is too long"
    # The keys of a map stand in the order of their bytes, not shorter ones first.
    short_first = functools.partial(cbor2.dumps, canonical=True)
    for meta in ({2**40: "x", "actor": "a"}, {5: {1000: 1, -1: 2}}):
        assert encode(meta) != short_first(meta) and passes(8, meta=meta), meta
        assert not passes(8, write=short_first, meta=meta), meta
    assert not passes(1, at=-5, created_at=-5) and not passes(1, at=0, created_at=0)
    for meta in ({-1: None}, {0: [[[[[[[[0]]]]]]]]}, {False: 1}, {1.5: 1}):
        assert not passes(8, meta=meta), meta


def is_not_proved(data, whole):
    """Whether a copy differs only in a base of which its log names no digest."""
    logs = []
    for copy in (whole, data):
        try:
            logs.append(follow(io.BytesIO(copy), set())[0])
        except Wrong:
            return False
    one, other = logs
    same = (one.seq, one.chain, one.shown, one.withheld) == (other.seq, other.chain, other.shown, other.withheld)
    return same and one.record is None


def is_not_provable(data, whole):
    """Whether a copy differs only in what no hash of it covers, in an export that does not begin with the hash of its
    store: the store id, which only an anchor could tell, and the time of the floor."""
    try:
        _, _, _, floor, _, *more = start = cbor2.loads(whole)
        named, other = (cbor2.dumps(item, canonical=True) for item in (start, cbor2.loads(data)))
        if more and more[1] is not None and floor > 0:
            return is_not_proved(data, whole)
        other = cbor2.loads(other)
        other[2] = start[2]
        if more:
            other[5] = more[0]
    except (cbor2.CBORDecodeError, ValueError, TypeError, IndexError, OverflowError):
        return False
    # A number of another length moves what follows.
    return floor > 0 and other == start and data[-(len(whole) - len(named)) :] == whole[len(named) :]


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
    paths += sorted((ROOT / "tests" / "fixtures").glob("base*.log"))
    print(f"seed {SEED}")
    chance, copies = random.Random(SEED), 0
    for path in paths:
        whole = path.read_bytes()
        assert not is_refused(whole), f"{path} is refused"
        for how, data in damaged(whole, chance):
            copies += 1
            assert is_not_provable(data, whole) or is_refused(data), f"{path}, {how}: it is not refused"
    # Bytes that claim more than there is, or nest deeply.
    claims = (b"\x9b" + b"\xff" * 8, b"\x5b" + b"\x7f" * 8, b"\x81" * 100_000)
    for data in (*claims, b"\xd8\x1d\0", b"\xa1\x80\0", b"\xff", b"\xf9\x7e\0"):
        assert is_refused(data), data[:20]
    check_marks()
    good, bad, vectors = of_vectors()
    for how, data in good.items():
        assert not is_refused(data), how
        for damage, spoiled in damaged(data, chance):
            copies += 1
            assert is_not_provable(spoiled, data) or is_refused(spoiled), f"{how}, {damage}: it is not refused"
    for how, data in bad.items():
        assert is_refused(data), how
    check_headers(*vectors)
    check_base(*vectors)
    check_forgotten()
    check_records()
    check_patterns()
    check_named_base((ROOT / "tests" / "fixtures" / "base.log").read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        check_command(paths[0], Path(folder))
    print(f"{len(paths)} exports are proved, {copies} damaged copies of them are refused")
