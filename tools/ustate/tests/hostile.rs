//! Keys, values, actors and reasons that try to steer the terminal.

use snapbox::str;
use univrs_state::{Batch, LocalStore, Meta, StateStore};

use crate::support::{Place, check};

const KEY: &str = "/evil/\u{202e}gnp.exe\u{200b}";
const VALUE: &str = "a\u{1b}[2J\u{1b}]0;owned\u{7}\r\nb\u{9b}31m\u{2066}\\n";

async fn stocked() -> Place {
    let place = Place::new();
    let store = place.open().await;
    let meta = Meta::new()
        .actor("mallory\u{1b}[8m\nroot@host")
        .reason("x\u{202e}\"\n9999 deleted /everything")
        .correlation("c\u{7}")
        .label("l\n", "v\u{1b}");
    store.commit(Batch::new().set(KEY, VALUE).meta(meta.clone())).await.unwrap();
    store
        .commit(Batch::new().set("/evil/json", "{\"a\": \"\u{202e}\u{7f}\u{e0041}\"}").meta(meta))
        .await
        .unwrap();
    store.close().await.unwrap();
    place
}

const READS: [&str; 24] = [
    "list",
    "list --values",
    "tree",
    "get /evil/\u{202e}gnp.exe\u{200b}",
    "get /evil/\u{202e}gnp.exe\u{200b} --meta",
    "get /evil/missing\u{202e}",
    "log",
    "show 1",
    "history /evil/\u{202e}gnp.exe\u{200b}",
    "watch --after 0 --count 2",
    "set /evil/\u{202e}gnp.exe\u{200b} x --if-absent",
    "diff 1..",
    "diff 2.. --stat",
    "diff ..head --name-only",
    "diff 2.. --json-patch",
    "show 3 --diff",
    "show 4 --diff",
    "history /evil/\u{202e}gnp.exe\u{200b} --diff",
    "history /evil/json --diff",
    "blame /evil/\u{202e}gnp.exe\u{200b}",
    "blame /evil/json",
    "bisect --good 0 --bad head -- grep -vq 9999",
    "stats --by actor",
    "get /evil/json --at mark:x\u{202e}",
];

#[tokio::test]
async fn nothing_from_the_store_steers_the_terminal() {
    let place = stocked().await;
    let store = place.open().await;
    let json = "{\"a\": 1, \"\u{9b}\u{202e}\": \"\u{7f}\n\"}".replace('\n', "\\n");
    store
        .commit(Batch::new().set(KEY, format!("{VALUE}\n9999\u{1b}")).set("/evil/json", json))
        .await
        .unwrap();
    store.close().await.unwrap();
    for read in READS {
        for form in ["human", "json", "tsv"] {
            let output = place.output(&format!("{read} -o {form}"));
            for text in [output.stdout, output.stderr] {
                let text = String::from_utf8(text).unwrap();
                let harmful = |c: char| {
                    (c.is_control() && c != '\n' && c != '\t')
                        || "\u{202e}\u{200b}\u{2066}\u{e0041}".contains(c)
                };
                assert!(!text.contains(harmful), "{read} -o {form}: {text:?}");
            }
        }
        if !read.contains("get") && !read.contains("set") && !read.contains("--diff") {
            let lines = place.stdout(read);
            assert!(!lines.lines().any(|line| line.starts_with("9999")), "{lines}");
        }
    }
}

#[tokio::test]
async fn hostile_text_is_shown_escaped() {
    check(
        &stocked().await.transcript(&[
            "log -n 2",
            "show 1",
            "get /evil/json --json",
            "log 0..1 -o tsv",
            "log 0..1 --json",
        ]),
        str![[r#"
$ ustate log -n 2
[TIME]  2 created /evil/json                     {"a":"\u{202e}\u{7f}\u{e0041}"}           by mallory\u{1b}[8m\nroot@host  "x\u{202e}"\n9999 deleted /everything"
[TIME]  1 created /evil/\u{202e}gnp.exe\u{200b}  a\u{1b}[2J\u{1b}]0;owned\u{7}\r\nb\u{9b}31m\u{2066}\n  by mallory\u{1b}[8m\nroot@host  "x\u{202e}"\n9999 deleted /everything"
$ ustate show 1
change      1 created /evil/\u{202e}gnp.exe\u{200b}
version     1
at          [EXACT] ([AGO])
actor       mallory\u{1b}[8m\nroot@host
reason      x\u{202e}"\n9999 deleted /everything
correlation c\u{7}
label       l\n = v\u{1b}
hash        [HASH]
size        28 B

a\u{1b}[2J\u{1b}]0;owned\u{7}\r
b\u{9b}31m\u{2066}\n
! note: control characters are shown escaped; -o raw writes the exact bytes
$ ustate get /evil/json --json
{"v":1,"type":"entry","key":"/evil/json","version":1,"seq":2,"created_at":"[EXACT]","updated_at":"[EXACT]","bytes":17,"encoding":"json","value":{"a":"\u202e\u007f\udb40\udc41"}}
$ ustate log 0..1 -o tsv
1	[EXACT]	created	/evil/\u{202e}gnp.exe\u{200b}	text	a\u{1b}[2J\u{1b}]0;owned\u{7}\r\nb\u{9b}31m\u{2066}\\n	mallory\u{1b}[8m\nroot@host	x\u{202e}"\n9999 deleted /everything
$ ustate log 0..1 --json
{"v":1,"type":"change","seq":1,"commit_seq":1,"at":"[EXACT]","kind":"created","key":"/evil/\u202egnp.exe\u200b","version":1,"prev":0,"bytes":28,"encoding":"text","value":"a\u001b[2J\u001b]0;owned\u0007\r\nb\u009b31m\u2066\\n","actor":"mallory\u001b[8m\nroot@host","reason":"x\u202e\"\n9999 deleted /everything","correlation":"c\u0007","labels":{"l\n":"v\u001b"},"hash":"[HASH]"}

"#]],
    );
}

#[tokio::test]
async fn machines_read_exactly_what_was_stored() {
    let place = stocked().await;
    let raw = place.output("get /evil/\u{202e}gnp.exe\u{200b} -o raw").stdout;
    assert_eq!(raw, VALUE.as_bytes());
    let json = place.stdout("log 0..1 --json");
    let object: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((object["key"].as_str(), object["value"].as_str()), (Some(KEY), Some(VALUE)));
    assert_eq!(object["labels"]["l\n"], "v\u{1b}");
}
