//! The arrows between our crates: which may depend on which.
//!
//! A layer that sees only what it needs can be tested, simulated and replaced alone; an arrow that is not here
//! is a design decision, not a line in a manifest. Read from the manifests, so that dependencies behind features
//! and targets count too.

#![allow(clippy::unwrap_used, reason = "a test file: what helpers cannot do fails the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Folder of a crate, and the folders that its normal and build dependencies may come from.
const ARROWS: [(&str, &[&str]); 18] = [
    ("types", &[]),
    ("erasure", &[]),
    ("hashing", &["types", "runtime"]),
    ("runtime", &["types"]),
    ("placement", &["types"]),
    ("proto", &["types"]),
    ("rpc", &["types", "proto", "runtime"]),
    ("storage", &["types", "runtime", "hashing"]),
    ("storage/schedules", &["types", "runtime", "hashing"]),
    ("storage/mutants", &["types", "runtime", "hashing"]),
    ("metadata", &["types", "hashing", "placement", "runtime", "proto", "rpc"]),
    ("datapath", &["types", "erasure", "hashing", "placement", "metadata", "runtime"]),
    ("s3api", &["types", "runtime", "hashing"]),
    ("node", LIBRARIES),
    ("bench", &["types"]),
    ("sim", SIMULATED),
    ("sim/mutants", &["types", "hashing", "placement", "runtime", "proto", "rpc"]),
    ("cluster-tests", &["types", "bench"]),
];

const LIBRARIES: &[&str] = &[
    "types",
    "erasure",
    "hashing",
    "runtime",
    "placement",
    "proto",
    "rpc",
    "storage",
    "metadata",
    "datapath",
    "s3api",
    "bench",
];

const SIMULATED: &[&str] = &[
    "types",
    "erasure",
    "hashing",
    "runtime",
    "placement",
    "proto",
    "rpc",
    "storage",
    "metadata",
    "datapath",
    "s3api",
    "node",
];

/// Tests of the whole from outside must not link what they test, not even as test code.
const TESTED_FROM_OUTSIDE: &str = "cluster-tests";

/// One dependency that a manifest names.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Dependency {
    kind: Kind,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Shipped,
    Test,
}

/// What a table of a manifest lists: the kind of its dependencies, and the name where the table is a single
/// dependency (`[dependencies.NAME]`).
fn dependency_table(header: &str) -> Option<(Kind, Option<String>)> {
    let mut path = split_path(header).into_iter().peekable();
    if path.peek().is_some_and(|part| part == "target") {
        path.nth(1);
    }
    let kind = match path.next()?.as_str() {
        "dependencies" | "build-dependencies" => Kind::Shipped,
        "dev-dependencies" => Kind::Test,
        _ => return None,
    };
    Some((kind, path.next()))
}

/// The parts of a dotted TOML key, without their quotes.
fn split_path(key: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    for char in key.trim().chars() {
        match (char, quote) {
            ('"' | '\'', None) => quote = Some(char),
            (char, Some(open)) if char == open => quote = None,
            ('.', None) => parts.push(String::new()),
            (char, _) => parts.last_mut().unwrap().push(char),
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

/// All dependencies of a manifest, by the names of packages where they differ from the keys (`package = ".."`), or
/// by the folder of `path = ".."`.
fn dependencies(manifest: &str) -> BTreeSet<Dependency> {
    let mut table = None;
    let mut found = BTreeSet::new();
    for line in manifest.lines().map(without_comment).map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = dependency_table(header.trim_matches(['[', ']']));
            if let Some((kind, Some(name))) = &table {
                found.insert(Dependency { kind: *kind, name: name.clone() });
            }
            continue;
        }
        let Some((kind, single)) = &table else { continue };
        let named = line
            .split_once('=')
            .filter(|_| single.is_none())
            .and_then(|(key, _)| split_path(key).into_iter().next().filter(|name| is_package_name(name)));
        let renamed = ["package", "path"].into_iter().filter_map(|key| quoted_value(line, key));
        for name in named.into_iter().chain(renamed) {
            found.insert(Dependency { kind: *kind, name });
        }
    }
    found
}

fn is_package_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_'))
}

/// A `#` in a string would be cut too, which no manifest of ours has in a dependency.
fn without_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default()
}

/// The string that `key = "..."` gives somewhere in a line.
fn quoted_value(line: &str, key: &str) -> Option<String> {
    line.match_indices(key).find_map(|(at, _)| {
        let whole = line[..at].chars().next_back().is_none_or(|char| !char.is_ascii_alphanumeric());
        let value = line[at + key.len()..].trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?;
        whole.then(|| value.split('"').next().unwrap_or_default().to_owned())
    })
}

/// The folder of our crate that a dependency means.
fn folder(dependency: &Dependency) -> Option<&str> {
    let name = dependency.name.trim_end_matches('/').rsplit('/').next()?;
    let name = name.strip_prefix("ashlar-").or_else(|| name.strip_prefix("ashlar_")).unwrap_or(name);
    let ours = ARROWS.iter().find(|(folder, _)| *folder == name)?;
    let is_path = dependency.name.contains('/');
    (is_path || dependency.name.starts_with("ashlar")).then_some(ours.0)
}

