//! Which folder of `src` may know of which: reads the paths in the sources, and fails on one that runs backwards or in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a folder or file of `src` may use; `lib.rs` and `train` may use everything.
const LAYERS: [(&str, &[&str]); 7] = [
    ("error", &[]),
    ("kind", &[]),
    ("file", &["error"]),
    ("backend", &["error"]),
    ("autodiff", &["backend", "error"]),
    ("nn", &["autodiff", "backend", "error", "file", "kind"]),
    ("data", &["error", "file", "kind"]),
];

/// Paths below the first that must not be used from below the second.
const CLOSED: [(&str, &str); 6] = [
    ("backend::cpu", "autodiff"),
    ("backend::cpu", "nn"),
    ("backend::cube", "autodiff"),
    ("backend::cube", "nn"),
    ("backend::cube", "backend::cpu"),
    ("backend::cpu", "backend::cube"),
];

/// Folders whose files may not use each other in a circle, all folders in them included.
const STRAIGHT: [&str; 5] = ["backend", "autodiff", "nn", "data", "train"];

/// The code of the crate: a module's path to its text, without comments and tests.
type Sources = BTreeMap<String, String>;

/// Reads the modules below `folder`, which is the module `path`.
fn read(folder: &Path, path: &str, sources: &mut Sources) {
    for entry in folder.read_dir().unwrap().map(Result::unwrap) {
        let file = entry.path();
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let module = if path.is_empty() { name.clone() } else { format!("{path}::{name}") };
        if file.is_dir() {
            read(&file, &module, sources);
        } else if file.extension().is_some_and(|extension| extension == "rs") {
            let module = if name == "mod" { path.to_owned() } else { module };
            sources.insert(module, code(&std::fs::read_to_string(&file).unwrap()));
        }
    }
}

