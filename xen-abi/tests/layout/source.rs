//! What the crate declares, read from its source: so that nothing escapes the tables.

use std::fs;
use std::path::Path;

/// Module and name of every public constant of an integer type.
pub fn numeric_constants() -> Vec<(String, String)> {
    const TYPES: &[&str] = &["u8", "u16", "u32", "u64", "i16", "i32", "usize"];
    declared(|line| {
        let (name, rest) = line.strip_prefix("pub const ")?.split_once(": ")?;
        let (kind, _) = rest.split_once(" =")?;
        TYPES.contains(&kind).then(|| name.to_owned())
    })
}

/// Module and name of every public structure.
pub fn structures() -> Vec<(String, String)> {
    declared(|line| {
        let rest = line.strip_prefix("pub struct ")?;
        let end = rest.find([' ', '<'])?;
        Some(rest[..end].to_owned())
    })
}

fn declared(pick: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![(root, None)];
    while let Some((folder, module)) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the source is there") {
            let path = entry.expect("the source is readable").path();
            let stem = path.file_stem().expect("files have names");
            let stem = stem.to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push((path, Some(stem)));
                continue;
            }
            let module = module.clone().unwrap_or(stem);
            let text = fs::read_to_string(&path).expect("the source is text");
            let names = text.lines().filter_map(&pick);
            found.extend(names.map(|name| (module.clone(), name)));
        }
    }
    assert!(!found.is_empty(), "no source found");
    found
}
