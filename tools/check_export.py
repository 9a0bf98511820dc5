#!/usr/bin/env python3
"""Checks exported logs with schema/README.md and schema/change.cddl alone: without the store and without its code.

An auditor needs this file, Python 3.9 or newer, and two libraries:

    python3 -m pip install 'blake3>=1,<2' 'cbor2>=5'
    python3 check_export.py --anchor anchors.ndjson audit.log

For each export it recomputes every hash and follows the chain from the first item to the last, checks that the changes
of each key follow each other, and prints the head that they lead to. An export proves what it shows to whoever knows
that this head is the store's, or has an anchor that was kept elsewhere: compare the head, or pass the anchors. Values
are neither shown nor kept.
"""

import argparse
import itertools
import json
import sys

try:
    import cbor2
    from blake3 import blake3
except ImportError as missing:
    sys.exit(f"error: {missing}\n  hint: python3 -m pip install 'blake3>=1,<2' 'cbor2>=5'")

PROVED, WRONG, UNREADABLE = 0, 1, 2
MOST = 2**63 - 1
# Longer than any item that a store writes: a value of 256 MiB, its header, and some.
LONGEST = (256 << 20) + (128 << 10)
LONGEST_LINE = 1 << 16
MARKS = "/.univrs/marks/"
TEXTS = {"actor", "cause", "reason", "commit_id", "correlation"}
CREATED, UPDATED, DELETED = 1, 2, 3
CLOCK = "/.univrs/clock"
COMPACTION = "/.univrs/compaction"
RESERVED = "/.univrs"
# The last microsecond of the year 9999.
LAST_MOMENT = 253402300799999999
MOST_DEEP = 8
# The largest limit of metadata that a store can have.
MOST_META = 64 << 10


class Wrong(Exception):
    """What is wrong with an export."""


def need(holds, what):
    if not holds:
        raise Wrong(what)


def derive(context, *parts):
    return blake3(b"".join(parts), derive_key_context=f"univrs-state 1 {context}").digest()


def is_bytes(value, length):
    return type(value) is bytes and len(value) == length


def is_number(value, least=0, most=MOST):
    return type(value) is int and least <= value <= most


class Tape:
    """A stream that keeps the bytes of the item that is read, up to a length."""

    def __init__(self, stream):
        self.stream, self.next, self.kept, self.length, self.done = stream, b"", [], 0, 0

    def readable(self):
        return True

    def seekable(self):
        return False

    def has_more(self):
        self.next = self.next or self.stream.read(1)
        return self.next != b""

    def read(self, length=-1):
        if length < 0 or length > LONGEST:
            raise Wrong(f"an item is longer than {LONGEST} bytes")
        part, self.next = self.next[:length], self.next[length:]
        part += self.stream.read(length - len(part))
        self.kept.append(part)
        self.length += len(part)
        need(self.length <= LONGEST, f"an item is longer than {LONGEST} bytes")
        return part

    def take(self):
        self.done += self.length
        item, self.kept, self.length = b"".join(self.kept), [], 0
        return item


def decoder(stream):
    try:
        # One that reads ahead would hide where an item ends.
        return cbor2.CBORDecoder(stream, read_size=1)
    except TypeError:
        return cbor2.CBORDecoder(stream)


def items(stream):
    """The items of a CBOR sequence, each with its bytes."""
    tape = Tape(stream)
    while tape.has_more():
        try:
            item = decoder(tape).decode()
        except (Wrong, OSError):
            raise
        except Exception as error:  # The library raises many kinds at bytes that are not CBOR.
            raise Wrong(f"it is cut off, or no CBOR, behind its first {tape.done} bytes") from error
        yield item, tape.take()


def head(major, argument):
    """The head of an item of a major type."""
    first, *rest = cbor2.dumps(argument)
    return bytes([first | major << 5, *rest])


def encode(item):
    """An item in deterministic CBOR (RFC 8949, section 4.2). The library's own order of the keys of a map is that of the
    older RFC 7049, which puts shorter keys first."""
    if isinstance(item, dict):
        pairs = sorted((encode(key), encode(value)) for key, value in item.items())
        return head(5, len(pairs)) + b"".join(key + value for key, value in pairs)
    if isinstance(item, (list, tuple)):
        return head(4, len(item)) + b"".join(map(encode, item))
    if isinstance(item, cbor2.CBORTag):
        return head(6, item.tag) + encode(item.value)
    return cbor2.dumps(item, canonical=True)


