//! Options of all commands: help, colour, times, quiet, completions.

use snapbox::str;

use crate::support::{Place, check};

#[test]
fn help_is_a_page_to_start_from() {
    let place = Place::without_store();
    check(
        &place.stdout("-h"),
        str![[r#"
Look into, watch and verify a univrs-state store

Usage: ustate [OPTIONS] <COMMAND>

Commands:
  get          Print the value of a key
  list         List keys, in the order of their bytes
  tree         Show keys as a tree
  set          Set a key to a value
  delete       Delete keys, all in one commit
  watch        Follow changes as they happen; none is missed
  log          Show the log, newest first
  show         Show changes in full
  history      Show the changes of a key, newest first
  diff         Show what is different between two states
  blame        Show who last changed each part of a value
  bisect       Find the commit that broke something
  stats        Count what is in the store and in its log
  verify       Check every change against its hash and the entries against the log
  anchor       Print the end of the log as a line to keep elsewhere
  mark         Give points in the history names, for mark:NAME
  export       Write the log to a file that proves itself
  import       Make a new store of an export
  replay       Replay the log: into a new store, or commit by commit for a command
  restore      Bring back what was, as new changes in one commit
  load         Set a key for each file of a folder, all in one commit
  compact      Drop what was replaced before a point, for good
  thin         Drop the values of what was replaced before a point, for good
  erase        Erase replaced values and those of deleted keys
  retain       Apply the store's policy of what leaves the log, show it, or set it
  consumers    List, move and remove the readers whose position the store keeps
  doctor       Look at the files of a store, and where they are
  init         Create an empty store
  completions  Print a shell's completions
  help         Print this message or the help of the given subcommand(s)

Options:
  -h, --help     Print help (see more with '--help')
  -V, --version  Print version

Global options:
      --db <PATH>                The store's file, or for reading that of an export [env: USTATE_DB]
  -o, --output <FORMAT>          The form of the output [default: human] [possible values: human,
                                 json, ndjson, tsv, raw]
      --json                     Short for --output json
      --color <WHEN>             When to use colour; NO_COLOR is respected [default: auto] [possible
                                 values: auto, always, never]
      --utc                      Show times in UTC, as is the default
      --tz <ZONE>                Show times in this zone: Europe/Berlin, +02:00, local
      --relative                 Show times as a distance from now
  -q, --quiet                    Print only data, errors, and which keys were deleted
  -v, --verbose                  Say more; show values whole
      --busy-timeout <DURATION>  How long to wait for other processes that write [default: 5s]
      --accept-loss              Go on where recorded changes are missing, and record that: with
                                 set, doctor and init

"#]],
    );
    assert!(place.stdout("--help").contains("Exit codes:"));
    let nothing = place.output("");
    assert_eq!(nothing.status.code(), Some(2));
    assert!(String::from_utf8(nothing.stderr).unwrap().starts_with("Look into"));
    assert!(place.stdout("--version").starts_with("ustate "));
}

#[test]
fn a_command_explains_its_options() {
    let place = Place::without_store();
    check(
        &place.stdout("set --help"),
        str![[r#"
Set a key to a value.

Exit code 1 says that a condition did not hold; nothing is recorded then. Fields of -o tsv: seq,
key, version.

Usage: ustate set [OPTIONS] <KEY> [VALUE]

Arguments:
  <KEY>
          The key

  [VALUE]
          The value; - reads it from standard input. What stands right behind the key is the value,
          also if it begins with '-', unless it is exactly an option

Options:
      --file <FILE>
          Take the value from a file, to the byte

      --type <TYPE>
          What the value must be; it is stored as it is. By default text on the command line, else
          bytes

          Possible values:
          - text:  UTF-8
          - json:  A JSON document
          - bytes: Anything

      --if-version <N>
          Only if the key has this version; 0 means absent

      --if-absent
          Only if the key does not exist

      --dry-run
          Say what would be done, and do nothing

  -h, --help
          Print help (see a summary with '-h')

Recorded with the change:
      --actor <NAME>
          Who writes; user@host by default
          
          [env: USTATE_ACTOR]

  -m, --reason <TEXT>
          Why

      --correlation <ID>
          What it belongs to: a request, a job, a ticket

Global options:
      --db <PATH>
          The store's file, or for reading that of an export
          
          [env: USTATE_DB]

  -o, --output <FORMAT>
          The form of the output

          Possible values:
          - human:  For people
          - json:   One JSON object; one a line where there are several
          - ndjson: One JSON object a line
          - tsv:    Fields between tabs, without a heading; backslash escapes
          - raw:    The exact bytes of a value; keys one a line
          
          [default: human]

      --json
          Short for --output json

      --color <WHEN>
          When to use colour; NO_COLOR is respected
          
          [default: auto]
          [possible values: auto, always, never]

      --utc
          Show times in UTC, as is the default

      --tz <ZONE>
          Show times in this zone: Europe/Berlin, +02:00, local

      --relative
          Show times as a distance from now

  -q, --quiet
          Print only data, errors, and which keys were deleted

  -v, --verbose
          Say more; show values whole

      --busy-timeout <DURATION>
          How long to wait for other processes that write
          
          [default: 5s]

      --accept-loss
          Go on where recorded changes are missing, and record that: with set, doctor and init

Examples:
  ustate set /nodes/n1 '{"ready":true}' --type json -m 'first boot'
  ustate set /locks/deploy "$USER" --if-absent
  ustate set /config/app - < app.toml

"#]],
    );
}

#[test]
fn tables_and_examples_of_the_help_are_as_they_are_written_on_eighty_columns() {
    let place = Place::without_store();
    let below = |command: &str, columns: &str| {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).filter(|word| !word.is_empty()).collect();
        let output = place.command(&words).env("COLUMNS", columns).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        let at = ["\nExit codes:", "\nExamples:"].iter().filter_map(|title| help.find(title)).min();
        at.map(|at| help[at..].to_owned())
    };
    let mut with = 0;
    let commands = [
        "",
        "get",
        "list",
        "tree",
        "set",
        "delete",
        "watch",
        "log",
        "show",
        "history",
        "diff",
        "blame",
        "bisect",
        "stats",
        "verify",
        "anchor",
        "mark",
        "export",
        "import",
        "replay",
        "restore",
        "load",
        "compact",
        "consumers",
        "doctor",
        "init",
    ];
    for command in commands {
        let narrow = below(command, "80");
        assert_eq!(narrow, below(command, "100"), "{command}");
        with += usize::from(narrow.is_some());
    }
    assert!(with > 20, "{with} commands have examples");
}

#[test]
fn colour_is_for_terminals_unless_it_is_asked_for() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    assert!(!place.stdout("log").contains('\u{1b}'));
    assert!(place.stdout("log --color always").contains("\u{1b}[32mcreated\u{1b}[0m"));
    let output = place.command(&["log"]).env("NO_COLOR", "1").env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(!output.stdout.contains(&0x1b));
}

#[test]
fn times_are_shown_in_a_zone_or_as_a_distance() {
    let place = Place::new();
    assert_eq!(place.code("set /a 1"), 0);
    assert!(place.stdout("history /a").contains("Z  alice@ops"));
    assert!(place.stdout("history /a --tz +05:30").contains("+05:30  alice@ops"));
    assert!(place.stdout("history /a --tz Asia/Kolkata").contains("+05:30  alice@ops"));
    assert!(place.stdout("history /a --tz +05:30 --json").contains("Z\",\"kind\""), "machines get UTC");
    check(
        &place.scrubbed(&place.stdout("history /a --relative")),
        str![[r#"
1  [AGO]  alice@ops  created 1

"#]],
    );
    assert_eq!(place.code("history /a --tz Nowhere/Land"), 2);
    assert_eq!(place.code("history /a --utc --tz local"), 2);
}

#[test]
fn quiet_says_nothing_but_data_and_verbose_shows_values_whole() {
    let place = Place::new();
    let long = "x".repeat(200);
    assert_eq!(place.code(&format!("set /a {long}")), 0);
    let brief = format!("/a  {}… (200 B)\n", "x".repeat(51));
    assert_eq!(place.stdout("list --values"), brief);
    let output = place.output("list --values -v");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("/a  {long}\n"));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("note: store "));
    assert!(place.output("list /none -q").stderr.is_empty());
}

#[test]
fn completions_are_written_for_every_shell() {
    let place = Place::without_store();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(place.stdout(&format!("completions {shell}")).contains("cursor-file"), "{shell}");
    }
}

#[test]
fn what_a_killed_process_leaves_is_explained_where_it_is_left() {
    let place = Place::without_store();
    for (command, name) in [("export", "FILE"), ("import", "NEW"), ("replay", "NEW")] {
        let help = place.stdout(&format!("{command} --help")).replace('\n', " ");
        let said =
            help.contains("killed process may leave") && help.contains(&format!(" {name}.PID-N.partial"));
        assert!(said, "{help}");
    }
}
