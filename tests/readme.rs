//! A text rots from its names. The snippets of the README run as doctests (`src/lib.rs`), its commands are tried by
//! people; here, what the pages name exists, and what they should name is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The pages that people read.
const PAGES: [&str; 6] = [
    "README.md",
    ".github/CONTRIBUTING.md",
    "benches/README.md",
    "schema/README.md",
    "tests/README.md",
    "tools/ustate/README.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text between these marks, wherever they come in pairs.
fn between<'a>(text: &'a str, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).filter_map(move |after| after.split_once(end).map(|(inner, _)| inner))
}

/// A page without its blocks of code.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// The words in code font outside of blocks of code.
fn code_words(page: &str) -> BTreeSet<String> {
    prose(page).split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The addresses of the links outside of blocks of code.
fn links(page: &str) -> Vec<String> {
    between(&prose(page), "](", ")").map(str::to_owned).collect()
}

/// Whether a page has a heading that a link with this anchor leads to.
fn has_heading(page: &str, anchor: &str) -> bool {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-');
    let anchor_of =
        |title: &str| title.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-");
    let titles = page.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
    titles.map(anchor_of).any(|found| found == anchor)
}

/// All files of these folders with one of these endings.
fn files(folders: &[&str], endings: &[&str]) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    for folder in folders {
        walk(&root().join(folder), &mut found);
    }
    found.retain(|path| {
        let ending = path.extension().map_or("", |ending| ending.to_str().unwrap());
        endings.contains(&ending)
    });
    found
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    for name in PAGES {
        let page = read(name);
        let folder = Path::new(name).parent().unwrap();
        for link in links(&page) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { PathBuf::from(name) } else { folder.join(path) };
            assert!(root().join(&target).exists(), "{name}: {link} leads nowhere");
            assert!(anchor.is_empty() || has_heading(&read(target), anchor), "{name}: no heading for {link}");
        }
    }
    let all: usize = PAGES.iter().map(|name| links(&read(name)).len()).sum();
    assert!(all > 60, "only {all} links were found");
    assert!(has_heading("## Who broke it?\n", "who-broke-it") && !has_heading("## Who\n", "who-broke-it"));
}