def is_canonical(item, data):
    return encode(item) == data


def depth(value):
    """How deep a value is nested; one that holds no other has the depth 1."""
    if isinstance(value, cbor2.CBORTag):
        return 1 + depth(value.value)
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    elif not isinstance(value, (list, tuple, set, frozenset)):
        return 1
    return 1 + max(map(depth, value), default=0)


def check_numbered(meta):
    """The fields with numbers, which are those of newer versions."""
    for number, value in meta.items():
        need(number >= 0, "its metadata has a field that only a newer version understands")
        need(depth(value) <= MOST_DEEP, "its metadata is nested too deep")


def check_meta(meta):
    if meta is None:
        return
    need(isinstance(meta, dict) and meta, "its metadata is not a map with something in it")
    check_numbered({name: value for name, value in meta.items() if type(name) is int})
    need(len(encode(meta)) <= MOST_META, f"its metadata is longer than {MOST_META} bytes")
    meta = {name: value for name, value in meta.items() if type(name) is not int}
    labels = meta.get("labels", {"": ""})
    fields = [(name, text) for name, text in meta.items() if name != "labels"]
    known = all(type(name) is str and name in TEXTS and type(text) is str for name, text in fields)
    need(known, "its metadata has a field that the format does not have")
    texts = isinstance(labels, dict) and labels and all(type(text) is str for pair in labels.items() for text in pair)
    need(texts, "its labels are not texts")


def check_header(header, seq):
    """The shape of a header, by schema/change.cddl."""
    need(type(header) is list and len(header) in (11, 12), "its header has neither 11 nor 12 fields")
    layout, place, commit, at, kind, key, version, created, prev, *until, value_hash, meta = header
    need(type(layout) is int and layout == 1, "its header is not of layout 1")
    need(type(place) is int and place == seq, "its header has another position")
    need(is_number(commit, seq), "its commit ends before it")
    need(is_number(at, -MOST - 1) and is_number(created, -MOST - 1), "its times are not numbers")
    need(is_number(kind, CREATED, DELETED), "its kind is not 1, 2 or 3")
    need(type(key) is str and 2 <= len(key.encode()) <= 1024 and key.startswith("/"), "its key is not one")
    need(is_number(version, 1) and is_number(prev, 0, seq - 1), "its version or its predecessor does not fit")
    need(value_hash is None if kind == DELETED else is_bytes(value_hash, 32), "its value hash does not fit its kind")
    for end in until:
        moment, lease = is_number(end, 1, LAST_MOMENT), is_number(end, 1 - seq, -1)
        need((moment or lease) and kind != DELETED, "its end is neither a moment nor an earlier lease")
    check_meta(meta)


def matches(pattern, key):
    """Whether a key matches a pattern: each place is a number of segments of the key that its begin can match."""
    if key.startswith(RESERVED + "/") and not pattern.startswith(RESERVED):
        return False
    names, parts = pattern.split("/")[1:], key.split("/")[1:]
    places = {0}
    for name in names[:-1]:
        if name == "**":
            places = set(range(min(places, default=len(parts) + 1), len(parts) + 1))
        else:
            places = {place + 1 for place in places if place < len(parts) and name in ("*", parts[place])}
    last = names[-1] if names else ""
    if last == "**":
        return bool(places)
    rest = {place: "/".join(parts[place:]) for place in places if place < len(parts)}
    return any(part.startswith(last[:-1]) if last.endswith("*") else part == last for part in rest.values())


def cause(meta):
    return meta.get("cause") if isinstance(meta, dict) else None


def is_digest(text):
    return type(text) is str and len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)


def check_mark(value, seq):
    """The value of a mark, which names an earlier position and the hash there. Other formats are not known here."""
    try:
        mark = json.loads(value)
    except (ValueError, RecursionError):
        mark = None
    need(isinstance(mark, dict), "its key is that of a mark, but its value is no JSON object")
    if mark.get("v", 1) == 1:
        names = is_number(mark.get("seq"), 0, seq - 1) and is_digest(mark.get("hash"))
        need(names, "its key is that of a mark, but its value names no position before it")


