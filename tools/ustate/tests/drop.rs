//! Thinning, erasing, and the policy that says what is dropped when.

use snapbox::str;
use univrs_state::log::Timestamp;
use univrs_state::options::Clock;
use univrs_state::{LocalStore, Options, StateStore};

use crate::support::{Place, check};

/// A clock that stands, long ago.
struct Past;

impl Clock for Past {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000)
    }
}

/// Seven changes of long ago: three of /m/a, two of /users/7, which is deleted, one of /b, and a consumer that read none.
async fn stocked() -> Place {
    let place = Place::new();
    let store = Options::new().clock(Past).open(place.path("state.db")).await.unwrap();
    for (key, value) in
        [("/m/a", "one"), ("/m/a", "two"), ("/users/7", "secret"), ("/m/a", "three"), ("/b", "1")]
    {
        store.set(key, value.into()).await.unwrap();
    }
    store.delete("/users/7").await.unwrap();
    let consumer = store.consumer("billing").pattern("/**").start(univrs_state::Seq::new(1));
    consumer.hold(std::time::Duration::from_secs(36_500 * 86_400)).open().await.unwrap();
    store.close().await.unwrap();
    place
}

#[tokio::test]
#[allow(clippy::too_many_lines)] // what is expected is one text
async fn a_thinning_says_what_goes_and_who_is_in_the_way_before_it_drops_anything() {
    let place = stocked().await;
    let transcript = place.transcript(&[
        "thin /m/* --at 6 --dry-run",
        "thin /m/* --at 6 --dry-run --force --json",
        "thin /m/* --at 6 --dry-run --force -o tsv",
        "thin /m/* --at 6 --yes",
        "thin /m/* --at 6 --force",
        "thin /m/* --at 6",
        "thin /m/*",
        "thin /m/* --at 99 --yes",
        "thin /.univrs/** --at 6 --yes",
        "thin /m/* --at 6 --keep 0",
        "thin /m/* --at 6 --resume",
        "thin --resume",
        "get /m/a --at 1",
        "consumers remove billing",
        "thin /m/* --at 6 --keep 2 --yes -m room",
        "thin /m/* --at 6 --yes --json",
        "get /m/a --at 1",
        "get /m/a",
        "history /.univrs/thinned/6 -o tsv",
        "verify",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate thin /m/* --at 6 --dry-run
would drop 2 values (6 B) up to 6, and keep their changes
  the consumer billing, at 1: in the way for 36500 d; --force passes it by
! error: held back: the log cannot be thinned up to 6 as it is
!   hint: ustate consumers
[exit 1]
$ ustate thin /m/* --at 6 --dry-run --force --json
{"v":1,"type":"thinning","at":"6:[HASH]","values":2,"bytes":6,"dry_run":true,"consumers":[{"name":"billing","seq":1,"lag":6,"pattern":"/**","hold_seconds":3153600000,"holds":true,"recorded":"[EXACT]","generation":1,"cursor":"[STORE]:1:[HASH]"}]}
$ ustate thin /m/* --at 6 --dry-run --force -o tsv
6	2	6
consumer	billing	1	holds
$ ustate thin /m/* --at 6 --yes
! error: held back: the log cannot be thinned up to 6 as it is
!   the consumer billing, at 1: in the way for 36500 d; --force passes it by
!   hint: ustate consumers
[exit 1]
$ ustate thin /m/* --at 6 --force
! error: drop 2 values (6 B) up to 6 for good? there is no terminal to ask on
!   --yes drops them without asking, --dry-run says who is in the way
[exit 2]
$ ustate thin /m/* --at 6
! error: held back: the log cannot be thinned up to 6 as it is
!   the consumer billing, at 1: in the way for 36500 d; --force passes it by
!   hint: ustate consumers
[exit 1]
$ ustate thin /m/*
! error: the following required arguments were not provided: --at <POINT>
!   hint: ustate thin --help
[exit 2]
$ ustate thin /m/* --at 99 --yes
! error: 99 lies beyond the end of the log
!   the log ends at 7
!   hint: ustate log -n 10
[exit 6]
$ ustate thin /.univrs/** --at 6 --yes
! error: invalid argument: the pattern "/.univrs/**" is of keys of the store itself, which keep their values: name other keys
[exit 2]
$ ustate thin /m/* --at 6 --keep 0
! error: invalid value '0' for '--keep <N>': 0 is not in 1..18446744073709551615
!   hint: ustate thin --help
[exit 2]
$ ustate thin /m/* --at 6 --resume
! error: the argument '[PATTERN]' cannot be used with '--resume'
!   hint: ustate thin --help
[exit 2]
$ ustate thin --resume
! note: no thinning was cut off, so there is nothing to finish
$ ustate get /m/a --at 1
one
$ ustate consumers remove billing
removed the consumer billing
$ ustate thin /m/* --at 6 --keep 2 --yes -m room
dropped 1 value (3 B) up to 6
$ ustate thin /m/* --at 6 --yes --json
{"v":1,"type":"thinning","at":"6:[HASH]","values":1,"bytes":3}
$ ustate get /m/a --at 1
! error: erased: the value that change 1 gave /m/a is gone; its hash remains
[exit 6]
$ ustate get /m/a
three
$ ustate history /.univrs/thinned/6 -o tsv
10	[EXACT]	updated	/.univrs/thinned/6	json	{"v":1,"seq":6,"hash":"[HASH]","pattern":"/m/*","keep":1}	alice@ops	
9	[EXACT]	created	/.univrs/thinned/6	json	{"v":1,"seq":6,"hash":"[HASH]","pattern":"/m/*","keep":2}	alice@ops	room
$ ustate verify
  proved        every change's bytes match its hash      8 changes
  proved        every link follows the one before it    10 links
  proved        kv_store equals the fold of the log      3 keys and 2 deleted
  proved        the storage around the rows is whole
  not provable  10 changes that no anchor covers could have been cut off or rewritten
  not provable  2 values erased or redacted, of which only the hash is checked
  head          10:[HASH]
! note: an anchor that is kept elsewhere proves more: ustate anchor >> anchors.ndjson

"#]],
    );
}

#[tokio::test]
#[allow(clippy::too_many_lines)] // what is expected is one text
async fn an_erasure_says_what_goes_and_which_keys_are_in_the_way_before_it_erases_anything() {
    let place = stocked().await;
    let transcript = place.transcript(&[
        "erase /** --dry-run",
        "erase /** --dry-run --leave-live --json",
        "erase /m/* --yes",
        "erase /users/** --dry-run",
        "erase /users/** --dry-run -o tsv",
        "erase /users/**",
        "erase",
        "erase /.univrs/** --yes",
        "erase /users/** --resume",
        "erase --resume",
        "get /users/7 --at 3",
        "erase /users/** --yes -m request",
        "get /users/7 --at 3",
        "erase /users/** --yes",
        "erase /m/* --leave-live --yes --json",
        "get /m/a",
        "history /.univrs/erasures/1",
        "history /users/7",
        "verify",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate erase /** --dry-run
would erase 3 values (12 B), and keep their changes
  /b, /m/a: in the way
  out of reach: key names, metadata, exports, backups, other machines
! error: held back: 2 keys of the pattern exist
!   delete them first, or leave their values with --leave-live
!   hint: ustate delete --prefix / --dry-run
[exit 1]
$ ustate erase /** --dry-run --leave-live --json
{"v":1,"type":"erasure","at":"7:[HASH]","values":3,"bytes":12,"dry_run":true,"live":2,"live_keys":["/b","/m/a"]}
$ ustate erase /m/* --yes
! error: held back: 1 key of the pattern exists
!   /m/a
!   delete them first, or leave their values with --leave-live
!   hint: ustate delete --prefix /m/ --dry-run
[exit 1]
$ ustate erase /users/** --dry-run
would erase 1 value (6 B), and keep their changes
  out of reach: key names, metadata, exports, backups, other machines
$ ustate erase /users/** --dry-run -o tsv
7	1	6
$ ustate erase /users/**
! error: erase 1 value (6 B) for good? there is no terminal to ask on
!   --yes erases them without asking, --dry-run says which keys are in the way
[exit 2]
$ ustate erase
! error: the following required arguments were not provided: <PATTERN>
!   hint: ustate erase --help
[exit 2]
$ ustate erase /.univrs/** --yes
! error: invalid argument: the pattern "/.univrs/**" is of keys of the store itself, which keep their values: name other keys
[exit 2]
$ ustate erase /users/** --resume
! error: the argument '[PATTERN]' cannot be used with '--resume'
!   hint: ustate erase --help
[exit 2]
$ ustate erase --resume
! note: no erasure was cut off, so there is nothing to finish
$ ustate get /users/7 --at 3
secret
$ ustate erase /users/** --yes -m request
erased 1 value (6 B)
! note: out of reach: key names, metadata, exports, backups, other machines
$ ustate get /users/7 --at 3
! error: erased: the value that change 3 gave /users/7 is gone; its hash remains
[exit 6]
$ ustate erase /users/** --yes
erased 0 values (0 B)
! note: out of reach: key names, metadata, exports, backups, other machines
$ ustate erase /m/* --leave-live --yes --json
{"v":1,"type":"erasure","at":"8:[HASH]","values":2,"bytes":6,"swept":true}
$ ustate get /m/a
three
$ ustate history /.univrs/erasures/1
8  [TIME]  alice@ops  created {"v":1,"ranges":[[3,3]]}   request
$ ustate history /users/7
6  [TIME]    deleted
3  [TIME]    created (erased)
$ ustate verify
  proved        every change's bytes match its hash     6 changes
  proved        every link follows the one before it    9 links
  proved        kv_store equals the fold of the log     5 keys and 1 deleted
  proved        the storage around the rows is whole
  not provable  9 changes that no anchor covers could have been cut off or rewritten
  not provable  3 values erased or redacted, of which only the hash is checked
  head          9:[HASH]
! note: an anchor that is kept elsewhere proves more: ustate anchor >> anchors.ndjson

"#]],
    );
}

#[tokio::test]
#[allow(clippy::too_many_lines)] // what is expected is one text
async fn a_policy_is_set_shown_planned_and_applied() {
    let place = stocked().await;
    let transcript = place.transcript(&[
        "retain",
        "retain show",
        "retain show --json",
        "retain set",
        "retain set --age 1s",
        "retain set --age soon",
        "retain set --keep /b",
        "retain set --values /m/*",
        "retain set --values /.univrs/*=7d",
        "retain set --age 90d --keep /b --forget --spare-marks --values /m/*=7d:2 --dry-run",
        "retain set --age 90d --keep /b --forget --values /m/*=7d -m agreed",
        "retain show",
        "retain show --json",
        "retain show -o tsv",
        "retain --dry-run",
        "retain --yes",
        "consumers remove billing",
        "retain --dry-run",
        "retain --dry-run --json",
        "retain --dry-run -o tsv",
        "retain",
        "retain --yes -m weekly",
        "retain --yes --json",
        "list",
        "log -o tsv",
        "retain clear",
        "retain show",
    ]);
    check(
        &transcript,
        str![[r#"
$ ustate retain
! error: the store has no policy, so everything is kept
!   hint: ustate retain set --help
[exit 1]
$ ustate retain show
no policy: everything is kept
$ ustate retain show --json
{"v":1,"type":"policy"}
$ ustate retain set
! error: a policy needs --age or --values; 'retain clear' removes it
[exit 2]
$ ustate retain set --age 1s
! error: invalid argument: a policy has an age of 1 seconds: it must have 600 at least, because open scans and retries may go back so far, and 100 years at most
[exit 2]
$ ustate retain set --age soon
! error: invalid value 'soon' for '--age <AGE>': an age looks like 90d, 12h or 1y
!   hint: ustate retain --help
[exit 2]
$ ustate retain set --keep /b
! error: the following required arguments were not provided: --age <AGE>
!   hint: ustate retain --help
[exit 2]
$ ustate retain set --values /m/*
! error: a rule for values looks like '/metrics/**=7d' or '/metrics/**=7d:3', not "/m/*"
[exit 2]
$ ustate retain set --values /.univrs/*=7d
! error: invalid argument: the pattern "/.univrs/*" is of keys of the store itself, which keep their values
[exit 2]
$ ustate retain set --age 90d --keep /b --forget --spare-marks --values /m/*=7d:2 --dry-run
age       90 d
keep      /b
forget    deleted keys of that age
spare     what marks name
values    /m/* after 7 d, but for 2 versions
$ ustate retain set --age 90d --keep /b --forget --values /m/*=7d -m agreed
age       90 d
keep      /b
forget    deleted keys of that age
values    /m/* after 7 d, but for 1 version
! note: nothing was dropped; ustate retain --dry-run says what is due, and ustate retain drops it
$ ustate retain show
age       90 d
keep      /b
forget    deleted keys of that age
values    /m/* after 7 d, but for 1 version
$ ustate retain show --json
{"v":1,"type":"policy","age_seconds":7776000,"keep":["/b"],"forget":true,"spare_marks":false,"values":[{"pattern":"/m/*","age_seconds":604800,"keep":1}]}
$ ustate retain show -o tsv
age	90 d
keep	/b
forget	deleted keys of that age
values	/m/* after 7 d, but for 1 version
$ ustate retain --dry-run
nothing is due
  the consumer billing is done up to 1 only
$ ustate retain --yes
nothing was due
  the consumer billing is done up to 1 only
$ ustate consumers remove billing
removed the consumer billing
$ ustate retain --dry-run
would drop 4 changes (36 B) up to 7 for good
would drop 2 values (6 B) up to 7 for good
$ ustate retain --dry-run --json
{"v":1,"type":"retention","floor":"7:[HASH]","dropped":4,"thinned":[{"at":"7:[HASH]","values":2,"bytes":6}],"held_back":[],"policy":{"age_seconds":7776000,"keep":["/b"],"forget":true,"spare_marks":false,"values":[{"pattern":"/m/*","age_seconds":604800,"keep":1}]},"dry_run":true}
$ ustate retain --dry-run -o tsv
compacted	7	4
thinned	7	2
$ ustate retain
! error: drop 4 changes (36 B) up to 7 for good, drop 2 values (6 B) up to 7 for good? there is no terminal to ask on
!   --yes does it without asking, --dry-run says what holds it back
[exit 2]
$ ustate retain --yes -m weekly
dropped 4 changes, and left 3 up to 7
$ ustate retain --yes --json
{"v":1,"type":"retention","thinned":[],"held_back":[]}
$ ustate list
/b
/m/a
$ ustate log -o tsv
12	[EXACT]	updated	/.univrs/compaction	json	{"v":1,"floor":7,"hash":"[HASH]","at":1700000000000006,"keep":["/b"],"forgotten":{"floor":7,"version":7,"keep":["/b"]},"count":3,"digest":"[HASH]"}	alice@ops	weekly
11	[EXACT]	created	/.univrs/compaction	json	{"v":1,"floor":7,"hash":"[HASH]","at":1700000000000006,"keep":["/b"],"forgotten":{"floor":7,"version":7,"keep":["/b"]}}	alice@ops	weekly
10	[EXACT]	deleted	/.univrs/consumers/billing			alice@ops	
9	[EXACT]	updated	/.univrs/retention	json	{"v":1,"age":7776000000000,"keep":["/b"],"forget":true,"spare_marks":false,"values":[{"pattern":"/m/*","age":604800000000,"keep":1}],"begun":true}	alice@ops	
8	[EXACT]	created	/.univrs/retention	json	{"v":1,"age":7776000000000,"keep":["/b"],"forget":true,"spare_marks":false,"values":[{"pattern":"/m/*","age":604800000000,"keep":1}],"begun":false}	alice@ops	agreed
$ ustate retain clear
removed: everything is kept
$ ustate retain show
no policy: everything is kept

"#]],
    );
}
