//! Values within the JSON of the output: every line can be parsed, and says what was stored.

use serde_json::Value;
use univrs_state::{Batch, StateStore};

use crate::support::Place;

fn nested(depth: usize, inner: &str) -> String {
    format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth))
}

/// Values, and how each is embedded.
fn values() -> Vec<(Vec<u8>, &'static str)> {
    let text = |text: &str, encoding| (text.as_bytes().to_vec(), encoding);
    vec![
        text(r#"{"name":"n1","ready":true,"load":[0.1,1.10,-3e-7]}"#, "json"),
        text("9007199254740992", "json"),
        text(&nested(100, "1"), "json"),
        text(r#""\ud83e\udd80""#, "json"),
        text(r#"{"password":"\ud800"}"#, "text"),
        text(r#"["\udc00"]"#, "text"),
        text(&nested(101, "1"), "text"),
        text(&nested(300, "1"), "text"),
        text(&nested(100_000, ""), "text"),
        text("{\"max\":1e400}", "text"),
        text("9007199254740993", "text"),
        text("[12345678901234567890123]", "text"),
        text(r#"{"a":1,"a":2}"#, "text"),
        text("NaN", "text"),
        text("", "text"),
        text("\u{feff}1", "text"),
        (vec![0xff, 0], "base64"),
    ]
}

#[tokio::test]
async fn every_line_of_json_can_be_parsed_and_says_what_was_stored() {
    let place = Place::new();
    let store = place.open().await;
    let values = values();
    let key = |i: usize| format!("/k/{i:02}");
    // Each key gets each value, so that each is an old one, too.
    for round in 0..2 {
        let batch = values.iter().enumerate().fold(Batch::new(), |batch, (i, _)| {
            batch.set(key(i), values[(i + round) % values.len()].0.clone())
        });
        store.commit(batch).await.unwrap();
    }
    let stored = |object: &Value, (bytes, encoding): &(Vec<u8>, &str)| {
        assert_eq!(object["encoding"], *encoding, "{object}");
        match *encoding {
            "json" => assert_eq!(object["value"], serde_json::from_slice::<Value>(bytes).unwrap()),
            "text" => assert_eq!(object["value"].as_str().unwrap().as_bytes(), bytes),
            _ => assert_eq!(object["value"], "/wA="),
        }
    };
    let count = values.len();
    let end = format!("watch --after 0 --count {} --json", 2 * count);
    for (line, per_key) in [
        ("list --values --json", 1),
        ("log --json", 2),
        (&*end, 2),
        ("replay -o ndjson", 0),
        ("diff 0.. --json", 0),
        (&*format!("diff {count}.. --json"), 0),
        ("diff 0.. --json-patch", 0),
        (&*format!("diff {count}.. --json-patch"), 0),
        ("export --text", 0),
        ("history /k/04 --diff --json", 0),
        ("show 1 5 12 --diff --json", 0),
    ] {
        let text = place.stdout(line);
        if line.ends_with("patch") {
            let _: Vec<Value> = serde_json::from_str(&text).unwrap();
            continue;
        }
        let mut seen = vec![0; count];
        for object in text.lines() {
            let object: Value =
                serde_json::from_str(object).unwrap_or_else(|error| panic!("{line}: {error}"));
            if per_key == 0 {
                continue;
            }
            let at: usize = object["key"].as_str().unwrap()[3..].parse().unwrap();
            let round = usize::from(object["version"] != 1);
            stored(&object, &values[(at + round) % count]);
            if round == 1 && line.starts_with("watch") {
                stored(&object["old"], &values[at]);
            }
            seen[at] += 1;
        }
        assert!(per_key == 0 || seen == vec![per_key; count], "{line}: {seen:?}");
    }
    for i in 0..count {
        for line in ["get KEY --json", "get KEY --meta --json", "blame KEY --json", "history KEY --json"] {
            for object in place.stdout(&line.replace("KEY", &key(i))).lines() {
                let object: Value = serde_json::from_str(object).unwrap();
                if line.starts_with("get") {
                    stored(&object, &values[(i + 1) % count]);
                }
            }
        }
    }
    // What commands are given.
    let state = "bisect --good 0 --bad head -- sh -c 'cat > state.json; grep -qv k state.json'";
    assert_eq!(place.code(state), 0);
    let state: Value = serde_json::from_slice(&std::fs::read(place.path("state.json")).unwrap()).unwrap();
    assert_eq!(state.as_object().unwrap().len(), count);
    assert_eq!(place.code(&format!("watch --after 0 --count {count} -- sh -c 'cat >> events.json'")), 0);
    for event in std::fs::read_to_string(place.path("events.json")).unwrap().lines() {
        assert!(serde_json::from_str::<Value>(event).is_ok(), "{event}");
    }
}

#[test]
fn a_patch_leads_from_one_state_to_the_other_where_values_are_no_strict_json() {
    let place = Place::new();
    for value in ["[1,2]", "[1,1e400]", "[1,1e400,3]", "[1,3]"] {
        assert!(place.command(&["set", "/a", value]).output().unwrap().status.success());
    }
    let mut state = Value::Null;
    for at in 0..4 {
        let patch = place.stdout(&format!("diff {at}..{} --json-patch", at + 1));
        let patch: Vec<Value> = serde_json::from_str(&patch).unwrap();
        let [operation] = patch.as_slice() else { panic!("{patch:?}") };
        assert_eq!(operation["path"], "/~1a", "as a whole: {operation}");
        state = operation["value"].clone();
        let shown: Value =
            serde_json::from_str(&place.stdout(&format!("get /a --at {} --json", at + 1))).unwrap();
        assert_eq!(state, shown["value"]);
    }
    assert_eq!(state, serde_json::json!([1, 3]));
}