def read_compaction(value):
    """What the value of the key of compactions says, as far as it is known here; none if it is of another format."""
    try:
        said = json.loads(value)
    except (ValueError, RecursionError):
        said = None
    need(isinstance(said, dict), "its key is that of compactions, but its value is no JSON object")
    if said.get("v", 1) != 1:
        return None
    is_hash = all(map(is_digest, (said.get("hash"), said.get("digest", "0" * 64))))
    numbers = is_number(said.get("floor"), 1) and is_number(said.get("at"), -MOST - 1)
    numbers = numbers and is_number(said.get("count", 0))
    whole = ("count" in said) == ("digest" in said)
    need(is_hash and numbers and whole, "its key is that of compactions, but its value names no floor, or half a base")
    forgotten = said.get("forgotten", {"floor": 0, "version": 0})
    need(isinstance(forgotten, dict), "what it forgot is no JSON object")
    numbers = is_number(forgotten.get("floor"), 0, said["floor"]) and is_number(forgotten.get("version"))
    need(numbers, "what it forgot has no floor or no version")
    for keep in (said.get("keep", []), forgotten.get("keep", [])):
        need(type(keep) is list and all(type(text) is str for text in keep), "its patterns are not texts")
    return said


class Base:
    """What a compaction left of the changes at or before its floor, as far as it was followed."""

    def __init__(self, store, floor, floor_hash, floor_at, count):
        self.floor, self.floor_hash, self.floor_at = floor, floor_hash, floor_at
        self.count, self.due = count, count or 0
        # The last change: the earliest position that it can have, whether it has exactly this one, and the chain there.
        self.seq, self.is_exact, self.chain = 0, True, derive("genesis", store)
        self.commit, self.at = 0, 0
        self.seqs, self.withheld = set(), 0
        self.hasher = blake3(derive_key_context="univrs-state 1 base")
        self.hasher.update(store + floor.to_bytes(8, "big") + floor_hash)

    def digest(self):
        return self.hasher.hexdigest()

    def begins_earlier(self, prev):
        """Whether a change may follow one at this position that is not shown."""
        hidden = self.count is None or self.withheld and prev not in self.seqs
        return 0 < prev <= self.floor and bool(hidden)

    def place(self, before, seq=None):
        """Where the next change is. A change has the chain of the last one if it stands directly behind that, and only
        then."""
        is_next, following = before == self.chain, self.seq + 1
        if seq is None:
            seq, exact = following if is_next else following + 1, self.is_exact and is_next
        else:
            need(seq >= following, "it is not behind the change before it in the base")
            fits = (seq == following or not self.is_exact) if is_next else seq > following
            need(fits, "the chain before it contradicts the change before it in the base")
            exact = True
        need(seq <= self.floor, "it is not before the floor")
        return seq, exact

    def add(self, before, header_hash, seq, is_exact):
        chain = derive("chain", before, header_hash)
        if chain == self.floor_hash and not is_exact:
            seq, is_exact = self.floor, True
        fits = (seq == self.floor) == (chain == self.floor_hash)
        need(fits, "the hash at the floor is that of another change")
        self.seq, self.is_exact, self.chain = seq, is_exact, chain
        self.hasher.update(chain)
        self.due -= 1

    def check_commit(self, header):
        seq, commit, at = header[1:4]
        if seq <= self.commit:
            need((commit, at) == (self.commit, self.at), "its commit or its time differs within a commit")
        else:
            later = seq > self.commit + 1 or at > self.at or accepts_clock(header)
            need(later, "its time is not after that of the commit before it")
        need(commit <= self.floor, "its commit ends behind the floor")
        then = commit < self.floor or self.floor_at in (None, at)
        need(then, "its time is not that of the commit that ends at the floor")
        self.commit, self.at = commit, at


def accepts_clock(header):
    """Whether it is a commit that may have an earlier time, because it accepts the clock."""
    alone = header[5] == CLOCK and header[4] != DELETED and header[2] == header[1]
    return alone and cause(header[-1]) == "clock_accepted"


