//! Debian packages as a source of files: downloaded and unpacked below `target/cache`, never
//! installed on the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context, Failure, Result};
use crate::layout::Layout;
use crate::process;

/// A group of packages that is unpacked into one tree.
#[derive(Debug)]
pub struct Set<'a> {
    /// Folder name below `target/cache`.
    pub name: &'a str,
    /// Package names.
    pub packages: Vec<String>,
    /// `None` for the machine's own sources, else a suite (such as `bookworm-backports`) of the
    /// same mirror, read through private lists.
    pub suite: Option<&'a str>,
}

impl Set<'_> {
    /// The unpacked tree, filled on first use and again when the list of packages changes.
    pub fn unpacked(&self, layout: &Layout) -> Result<PathBuf> {
        let folder = layout.cache.join(self.name);
        let root = folder.join("root");
        let stamp = folder.join("stamp");
        let wanted = format!("{} {}", self.packages.join(" "), self.suite.unwrap_or(""));
        if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
            return Ok(root);
        }
        println!(
            "{}: downloading {} packages",
            self.name,
            self.packages.len()
        );
        if folder.exists() {
            std::fs::remove_dir_all(&folder).context(folder.display())?;
        }
        let debs = folder.join("debs");
        std::fs::create_dir_all(&debs).context(debs.display())?;
        std::fs::create_dir_all(&root).context(root.display())?;
        self.download(layout, &debs)?;
        for entry in std::fs::read_dir(&debs).context(debs.display())?.flatten() {
            if entry.path().extension().is_some_and(|kind| kind == "deb") {
                process::output(Command::new("dpkg").arg("-x").arg(entry.path()).arg(&root))?;
            }
        }
        std::fs::remove_dir_all(&debs).context(debs.display())?;
        std::fs::write(&stamp, wanted).context(stamp.display())?;
        Ok(root)
    }

    /// Downloads; a failure may only mean stale package lists, so one update and a second try.
    fn download(&self, layout: &Layout, into: &Path) -> Result<()> {
        let options = apt_options(layout, self.suite)?;
        let download = || {
            process::output(
                Command::new("apt-get")
                    .args(&options)
                    .args(["-o", "APT::Sandbox::User=root", "download"])
                    .args(&self.packages)
                    .current_dir(into),
            )
        };
        if self.suite.is_none() && download().is_ok() {
            return Ok(());
        }
        update(layout, self.suite)?;
        download().map(drop)
    }
}

/// Options that point apt at private lists of another suite of the machine's own mirror.
fn apt_options(layout: &Layout, suite: Option<&str>) -> Result<Vec<String>> {
    let Some(suite) = suite else {
        return Ok(Vec::new());
    };
    let folder = layout.cache.join("apt").join(suite);
    for part in ["lists/partial", "cache/archives/partial"] {
        let path = folder.join(part);
        std::fs::create_dir_all(&path).context(path.display())?;
    }
    let list = folder.join("sources.list");
    let line = format!(
        "deb [signed-by={KEYRING}] {} {suite} main\n",
        mirror("Debian")?.trim_end_matches('/')
    );
    std::fs::write(&list, line).context(list.display())?;
    let folder = folder.display();
    Ok([
        format!("Dir::Etc::sourcelist={}", list.display()),
        "Dir::Etc::sourceparts=/dev/null".to_owned(),
        // What is installed here would be preferred to the suite's version.
        "Dir::State::status=/dev/null".to_owned(),
        format!("Dir::State::Lists={folder}/lists"),
        format!("Dir::Cache={folder}/cache"),
    ]
    .into_iter()
    .flat_map(|option| ["-o".to_owned(), option])
    .collect())
}

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The address from which this machine takes Debian itself (label `Debian`) or its security updates
/// (`Debian-Security`).
pub fn mirror(label: &str) -> Result<String> {
    let targets = process::text(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(CODENAME) $(SUITE) $(LABEL)",
        "Identifier: Packages",
    ]))?;
    targets
        .lines()
        .find(|line| line.split_whitespace().last() == Some(label))
        .and_then(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("apt has no source {label}; run apt-get update")))
}

/// The packages that a package of a suite depends on (a meta package such as linux-image-amd64: what it stands for)
/// and whose names begin so.
pub fn dependencies_of(
    layout: &Layout,
    suite: Option<&str>,
    package: &str,
    prefixes: &[&str],
) -> Result<Vec<String>> {
    let options = apt_options(layout, suite)?;
    let ask = || {
        let words = ["depends", "--no-recommends", "--no-suggests", package];
        process::text(Command::new("apt-cache").args(&options).args(words))
    };
    let text = ask().or_else(|_| {
        update(layout, suite)?;
        ask()
    })?;
    Ok(depends_in(&text, prefixes))
}

/// The names that begin so in what `apt-cache depends` says; what is one of several choices is left out.
fn depends_in(text: &str, prefixes: &[&str]) -> Vec<String> {
    let names = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "));
    let wanted = names.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
    wanted.map(str::to_owned).collect()
}

/// Fetches the lists of packages anew.
pub fn update(layout: &Layout, suite: Option<&str>) -> Result<()> {
    let options = apt_options(layout, suite)?;
    let words = ["-o", "APT::Sandbox::User=root", "update"];
    process::output(Command::new("apt-get").args(&options).args(words)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::depends_in;

    #[test]
    fn a_meta_package_in_parts_stands_for_those_with_the_wanted_names() {
        let said = "linux-image-7.2\n  PreDepends: linux-base\n |Depends: linux-modules-choice\n  \
                    Depends: <virtual>\n    dracut\n  Depends: linux-base-7.2\n  Depends: linux-binary-7.2\n  \
                    Depends: linux-modules-7.2\n  Breaks: linux-modules-6.1\n";
        let wanted = ["linux-binary-", "linux-modules-"];
        assert_eq!(
            depends_in(said, &wanted),
            ["linux-binary-7.2", "linux-modules-7.2"]
        );
    }
}