/// Without comments, and without what is there for tests alone.
fn code(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let bare = line.trim_start();
        if bare.starts_with("#[cfg(") && bare.contains("test") {
            // Formatted code: an item ends on its own line with a semicolon, or with the brace below its beginning.
            let end = format!("{}}}", &line[..line.len() - bare.len()]);
            let first = lines.find(|line| !line.trim_start().starts_with("#["));
            if first.is_some_and(|line| line.ends_with('{')) {
                lines.find(|line| **line == end);
            }
        } else if !bare.starts_with("//") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// The paths that begin with `crate`, `self` or `super` in the code of `module`, from the root on.
fn paths(module: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for start in ["crate::", "self::", "super::"] {
        for (at, _) in text.match_indices(start) {
            let before = text[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || before == '_' || before == ':' {
                continue;
            }
            let mut base: Vec<&str> = if start == "crate::" { Vec::new() } else { module.split("::").collect() };
            let mut rest = &text[at + start.len()..];
            if start == "super::" {
                base.pop();
            }
            while let Some(further) = rest.strip_prefix("super::") {
                base.pop();
                rest = further;
            }
            branches(&base.join("::"), rest, &mut found);
        }
    }
    found
}

/// The paths of a use tree that goes on with `rest` below `base`; what follows it.
fn branches<'a>(base: &str, rest: &'a str, found: &mut Vec<String>) -> &'a str {
    let below = |name: &str| if base.is_empty() { name.to_owned() } else { format!("{base}::{name}") };
    if let Some(mut rest) = rest.strip_prefix('{') {
        while !rest.starts_with('}') {
            rest = branches(base, rest.trim_start_matches([' ', '\n', ',']), found).trim_start_matches([' ', '\n', ',']);
        }
        return &rest[1..];
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    match after.strip_prefix("::") {
        Some(after) if !name.is_empty() && !after.starts_with('<') => branches(&below(name), after, found),
        _ => {
            found.push(if name.is_empty() || name == "self" { base.to_owned() } else { below(name) });
            // A glob, a new name.
            let to =
                if after.starts_with('*') || after.starts_with(" as ") { after.find([',', '}', ';']).unwrap_or(after.len()) } else { 0 };
            &after[to..]
        }
    }
}

/// Whether `path` is `folder` or below it.
fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path that a module uses, cut to the module that it leads to: (from, to).
fn arrows(sources: &Sources) -> BTreeSet<(String, String)> {
    let mut arrows = BTreeSet::new();
    for (module, text) in sources {
        for mut path in paths(module, text) {
            while !path.is_empty() && !sources.contains_key(&path) {
                path.truncate(path.rfind("::").unwrap_or(0));
            }
            if !path.is_empty() && path != *module {
                arrows.insert((module.clone(), path));
            }
        }
    }
    arrows
}

/// What is wrong with the arrows between modules.
fn faults(sources: &Sources) -> Vec<String> {
    let arrows = arrows(sources);
    let mut faults = Vec::new();
    for (from, to) in &arrows {
        let top = |path: &str| path.split("::").next().unwrap().to_owned();
        let (source, target) = (top(from), top(to));
        let forbidden = LAYERS.iter().any(|(layer, may)| source == *layer && target != *layer && !may.contains(&target.as_str()));
        let closed = CLOSED.iter().any(|(closed, to_whom)| is_below(to, closed) && is_below(from, to_whom));
        if forbidden || closed {
            faults.push(format!("{from} uses {to}"));
        }
    }
    for folder in sources.keys().filter(|module| STRAIGHT.iter().any(|straight| is_below(module, straight))) {
        if let Some(circle) = circle(folder, &arrows) {
            faults.push(format!("in {folder}, {}", circle.join(" uses ")));
        }
    }
    faults
}

/// A circle among what stands directly in `folder`, where there is one. A folder's own file knows what is in it, and is no part of this.
fn circle(folder: &str, arrows: &BTreeSet<(String, String)>) -> Option<Vec<String>> {
    let inside = |path: &str| path.strip_prefix(folder)?.strip_prefix("::")?.split("::").next().map(str::to_owned);
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in arrows {
        if let (Some(from), Some(to)) = (inside(from), inside(to))
            && from != to
        {
            uses.entry(from).or_default().insert(to);
        }
    }
    // What uses nothing that is left is in no circle.
    while let Some(done) = uses.iter().find(|(_, of)| !of.iter().any(|name| uses.contains_key(name))).map(|(name, _)| name.clone()) {
        uses.remove(&done);
    }
    let mut walk = vec![uses.keys().next()?.clone()];
    loop {
        let next = uses[walk.last()?].iter().find(|name| uses.contains_key(*name))?.clone();
        if let Some(start) = walk.iter().position(|name| *name == next) {
            walk.push(next);
            return Some(walk.split_off(start));
        }
        walk.push(next);
    }
}

#[test]
fn no_module_uses_what_stands_above_it_or_goes_in_a_circle() {
    let mut sources = Sources::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources);
    let arrows = arrows(&sources);
    // That the sources were read at all.
    for (from, to) in [("nn::ssm::step", "backend::ssm::recurrence"), ("backend::cpu::spiking::spike", "backend::cpu::random")] {
        assert!(arrows.contains(&(from.to_owned(), to.to_owned())), "{from} uses {to}: not found among {} arrows", arrows.len());
    }
    let faults = faults(&sources);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_runs_backwards_or_in_a_circle_is_found() {
    let sources = |files: &[(&str, &str)]| files.iter().map(|(module, text)| ((*module).to_owned(), code(text))).collect::<Sources>();
    let good = [
        ("error", "pub enum Error {}"),
        ("backend", "mod a;\nmod b;\npub use a::A;"),
        (
            "backend::a",
            "use super::b::B;\n// use crate::nn::Model;\n#[cfg(test)]\nmod tests {\n    use crate::nn::Model;\n\n    fn f() {}\n}",
        ),
        ("backend::b", "use crate::error::{self, Error as E};\n#[cfg(test)]\nuse super::a::A;\nfn f() {}"),
        ("nn", "use crate::backend::{a::{A, C}, b};"),
    ];
    assert_eq!(faults(&sources(&good)), [""; 0]);
    let found = |module: &str, text: &str| {
        let mut files = sources(&good);
        files.insert(module.to_owned(), code(text));
        faults(&files)
    };
    assert_eq!(found("error", "use crate::{backend::{b, a::A}};"), ["error uses backend::a", "error uses backend::b"]);
    assert_eq!(found("backend::b", "fn f() { super::super::nn::f(); }"), ["backend::b uses nn"]);
    assert_eq!(found("backend::b", "#[cfg(test)]\nmod tests;\nuse super::{a as other};"), ["in backend, a uses b uses a"]);
    assert_eq!(found("backend::cpu::c", "use crate::backend::a;\n"), [""; 0]);
    let mut files = sources(&good);
    files.insert("backend::cpu".to_owned(), "use super::a;".to_owned());
    files.insert("nn::step".to_owned(), "use crate::backend::cpu::secret;".to_owned());
    assert_eq!(faults(&files), ["nn::step uses backend::cpu"]);
}