class Log:
    """An export, as far as it was followed."""

    def __init__(self, start, data):
        is_export = type(start) is list and len(start) in (5, 7) and start[0] == "univrs-state log"
        need(is_export, "it is not an export of univrs-state")
        _, form, self.store, self.floor, self.chain, *more = start
        floor_at, base = more or (None, 0 if self.floor == 0 else None)
        need(type(form) is int and form == 1, "its layout is another one than 1, which this program knows")
        need(is_bytes(self.store, 16) and is_number(self.floor) and is_bytes(self.chain, 32), "its start is damaged")
        need(is_canonical(start, data), "its start is not in the shortest form")
        need(floor_at is None or is_number(floor_at, -MOST - 1), "its start is damaged")
        need(base is None or is_number(base), "its start is damaged")
        fits = (floor_at, base) == (None, 0) if self.floor == 0 else base is None or base <= self.floor
        need(fits, "its start says that it has what cannot be there")
        genesis = self.floor > 0 or self.chain == derive("genesis", self.store)
        need(genesis, "it does not begin with the hash of its store")
        self.seq, self.shown, self.withheld, self.erased = self.floor, 0, 0, 0
        self.floor_hash = self.chain
        self.hidden = set()
        # The commit of the last change that is shown, and its time. Of withheld changes neither is known.
        self.commit, self.at = self.floor, 0 if self.floor == 0 else floor_at
        self.keys = {}
        self.base = Base(self.store, self.floor, self.chain, floor_at, base)
        # What the newest compaction that is shown says of the base, and what was forgotten.
        self.record, self.forgotten = None, {"floor": 0, "version": 0}
        self.ended = False

    def add(self, item, data):
        need(not self.ended, "something follows its end")
        if type(item) is list and item and item[0] == "end":
            leads = item == ["end", self.shown + self.withheld, self.seq, self.chain]
            leads = leads and is_canonical(item, data)
            self.check_due()
            need(leads, f"the hashes up to {self.seq} do not lead to the head that its end names")
            need(self.seq >= self.commit, f"it ends inside of the commit that ends at {self.commit}")
            named = self.record is None or self.has_its_base()
            need(named, f"its base is not the one that its log says was left at {self.floor}")
            self.ended = True
            return
        if type(item) is list and item and item[0] == "base":
            need(self.base.due, "its base has more changes than its start says")
            try:
                self.follow_base(item, data)
            except Wrong as wrong:
                number = self.base.count - self.base.due + 1
                raise Wrong(f"change {number} of its base: {wrong}") from wrong
            return
        self.check_due()
        self.seq += 1
        try:
            self.follow(item, data)
        except Wrong as wrong:
            raise Wrong(f"change {self.seq}: {wrong}") from wrong

    def check_due(self):
        need(not self.base.due, f"its base lacks {self.base.due} of the changes that its start says it has")

    def follow_base(self, item, data):
        need(len(item) in (3, 5) and is_bytes(item[1], 32), "it is no change")
        need(is_canonical(item, data), "it is not in the shortest form")
        before, header, rest = item[1], item[2], item[3:]
        if is_bytes(header, 32) and not rest:
            seq, is_exact = self.base.place(before)
            self.base.withheld += 1
            header_hash = header
        else:
            has_place = type(header) is list and len(header) > 1 and is_number(header[1], 1)
            need(has_place, "its header has no position")
            seq, is_exact = self.base.place(before, header[1])
            check_header(header, seq)
            self.check_value(header, rest)
            self.base.check_commit(header)
            self.check_key(header)
            self.follow_compaction(header, rest)
            header_hash = derive("header", encode(header))
            self.base.seqs.add(seq)
        self.base.add(before, header_hash, seq, is_exact)

    def has_its_base(self):
        """Whether the base is the one that the log names."""
        named = [self.record[name] for name in ("hash", "at", "count", "digest")]
        floor_at = self.record["at"] if self.base.floor_at is None else self.base.floor_at
        found = [self.floor_hash.hex(), floor_at, self.base.count, self.base.digest()]
        return self.base.count is None or named == found

    def check_value(self, header, rest):
        """Checks salt and value, if they are there. What a mark or a compaction says is read."""
        key, seq = header[5], header[1]
        if not rest:
            self.erased += header[-2] is not None
            return
        salt, value = rest
        need(is_bytes(salt, 16) and type(value) is bytes, "its salt or its value is damaged")
        need(header[-2] == derive("value", salt, value), "its value does not match its hash")
        if key.startswith(MARKS):
            check_mark(value, seq)

    def follow_compaction(self, header, rest):
        """A compaction names the base at its floor when it ends, and what was forgotten by it and by earlier ones."""
        if header[5] != COMPACTION:
            return
        said = read_compaction(rest[1]) if rest else None
        if said is None:
            self.record = None
            return
        need(said["floor"] < header[1], "its key is that of compactions, but its floor is not before it")
        if said["floor"] == self.floor:
            self.record = said if "digest" in said else None
        self.forgotten = said.get("forgotten", {"floor": 0, "version": 0})

    def is_forgotten(self, key):
        """Whether the last change of a key that there is counts as never made."""
        seq, kind, *_ = self.keys[key]
        kept = any(matches(pattern, key) for pattern in self.forgotten.get("keep", []))
        return kind == DELETED and seq < self.forgotten["floor"] and not kept

    def follow(self, item, data):
        if is_bytes(item, 32):
            need(is_canonical(item, data), "its hash is not in the shortest form")
            header_hash = item
            self.withheld += 1
            self.hidden.add(self.seq)
            if self.seq > self.commit:
                self.at = None  # The clock may have been accepted there.
        else:
            need(type(item) is list and len(item) in (1, 3), "it is no change")
            header, *rest = item
            check_header(header, self.seq)
            need(is_canonical(item, data), "it is not in the shortest form")
            self.check_value(header, rest)
            self.check_commit(header)
            self.check_key(header)
            self.follow_compaction(header, rest)
            header_hash = derive("header", encode(header))
            self.shown += 1
        self.chain = derive("chain", self.chain, header_hash)

    def check_commit(self, header):
        commit, at = header[2], header[3]
        if self.seq <= self.commit:
            need((commit, at) == (self.commit, self.at), "its commit or its time differs within a commit")
        else:
            later = self.at is None or at > self.at or accepts_clock(header)
            need(later, "its time is not after that of the commit before it")
        self.commit, self.at = commit, at

    def check_key(self, header):
        seq, kind, key, version, created, prev = header[1], *header[4:9]
        migrated = cause(header[-1]) == "migrated"
        known = self.keys.get(key)
        if known and not self.is_forgotten(key):
            before, last_kind, last_version, last_created = known
            # Between the two may be a change of the key that is withheld.
            if prev != before:
                hidden = prev in self.hidden or self.base.begins_earlier(prev)
                need(hidden and prev > before, "it does not follow the change of its key before it")
            else:
                need(version == last_version + 1, "its version does not follow that of its key")
                need((kind == CREATED) == (last_kind == DELETED), "its kind does not follow that of its key")
                need(kind == CREATED or created == last_created, "its key was created at another time")
        elif prev > 0:
            # Of the base each change may follow one that is gone.
            hidden = seq <= self.floor or prev in self.hidden or self.base.begins_earlier(prev)
            need(hidden, "it follows a change of its key that is not there")
            need(version > 1, "its version is that of a first change")
        else:
            need(kind == CREATED, "it is the first change of its key, but does not create it")
            self.check_first_version(version, migrated)
        if kind == CREATED:
            is_then = created == header[3] or migrated and created < header[3]
            need(is_then, "its time of creation is not its time")
        self.keys[key] = (seq, kind, version, created)

    def check_first_version(self, version, migrated):
        """A key that has no change begins behind all versions that were forgotten. More of them than are known may be told
        by what is withheld or was before the floor."""
        least = self.forgotten["version"] + 1
        has_all = self.base.count is not None and not self.base.withheld and not self.withheld
        fits = version == least if has_all else version >= least
        need(fits or migrated, f"it is the first change of its key, but has not the version {least}")