/// The arrows of a crate that are not in the table.
fn forbidden(crate_folder: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(folder, _)| *folder == crate_folder) else {
        return vec![format!("{crate_folder} is not in the table")];
    };
    dependencies(manifest)
        .iter()
        .filter(|dependency| dependency.kind == Kind::Shipped || crate_folder == TESTED_FROM_OUTSIDE)
        .filter_map(folder)
        .filter(|to| !allowed.contains(to))
        .map(|to| format!("{crate_folder} -> {to}"))
        .collect()
}

/// Folders of the workspace's members.
fn members(root: &str) -> Vec<String> {
    let list = root.split_once("members").and_then(|(_, rest)| rest.split_once('[')).unwrap().1;
    let list = list.split_once(']').unwrap().0;
    list.split(',')
        .map(|name| name.trim().trim_matches('"').to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_arrow_between_our_crates_is_in_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let members = members(&read(&root.join("Cargo.toml")));
    assert!(members.len() > 10, "{members:?}");
    let broken: Vec<String> = members
        .iter()
        .flat_map(|member| forbidden(member, &read(&root.join(member).join("Cargo.toml"))))
        .collect();
    assert!(broken.is_empty(), "not in the table: {broken:?}");
}

/// Paths of the workspace's own table that are listed under another name than their crate's: a manifest that
/// inherits such a dependency would not show whose it is.
fn disguised(root: &str) -> Vec<String> {
    let lines = root.lines().map(without_comment);
    lines
        .filter_map(|line| Some((line.split_once('=')?.0.trim(), quoted_value(line, "path")?)))
        .filter(|(name, path)| *name != format!("ashlar-{path}"))
        .map(|(name, path)| format!("{name} is {path}"))
        .collect()
}

#[test]
fn the_workspace_lists_our_crates_under_their_names() {
    let root = read(&Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("Cargo.toml"));
    assert_eq!(disguised(&root), Vec::<String>::new());
    let planted =
        "[workspace.dependencies]\nashlar-types = { path = \"types\" }\ndrive = { path = \"storage\" }";
    assert_eq!(disguised(planted), ["drive is storage"]);
}

#[test]
fn a_manifest_is_read_as_cargo_reads_it() {
    let node = read(&Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("node/Cargo.toml"));
    let seen: BTreeSet<String> = dependencies(&node).iter().filter_map(folder).map(str::to_owned).collect();
    let mentioned: BTreeSet<String> = node
        .lines()
        .filter_map(|line| line.strip_prefix("ashlar-")?.split_once(['.', ' ']))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert!(seen.len() > 8, "{seen:?}");
    assert_eq!(seen, mentioned);
}

#[test]
fn a_planted_arrow_is_found_however_it_is_written() {
    let written = [
        "[dependencies]\nashlar-storage.workspace = true",
        "[dependencies]\nashlar-storage = { path = \"../storage\" }",
        "[dependencies]\nserde = \"1\"\n\n\"ashlar-storage\" = { workspace = true } # for speed",
        "[dependencies.ashlar-storage]\nworkspace = true",
        "[dependencies]\ndrive = { package = \"ashlar-storage\", path = \"../storage\" }",
        "[dependencies]\ndrive = { path = \"../storage/\" }",
        "[dependencies.drive]\npath = \"../storage\"",
        "[build-dependencies]\nashlar-storage.workspace = true",
        "[target.'cfg(target_os = \"linux\")'.dependencies]\nashlar-storage.workspace = true",
        "[lints]\nworkspace = true\n[dependencies]\nashlar-types.workspace = true\nashlar-storage = { workspace = true, optional = true }",
    ];
    for manifest in written {
        assert_eq!(
            forbidden("s3api", manifest).first().map(String::as_str),
            Some("s3api -> storage"),
            "{manifest}"
        );
        assert_eq!(forbidden("node", manifest), Vec::<String>::new(), "{manifest}");
    }
}

#[test]
fn what_is_allowed_or_only_tests_is_no_finding() {
    let manifest = "[package]\nname = \"ashlar-s3api\"\n[dependencies]\nashlar-types.workspace = true\n# ashlar-storage\n\
        storage = \"1\"\n[dev-dependencies]\nashlar-storage.workspace = true\n[[bin]]\npath = \"../storage/main.rs\"";
    assert_eq!(forbidden("s3api", manifest), Vec::<String>::new());
    assert_eq!(forbidden("cluster-tests", manifest), ["cluster-tests -> storage"]);
}

#[test]
fn a_crate_that_nobody_placed_is_refused() {
    assert_eq!(forbidden("utils", ""), ["utils is not in the table"]);
    let sources: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    assert!(sources.values().flat_map(|to| to.iter()).all(|to| sources.contains_key(to)));
}

#[test]
fn the_arrows_have_no_circle() {
    let mut left: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    while !left.is_empty() {
        let before = left.len();
        let there: BTreeSet<&str> = left.keys().copied().collect();
        left.retain(|_, to| to.iter().any(|to| there.contains(to)));
        assert!(left.len() < before, "a circle among {there:?}");
    }
}
