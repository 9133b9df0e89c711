//! Reads a `grub.cfg` that Debian's `update-grub` wrote: its entries, which of them is started by default, and what
//! each loads.

/// A menu entry or a submenu.
#[derive(Debug)]
struct Node {
    title: String,
    id: String,
    /// The file that it hands control to: a hypervisor or a kernel.
    loads: Option<String>,
    inner: Vec<Node>,
}

/// The menu.
#[derive(Debug)]
pub struct Menu {
    top: Vec<Node>,
    default: String,
}

/// An entry that can be started.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// How `set default=` may name it: the titles from the top, between them `>`. Debian gives two submenus the same
    /// identifier.
    pub path: String,
    /// Its title.
    pub title: &'a str,
    /// The file that it hands control to.
    pub loads: &'a str,
}

impl Menu {
    /// Reads the file's text.
    pub fn parse(config: &str) -> Self {
        let mut open: Vec<Option<Node>> = Vec::new();
        let mut top = Vec::new();
        let mut default = "0".to_owned();
        for line in config.lines().map(str::trim) {
            if let Some(words) = line
                .strip_prefix("menuentry '")
                .or_else(|| line.strip_prefix("submenu '"))
            {
                open.push(Some(node(words)));
            } else if line.ends_with('{') {
                open.push(None);
            } else if line == "}" {
                let closed = open.pop().flatten();
                let around = open.iter_mut().rev().flatten().next();
                around
                    .map_or(&mut top, |node| &mut node.inner)
                    .extend(closed);
            } else if let Some(file) = loaded(line) {
                if let Some(Some(node)) = open.last_mut() {
                    node.loads = Some(file.to_owned());
                }
            } else if let Some(value) = line.strip_prefix("set default=") {
                // Debian first asks for the entry of the next boot only.
                if value != "\"${next_entry}\"" {
                    default = value.trim_matches('"').to_owned();
                }
            }
        }
        Self { top, default }
    }

    /// All entries in their order.
    pub fn entries(&self) -> Vec<Entry<'_>> {
        let mut all = Vec::new();
        collect(&self.top, "", &mut all);
        all
    }

    /// The entry that starts by itself; none when the environment block names it, or nothing does.
    pub fn default(&self) -> Option<Entry<'_>> {
        let mut nodes = &self.top;
        let mut path = String::new();
        let mut words = self.default.split('>');
        loop {
            // Of a submenu that is named alone, the first entry.
            let word = words.next().unwrap_or("0");
            let found = match word.parse::<usize>() {
                Ok(number) => nodes.get(number),
                Err(_) => nodes
                    .iter()
                    .find(|node| node.id == word || node.title == word),
            }?;
            path.push_str(&found.title);
            if let Some(loads) = &found.loads {
                return Some(Entry {
                    path,
                    title: &found.title,
                    loads,
                });
            }
            path.push('>');
            nodes = &found.inner;
        }
    }
}

/// Reads what follows the opening quote of a title.
fn node(words: &str) -> Node {
    let mut parts = words.split("' ");
    let title = parts.next().unwrap_or_default().to_owned();
    let id = words
        .split_once("$menuentry_id_option '")
        .and_then(|(_, rest)| rest.split('\'').next())
        .unwrap_or(&title)
        .to_owned();
    Node {
        title,
        id,
        loads: None,
        inner: Vec::new(),
    }
}

/// The file, if the line is a command that loads what is started.
fn loaded(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    match words.next()? {
        "multiboot2" | "multiboot" | "linux" => words.next(),
        _ => None,
    }
}

fn collect<'a>(nodes: &'a [Node], above: &str, all: &mut Vec<Entry<'a>>) {
    for node in nodes {
        let path = format!("{above}{}", node.title);
        if let Some(loads) = &node.loads {
            all.push(Entry {
                path: path.clone(),
                title: &node.title,
                loads,
            });
        }
        collect(&node.inner, &format!("{path}>"), all);
    }
}

#[cfg(test)]
mod tests {
    use super::Menu;

    const CONFIG: &str = r#"
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
else
   set default="DEFAULT"
fi
function load_video {
  insmod all_video
}
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'simple-1' {
	if [ x$grub_platform = xxen ]; then insmod gzio; fi
	linux	/boot/vmlinuz-6.1 root=/dev/sda3 ro
	initrd	/boot/initrd.img-6.1
}
menuentry 'Debian GNU/Linux, with Xen hypervisor' --class xen $menuentry_id_option 'xen-simple-1' {
	multiboot2	/boot/xenolith-4.17.gz placeholder  ${xen_rm_opts}
	module2	/boot/vmlinuz-6.1 placeholder root=/dev/sda3 ro
}
submenu 'Advanced options' $menuentry_id_option 'advanced-1' {
	submenu 'Xen hypervisor, version 4.17-amd64' $menuentry_id_option 'xen-4.17' {
		menuentry 'Debian GNU/Linux, with Xen 4.17-amd64' --class xen $menuentry_id_option 'xen-linux' {
			multiboot2	/boot/xen-4.17-amd64.gz placeholder
		}
	}
}
"#;

    const XEN: &str = "Debian GNU/Linux, with Xen hypervisor";
    const DEEP: &str =
        "Advanced options>Xen hypervisor, version 4.17-amd64>Debian GNU/Linux, with Xen 4.17-amd64";

    fn default(name: &str) -> Option<String> {
        let menu = Menu::parse(&CONFIG.replace("DEFAULT", name));
        menu.default().map(|entry| entry.path)
    }

    #[test]
    fn entries_are_found_at_every_depth() {
        let menu = Menu::parse(CONFIG);
        let read: Vec<_> = menu
            .entries()
            .into_iter()
            .map(|entry| (entry.path, entry.loads))
            .collect();
        let expected = [
            ("Debian GNU/Linux", "/boot/vmlinuz-6.1"),
            (XEN, "/boot/xenolith-4.17.gz"),
            (DEEP, "/boot/xen-4.17-amd64.gz"),
        ];
        assert_eq!(read, expected.map(|(path, loads)| (path.to_owned(), loads)));
    }

    #[test]
    fn the_default_is_found_by_number_title_and_identifier() {
        for name in ["1", XEN, "xen-simple-1"] {
            assert_eq!(default(name).as_deref(), Some(XEN), "{name}");
        }
        for name in [DEEP, "advanced-1>0", "2", "Advanced options>xen-4.17"] {
            assert_eq!(default(name).as_deref(), Some(DEEP), "{name}");
        }
        for name in ["7", "${saved_entry}", "no such title", ""] {
            assert_eq!(default(name), None, "{name}");
        }
    }

    #[test]
    fn damaged_files_are_read_as_far_as_they_make_sense() {
        let head = &CONFIG[..CONFIG.len() / 2];
        for text in ["", "}\n}\n", "menuentry '", "submenu 'x' {\n}\n}", head] {
            let menu = Menu::parse(text);
            assert!(menu.entries().len() <= 2);
            menu.default();
        }
    }
}