def follow(stream, wanted):
    """Follows an export to its end. Returns it, and the hashes at the positions that are wanted, where it has them."""
    sequence = items(stream)
    log, hashes = None, {}
    for item, data in sequence:
        if log is None:
            log = Log(item, data)
        else:
            log.add(item, data)
        if log.seq in wanted:
            hashes[log.seq] = log.chain
    need(log is not None, "it is empty")
    need(log.ended, f"it is cut off after change {log.seq}")
    return log, hashes


def read_anchors(path):
    """The anchors of a file, one in a line."""
    anchors = []
    with open(path, encoding="utf-8", errors="replace") as lines:
        for number in itertools.count(1):
            line = lines.readline(LONGEST_LINE)
            if not line:
                return anchors
            if not line.strip():
                continue
            try:
                anchor = json.loads(line)
                need(anchor["v"] == 1 and anchor["type"] == "anchor" and is_number(anchor["seq"]), "")
                anchors.append((bytes.fromhex(anchor["store"]), anchor["seq"], bytes.fromhex(anchor["hash"])))
            except (ValueError, KeyError, TypeError, RecursionError, Wrong) as error:
                raise ValueError(f"line {number} is not an anchor") from error


def count(number, noun):
    return f"{number} {noun if number == 1 else noun + 's'}"


