//! The frozen vectors of `schema/vectors.json`: the format must not drift.

use std::sync::Arc;

use serde_json::{Value, json};

use super::numbered::Numbered;
use super::*;
use crate::seq::Seq;

const FROZEN: &str = include_str!("../../schema/vectors.json");
const README: &str = include_str!("../../schema/README.md");

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[digit as usize]))
        .collect()
}

/// Six commits: a creation and a deletion of keys; an update with full metadata; values that end by themselves; the
/// clock accepted at an earlier time; metadata with a field of a newer version; and a key that was migrated.
fn sealed() -> (StoreId, Vec<Change>) {
    let store = StoreId::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()));
    let draft = |kind, key: &str, version, created_at, prev, value: Option<&[u8]>| Draft {
        kind,
        key: key.into(),
        version,
        created_at,
        prev,
        until: None,
        value: value.map(Arc::from),
    };
    let mut salts = 0_u8;
    let mut salt = || {
        salts += 1;
        [salts; SALT_BYTES]
    };
    let first = vec![
        draft(ChangeKind::Created, "/a", 1, None, Prev::Recorded(Seq::ZERO), Some(b"1")),
        draft(ChangeKind::Created, "/nodes/n1/ä", 1, None, Prev::Recorded(Seq::ZERO), Some(b"")),
        draft(ChangeKind::Deleted, "/a", 2, None, Prev::Draft(0), None),
    ];
    let noon = Timestamp::from_micros(1_767_225_600_000_000);
    let (mut changes, tip) = seal(first, None, Tip::genesis(store), noon, &mut salt);
    let second = vec![draft(
        ChangeKind::Updated,
        "/nodes/n1/ä",
        2,
        Some(noon),
        Prev::Recorded(Seq::new(2)),
        Some(&[0xff; 300]),
    )];
    let mut meta = Meta::new()
        .actor("kubelet@n7")
        .reason("drain")
        .correlation("req-1")
        .label("zone", "b")
        .label("a", "");
    meta.commit_id = Some("0b5e".into());
    let (more, mut tip) = seal(second, Some(&Arc::new(meta)), tip, Timestamp::EPOCH, &mut salt);
    changes.extend(more);

    let caused = |cause: &str| Meta { cause: Some(cause.into()), ..Meta::new() };
    let none = Prev::Recorded(Seq::ZERO);
    let ends = |draft: Draft, number| Draft { until: Until::from_number(number), ..draft };
    let moment = noon.as_micros() + 3_600_000_000;
    let ending = vec![
        ends(draft(ChangeKind::Created, "/session", 1, None, none, Some(b"s")), moment),
        ends(draft(ChangeKind::Created, "/held", 1, None, none, Some(b"h")), -4),
    ];
    let clock = vec![draft(ChangeKind::Created, "/.univrs/clock", 1, None, none, Some(br#"{"v":1}"#))];
    let since = Some(Timestamp::from_micros(noon.as_micros() + 2));
    let again =
        vec![draft(ChangeKind::Updated, "/session", 2, since, Prev::Recorded(Seq::new(5)), Some(b"t"))];
    let newer = Numbered::default().with(0, b"\xf6").with(24, b"\x82\x01\x61x");
    let migrated =
        vec![draft(ChangeKind::Created, "/old", 7, Some(Timestamp::from_micros(-1)), none, Some(b"o"))];
    let early = Timestamp::from_micros(noon.as_micros() - 86_400_000_000);
    for (drafts, meta) in [
        (ending, None),
        (clock, Some(caused("clock_accepted"))),
        (again, Some(Meta { numbered: newer, ..Meta::new().actor("a") })),
        (migrated, Some(caused("migrated"))),
    ] {
        let (sealed, next) = seal(drafts, meta.map(Arc::new).as_ref(), tip, early, &mut salt);
        changes.extend(sealed);
        tip = next;
    }
    (store, changes)
}

fn computed() -> Value {
    let (store, changes) = sealed();
    let rows: Vec<Value> = changes
        .iter()
        .map(|change| {
            let mut row = json!({
                "seq": change.seq, "commit_seq": change.commit_seq, "at": change.at, "kind": change.kind.code(),
                "key": change.key, "version": change.version, "created_at": change.created_at, "prev": change.prev,
                "value": change.value.as_deref().map(hex),
                "salt": change.salt.map(|salt| hex(&salt)),
                "value_hash": change.value_hash,
                "meta": change.meta,
                "meta_cbor": change.meta.as_ref().map(|meta| hex(&meta.encode())),
                "header": hex(&change.header()),
                "header_hash": change.header_hash(),
                "hash": change.hash,
            });
            if let (Some(fields), Some(until)) = (row.as_object_mut(), change.until) {
                fields.insert("until".into(), json!(until));
            }
            row
        })
        .collect();
    let bases: Vec<Value> = BASES
        .iter()
        .map(|(floor, seqs)| {
            let floor = changes[floor - 1].head();
            let rows: Vec<Value> = seqs.iter().map(|seq| json!({ "seq": seq, "before": before(&changes, *seq) })).collect();
            json!({ "floor": floor.seq, "hash": floor.hash, "changes": rows, "digest": digest(store, &changes, floor, seqs) })
        })
        .collect();
    json!({ "store_id": store.to_string(), "genesis": Head::genesis(store).hash, "changes": rows, "bases": bases })
}

/// Floors, and the positions of the changes that a compaction there leaves. The second one forgets the key `/a`, which was
/// deleted.
const BASES: [(usize, &[usize]); 3] = [(8, &[3, 4, 6, 7, 8]), (3, &[2]), (6, &[3, 4, 5, 6])];

/// The chain before the change at a position behind the first.
fn before(changes: &[Change], seq: usize) -> Hash {
    changes[seq - 2].hash
}

fn digest(store: StoreId, changes: &[Change], floor: Head, seqs: &[usize]) -> Hash {
    let mut digest = BaseDigest::new(store, floor);
    for seq in seqs {
        digest.push(changes[seq - 1].hash);
    }
    digest.finish()
}

#[test]
fn the_format_is_what_it_was_when_it_was_frozen() {
    let frozen: Value = serde_json::from_str(FROZEN).unwrap();
    let computed = computed();
    assert_eq!(computed, frozen, "computed:\n{}", serde_json::to_string_pretty(&computed).unwrap());
}

#[test]
fn the_description_of_the_format_shows_the_frozen_vectors() {
    let (store, changes) = sealed();
    let mut shown = vec![store.to_string(), Head::genesis(store).hash.to_string()];
    for change in changes.iter().take(3) {
        shown.extend([hex(&change.header()), change.header_hash().to_string(), change.hash.to_string()]);
        shown.extend(change.value_hash.map(|hash| hash.to_string()));
    }
    let (floor, seqs) = BASES[0];
    shown.push(digest(store, &changes, changes[floor - 1].head(), seqs).to_string());
    for hex in shown {
        assert!(README.contains(&hex), "schema/README.md lacks {hex}");
    }
}

type Spoil = fn(&mut Change);

#[test]
fn a_sealed_log_follows_and_any_changed_field_breaks_it() {
    let (store, changes) = sealed();
    let follow_all = |changes: &[Change]| {
        let mut follow = Follow::genesis(store);
        changes.iter().try_for_each(|change| follow.check(change))
    };
    assert_eq!(follow_all(&changes), Ok(()));
    let spoils: [(&str, Spoil); 16] = [
        ("seq", |c| c.seq = c.seq.next()),
        ("commit_seq", |c| c.commit_seq = c.commit_seq.next()),
        ("at", |c| c.at = Timestamp::from_micros(c.at.as_micros() + 1)),
        ("kind", |c| c.kind = ChangeKind::Deleted),
        ("key", |c| c.key = "/b".into()),
        ("version", |c| c.version += 1),
        ("created_at", |c| c.created_at = Timestamp::EPOCH),
        ("prev", |c| c.prev = Seq::new(1)),
        ("until", |c| c.until = Until::from_number(7)),
        ("value", |c| c.value = Some(Arc::from(&b"x"[..]))),
        ("no value", |c| c.value = None),
        ("salt", |c| c.salt = Some([9; 16])),
        ("value_hash", |c| c.value_hash = Some(Hash::from_bytes([9; 32]))),
        ("meta", |c| c.meta = Some(Arc::new(Meta::new().actor("mallory")))),
        ("no meta", |c| c.meta = None),
        ("hash", |c| c.hash = Hash::from_bytes([9; 32])),
    ];
    let last = 3;
    for (field, spoil) in spoils {
        let mut spoiled = changes.clone();
        spoil(&mut spoiled[last]);
        let broken = follow_all(&spoiled).expect_err(field);
        let due = if field == "seq" { changes[last].seq } else { spoiled[last].seq };
        assert_eq!(broken.seq(), due, "{field}");
    }
    let other = Follow::genesis(StoreId::from_bytes([0xee; 16])).check(&changes[0]);
    assert_eq!(other, Err(Break::Chain(Seq::new(1))), "a change of another store");
    assert_eq!(follow_all(&changes[1..]).unwrap_err().seq(), Seq::new(1), "the first change is missing");
    let erased: Vec<Change> =
        changes.iter().map(|c| Change { value: None, salt: None, ..c.clone() }).collect();
    assert_eq!(follow_all(&erased), Ok(()), "values may be erased, hashes stay");
}

// Every hash of such a log is right.
#[test]
fn a_change_whose_fields_contradict_each_other_is_refused_whatever_its_hash_is() {
    let follow = |at: usize, spoil: Spoil| {
        let (store, mut changes) = sealed();
        let mut follow = Follow::genesis(store);
        spoil(&mut changes[at]);
        changes.iter_mut().take(at + 1).try_for_each(|change| {
            let header = change.header_hash();
            follow.chain(change, header)
        })
    };
    assert_eq!(follow(3, |_| {}), Ok(()));
    let spoils: [(&str, usize, Spoil); 12] = [
        ("a first change that updates", 0, |c| c.kind = ChangeKind::Updated),
        ("a later change of version 1", 3, |c| c.version = 1),
        ("version 0", 3, |c| c.version = 0),
        ("a version that no file can hold", 3, |c| c.version = u64::MAX),
        ("its own predecessor", 3, |c| c.prev = c.seq),
        ("a deletion with a value hash", 2, |c| c.value_hash = Some(Hash::from_bytes([9; 32]))),
        ("an update without one", 3, |c| (c.value, c.salt, c.value_hash) = (None, None, None)),
        ("created at another time", 1, |c| c.created_at = Timestamp::EPOCH),
        ("created after it", 8, |c| c.created_at = Timestamp::from_micros(i64::MAX)),
        ("a deletion that ends", 2, |c| c.until = Until::from_number(7)),
        ("ended by a lease of its own", 5, |c| c.until = Until::from_number(-6)),
        ("a value without salt", 3, |c| c.salt = None),
    ];
    for (what, at, spoil) in spoils {
        let seq = Seq::new(at as u64 + 1);
        assert_eq!(follow(at, spoil), Err(Break::Shape(seq)), "{what}");
    }
    let same_time: Spoil = |c| c.at = Timestamp::from_micros(1_767_225_600_000_000);
    assert_eq!(follow(3, same_time), Err(Break::Commit(Seq::new(4))), "the time of the commit before");
    let free: [(&str, usize, Spoil); 4] = [
        ("a key that was forgotten and made anew", 0, |c| c.version = 2),
        ("a key of a time that was not accepted later", 3, |c| {
            c.created_at = Timestamp::from_micros(i64::MAX);
        }),
        ("the clock set to the time of the commit before", 6, |c| {
            (c.at, c.created_at) = [1_767_225_600_000_002; 2].map(Timestamp::from_micros).into();
        }),
        ("a lease of the change before", 5, |c| c.until = Until::from_number(-5)),
    ];
    for (what, at, spoil) in free {
        assert_eq!(follow(at, spoil), Ok(()), "{what}");
    }
    let clock: [(&str, Spoil); 4] = [
        ("another key", |c| c.key = "/clock".into()),
        ("no cause", |c| c.meta = None),
        ("another cause", |c| {
            c.meta = Some(Arc::new(Meta { cause: Some("restored".into()), ..Meta::new() }));
        }),
        ("not alone", |c| c.commit_seq = Seq::new(8)),
    ];
    for (what, spoil) in clock {
        assert_eq!(follow(6, spoil), Err(Break::Commit(Seq::new(7))), "{what}");
    }
    let deleted: Spoil =
        |c| (c.kind, c.value, c.salt, c.value_hash) = (ChangeKind::Deleted, None, None, None);
    assert_eq!(follow(6, deleted), Err(Break::Commit(Seq::new(7))), "a deletion of the clock's key");
}

#[test]
fn a_base_follows_from_its_floor_and_has_the_digest_of_its_changes() {
    let (store, changes) = sealed();
    for (floor, seqs) in BASES {
        let floor = &changes[floor - 1];
        let mut follow = FollowBase::new(store, floor.head(), Some(floor.at));
        for seq in seqs {
            let mut change = Change { hash: floor.hash, ..changes[seq - 1].clone() };
            let header = change.header_hash();
            assert_eq!(
                follow.chain(before(&changes, *seq), &mut change, header),
                Ok(()),
                "{seq} of {}",
                floor.seq
            );
            assert_eq!(change, changes[seq - 1]);
        }
        assert_eq!(follow.digest(), digest(store, &changes, floor.head(), seqs));
    }
}

#[test]
fn a_change_counts_its_key_and_its_value_as_memory() {
    let (_, changes) = sealed();
    let size = |change: &Change| change.size() - size_of::<Change>();
    assert_eq!((size(&changes[0]), size(&changes[2])), ("/a".len() + 1, "/a".len()));
    assert!(size(&changes[3]) >= "/nodes/n1/ä".len() + 300);
}