#[test]
fn files_that_the_pages_name_exist() {
    let mut seen = 0;
    for name in PAGES {
        for word in code_words(&read(name)) {
            let path = word.split(' ').next().unwrap();
            let is_path = ["src/", "tests/", "tools/", "schema/", "benches/", ".github/", ".ci/"]
                .iter()
                .any(|folder| path.starts_with(folder) && !path.contains('*'));
            if is_path {
                assert!(root().join(path).exists(), "{name}: {path} is not there");
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "only {seen} names of files were found");
}

#[test]
fn what_the_readme_says_of_a_file_is_in_it() {
    let readme = read("README.md");
    let table = between(&readme, "| where to look | |\n", "\n\n").next().unwrap();
    let mut seen = 0;
    for row in table.lines().skip(1) {
        // `function` in `file`
        let words: Vec<&str> = row.split('`').collect();
        for (function, file) in
            words.windows(3).filter(|three| three[1] == " in ").map(|three| (three[0], three[2]))
        {
            let name = function.rsplit("::").next().unwrap();
            assert!(has_function(&read(file), name), "{file} has no fn {name}");
            seen += 1;
        }
    }
    assert!(seen >= 5, "only {seen} functions were found");
}

fn has_function(source: &str, name: &str) -> bool {
    ["(", "<"].iter().any(|end| source.contains(&format!("fn {name}{end}")))
}

#[test]
fn every_promise_names_tests_that_are_in_the_file_that_it_links() {
    let page = read("tests/README.md");
    let promises = page.split("\n## Long random test suites").next().unwrap();
    let mut seen = 0;
    for promise in promises.split("\n**").skip(1) {
        let title = promise.split("**").next().unwrap();
        let tests: Vec<_> = between(promise, "[`", ")").filter_map(|link| link.split_once("`](")).collect();
        assert!(!tests.is_empty(), "nothing proves {title:?}");
        for (test, file) in tests.into_iter().filter(|(test, _)| test.contains("::")) {
            let name = test.rsplit("::").next().unwrap();
            assert!(has_function(&read(Path::new("tests").join(file)), name), "{file} has no test {name}");
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} tests were found");
}

#[test]
fn variables_that_the_pages_name_are_read_somewhere() {
    let mut sources = files(&["src", "tests", "benches"], &["rs", "py"]);
    sources.extend(files(&["tools"], &["rs", ""])); // scripts, too
    let sources: String = sources.iter().map(read).collect();
    let mut seen = 0;
    for name in PAGES {
        for variable in code_words(&read(name)).iter().filter(|word| word.starts_with("UNIVRS_")) {
            let variable = variable.split('=').next().unwrap();
            assert!(sources.contains(variable), "{name}: nothing reads {variable}");
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} variables were found");
}

/// The source that defines something, wherever it lies.
fn source_of(definition: &str) -> String {
    let mut found =
        files(&["src"], &["rs"]).into_iter().map(read).filter(|source| source.contains(definition));
    found.next().unwrap_or_else(|| panic!("nothing defines {definition}"))
}

#[test]
fn the_readme_has_a_row_for_every_kind_of_error_and_is_short() {
    let readme = read("README.md");
    let errors = source_of("pub enum ErrorKind {");
    let kinds = between(&errors, "pub enum ErrorKind {", "\n}").next().unwrap();
    let kinds: Vec<&str> = kinds.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
    assert!(kinds.len() >= 7, "{kinds:?}");
    let table = between(&readme, "| `ErrorKind` |", "\n\n").next().unwrap();
    let rows: Vec<&str> = between(table, "\n| `", "`").collect();
    let sorted = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(sorted(&rows), sorted(&kinds), "the table of the README has a row for every kind");
    assert!(readme.lines().count() <= 220, "the README has {} lines", readme.lines().count());
}

#[test]
fn every_option_has_a_row_in_the_table_of_options() {
    let options = source_of("\npub struct Options {");
    let names: Vec<&str> = between(&options, "pub fn ", "(mut self").collect();
    assert!(names.len() > 8 && names.iter().all(|name| !name.contains('\n')), "{names:?}");
    for name in names {
        assert!(options.contains(&format!("\n/// | `{name}` |")), "the table of options lacks {name}");
    }
}

#[test]
fn the_map_of_the_crate_names_every_method_of_a_store() {
    let (map, store) = (read("src/lib.rs"), source_of("\npub trait StateStore:"));
    let store = between(&store, "\npub trait StateStore:", "\n}").next().unwrap();
    let methods = between(store, "\n    async fn ", "(").chain(between(store, "\n    fn ", "("));
    let methods: Vec<&str> = methods.map(|method| method.split('<').next().unwrap()).collect();
    assert!(methods.len() > 20, "{methods:?}");
    for method in methods {
        assert!(
            map.contains(&format!("(StateStore::{method})")),
            "the documentation of the crate lacks {method}"
        );
    }
}

#[test]
fn the_manual_of_the_tool_names_every_command() {
    let words = code_words(&read("tools/ustate/README.md"));
    let cli = read("tools/ustate/src/cli.rs");
    let commands = between(&cli, "pub(crate) enum Command {", "\n}").next().unwrap();
    let commands: Vec<String> =
        commands.lines().filter_map(|line| Some(line.trim().split_once('(')?.0.to_lowercase())).collect();
    assert!(commands.len() > 20, "{commands:?}");
    for command in commands {
        assert!(words.contains(&command), "the manual does not name {command}");
    }
}

#[test]
fn examples_and_benches_that_the_pages_run_are_declared() {
    let manifest = read("Cargo.toml");
    for (page, kind, least) in [("README.md", "example", 2), ("benches/README.md", "bench", 4)] {
        let page = read(page);
        let call = format!("cargo {} --{kind} ", if kind == "bench" { "bench" } else { "run" });
        let names: Vec<&str> =
            page.split(&call).skip(1).map(|after| after.split_whitespace().next().unwrap()).collect();
        assert!(names.len() >= least, "{names:?}");
        for name in names {
            assert!(manifest.contains(&format!("[[{kind}]]\nname = \"{name}\"")), "{kind} {name}");
        }
    }
}