def report_base(log):
    what = f"the base of {count(log.base.count, 'change')}"
    if log.record is None:
        print(f"  not provable  {what}: the log shows no digest of this base")
    else:
        print(f"  proved        {what}, which has the digest that the log names")
    if log.base.withheld:
        hidden = count(log.base.withheld, "change")
        print(f"  not provable  {hidden} of the base withheld, of which only the hashes are here")


def report(name, log, hashes, anchors):
    """Prints what an export proves. Returns whether no anchor contradicts it."""
    print(f"{name}: the hashes lead to its head")
    print(f"  head          {log.seq}:{log.chain.hex()}")
    print(f"  store         {log.store.hex()}")
    if log.floor:
        print(f"  begins after  {log.floor}:{log.floor_hash.hex()}")
        if log.base.count is None or log.record is None:
            print("  not provable  the store id, which only a whole log proves, or the digest of a base")
    if log.floor and log.base.count is not None:
        report_base(log)
    print(f"  proved        {count(log.shown, 'change')} shown")
    if log.withheld:
        print(f"  not provable  {count(log.withheld, 'change')} withheld, of which only the hashes are here")
    if log.erased:
        print(f"  not provable  {count(log.erased, 'value')} erased or redacted, of which only the hashes are here")
    good = True
    for store, seq, digest in anchors:
        if store != log.store:
            print(f"  not provable  the anchor {seq} is of another store")
        elif seq not in hashes:
            print(f"  not provable  the anchor {seq} is outside of this export, from {log.floor} to {log.seq}")
        elif hashes[seq] == digest:
            print(f"  proved        the anchor {seq} is in this chain")
        else:
            print(f"  contradicted  at {seq} the anchor has {digest.hex()}, this chain {hashes[seq].hex()}")
            good = False
    return good


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit: 0 all is proved, 1 an export is damaged or contradicts an anchor, 2 something could not be read",
    )
    lines = "a file with anchors that were kept elsewhere, a line of JSON each, as `ustate anchor` prints them"
    parser.add_argument("--anchor", metavar="FILE", action="append", default=[], help=lines)
    parser.add_argument("exports", metavar="EXPORT", nargs="+", help="a file that `ustate export` wrote")
    arguments = parser.parse_args()
    worst, anchors = PROVED, []
    for path in arguments.anchor:
        try:
            anchors += read_anchors(path)
        except (OSError, ValueError) as error:
            print(f"error: {path}: {error}", file=sys.stderr)
            return UNREADABLE
    for path in arguments.exports:
        try:
            with open(path, "rb") as stream:
                log, hashes = follow(stream, {seq for _, seq, _ in anchors})
            if not report(path, log, hashes, anchors):
                worst = max(worst, WRONG)
        except Wrong as wrong:
            print(f"error: {path}: {wrong}", file=sys.stderr)
            worst = max(worst, WRONG)
        except (OSError, MemoryError) as error:
            print(f"error: {path}: {error or 'there is too little memory'}", file=sys.stderr)
            worst = UNREADABLE
    return worst


if __name__ == "__main__":
    sys.exit(main())
