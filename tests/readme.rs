//! A README rots from its names. Its snippets run as doctests (`src/lib.rs`); here, what it names exists.

use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The text between these marks, wherever they come in pairs.
fn between<'a>(text: &'a str, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).filter_map(move |after| after.split_once(end).map(|(inner, _)| inner))
}

/// The words in code font outside of blocks of code.
fn code_words(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|prose| prose.split('`').skip(1).step_by(2)).collect()
}

/// All sources of library and tests, as one text.
fn sources() -> String {
    fn walk(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, all);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut all = String::new();
    for folder in ["src", "tests"] {
        walk(&root().join(folder), &mut all);
    }
    all
}

#[test]
fn files_and_links_that_the_readme_names_exist() {
    let readme = read("README.md");
    let links: Vec<&str> = between(&readme, "](", ")").collect();
    let paths = code_words(&readme).into_iter().filter(|word| {
        ["src/", "tests/", "tools/", "schema/", "benches/"].iter().any(|folder| word.starts_with(folder))
    });
    let named: Vec<&str> = links.iter().copied().chain(paths).collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        match name.strip_prefix('#') {
            None => assert!(root().join(name).exists(), "{name} is not there"),
            Some(anchor) => {
                let titles = readme.lines().filter_map(|line| line.strip_prefix("## "));
                let found = titles.map(|title| title.to_lowercase().replace(' ', "-")).any(|a| a == anchor);
                assert!(found, "no section is called {anchor}");
            }
        }
    }
}

#[test]
fn tests_that_the_promises_name_exist() {
    let readme = read("README.md");
    let promises = between(&readme, "\n## Promises\n", "\n## ").next().unwrap();
    let sources = sources();
    let is_test = |word: &&str| word.matches('_').count() > 2 && !word.contains(['/', '.']);
    let tests: Vec<&str> = code_words(promises).into_iter().filter(is_test).collect();
    assert!(tests.len() >= 8, "{tests:?}");
    for test in tests {
        let name = test.rsplit("::").next().unwrap();
        let found = [format!("fn {name}("), format!("fn {name}<")].iter().any(|code| sources.contains(code));
        assert!(found, "no test is called {name}");
    }
}

#[test]
fn the_readme_names_every_method_and_every_kind_of_error() {
    let readme = read("README.md");
    let words = code_words(&readme);
    let named = |name: &str| {
        let call = format!("{name}(");
        words
            .iter()
            .any(|word| *word == name || word.starts_with(&call) || word.contains(&format!("::{call}")))
    };
    let store = read("src/store/state_store.rs");
    let methods: Vec<&str> =
        between(&store, "\n    async fn ", "(").chain(between(&store, "\n    fn ", "(")).collect();
    assert!(methods.len() > 20, "{methods:?}");
    for method in methods {
        let name = method.split('<').next().unwrap();
        assert!(named(name), "the README does not name {name}");
    }
    let options = read("src/store/options.rs");
    let options: Vec<&str> = between(&options, "/// | `", "` |").collect();
    assert!(options.len() > 8, "{options:?}");
    let errors = read("src/error.rs");
    let kinds = between(&errors, "pub enum ErrorKind {", "\n}").next().unwrap();
    let kinds = kinds.lines().filter_map(|line| line.trim().strip_suffix(','));
    let kinds: Vec<&str> = kinds.collect();
    assert!(kinds.len() >= 7, "{kinds:?}");
    for name in options.into_iter().chain(kinds) {
        assert!(words.contains(&name), "the README does not name {name}");
    }
}

#[test]
fn examples_that_the_readme_runs_are_declared() {
    let manifest = read("Cargo.toml");
    let readme = read("README.md");
    let examples: Vec<&str> = between(&readme, "cargo run --example ", " ").collect();
    assert!(examples.len() >= 3, "{examples:?}");
    for name in examples {
        assert!(manifest.contains(&format!("[[example]]\nname = \"{name}\"")), "{name}");
    }
}
