//! `/etc/containers/registries.conf` (containers-registries.conf(5), version 2) and the files in `registries.conf.d`: mirrors,
//! registries without TLS, and blocked ones. What Podman does with short names is not done: they are completed as Docker does.

use crate::error::{Error, Kind, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

const FILE: &str = "/etc/containers/registries.conf";
/// Instead of [`FILE`], for tests and for users.
const VARIABLE: &str = "CONTAINERS_REGISTRIES_CONF";

/// Where an image is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryLocation {
    /// Host and repository.
    pub location: String,
    pub insecure: bool,
}

/// A file, as far as it is about registries.
#[derive(Debug, Default, Deserialize)]
struct Document {
    #[serde(default)]
    registry: Vec<Registry>,
    /// Of version 1, which nobody reads any more.
    registries: Option<toml::Value>,
}

/// An entry `[[registry]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Registry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<Mirror>,
    /// The file that it is in.
    #[serde(skip)]
    file: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Mirror {
    location: String,
    insecure: bool,
    pull_from_mirror: When,
}

/// Which names a mirror is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum When {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(Vec<Registry>);

/// # Errors
/// A file cannot be read, or is invalid.
pub fn read() -> Result<Settings> {
    let file = std::env::var_os(VARIABLE).map_or_else(|| PathBuf::from(FILE), PathBuf::from);
    let mut settings = Settings::default();
    let mut more = file.clone().into_os_string();
    more.push(".d");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&more).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "conf"));
    files.sort();
    files.insert(0, file);
    for file in files {
        match std::fs::read_to_string(&file) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::sys(format!("reading {file:?}"), e)),
            Ok(text) => settings.add(&file, &text)?,
        }
    }
    Ok(settings)
}

/// The part of `name` below `prefix`.
fn below<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    if let Some(domain) = prefix.strip_prefix("*.") {
        let (host, _) = name.split_once('/').unwrap_or((name, ""));
        return host.strip_suffix(domain).is_some_and(|h| h.ends_with('.')).then(|| &name[host.len()..]);
    }
    name.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Settings {
    /// Adds those of a file; of two with one prefix the last counts.
    fn add(&mut self, file: &Path, text: &str) -> Result<()> {
        let name = file.display().to_string();
        let bad = |line: usize, what: &str| {
            let what = format!("{name}:{line}: {what}");
            Error::new(Kind::Config, what).hint("see containers-registries.conf(5)")
        };
        let read = toml::from_str(text).map_err(|e: toml::de::Error| {
            let line = 1 + text[..e.span().map_or(0, |s| s.start.min(text.len()))].matches('\n').count();
            bad(line, e.message().lines().next().unwrap_or_default())
        });
        let Document { registry, registries } = read?;
        if registries.is_some() {
            return Err(bad(1, "version 1 of the format is not supported: write [[registry]]"));
        }
        for mut r in registry {
            if r.prefix.is_empty() {
                r.prefix.clone_from(&r.location);
            }
            r.prefix.truncate(r.prefix.trim_end_matches('/').len());
            if r.location.is_empty() && !r.prefix.starts_with("*.") {
                r.location.clone_from(&r.prefix);
            }
            if r.prefix.is_empty() || r.mirror.iter().any(|m| m.location.is_empty()) {
                return Err(bad(1, "a registry or a mirror has no location"));
            }
            r.file.clone_from(&name);
            self.0.retain(|other| other.prefix != r.prefix);
            self.0.push(r);
        }
        Ok(())
    }

    /// Where the image `name`, host and repository, is looked for: mirrors first. `pinned`: it is asked for by digest.
    ///
    /// # Errors
    /// It is blocked.
    pub fn places(&self, name: &str, pinned: bool) -> Result<Vec<RegistryLocation>> {
        let own = RegistryLocation { location: name.to_owned(), insecure: false };
        let fits = |r: &&Registry| below(name, &r.prefix).is_some();
        let Some(r) = self.0.iter().filter(fits).max_by_key(|r| r.prefix.len()) else { return Ok(vec![own]) };
        if r.blocked {
            let what = format!("image {name:?} is blocked by {:?} in {}", r.prefix, r.file);
            return Err(Error::new(Kind::Unsupported, what));
        }
        let rest = below(name, &r.prefix).unwrap_or_default();
        let place = |location: &str, insecure| RegistryLocation {
            location: format!("{}{rest}", location.trim_end_matches('/')),
            insecure,
        };
        let asked = |m: &&Mirror| match m.pull_from_mirror {
            When::All => pinned || !r.mirror_by_digest_only,
            When::DigestOnly => pinned,
            When::TagOnly => !pinned,
        };
        let mut places: Vec<RegistryLocation> =
            r.mirror.iter().filter(asked).map(|m| place(&m.location, m.insecure)).collect();
        places.push(match r.location.is_empty() {
            true => RegistryLocation { insecure: r.insecure, ..own },
            false => place(&r.location, r.insecure),
        });
        Ok(places)
    }
}

/// A registries.conf.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(text: &str) {
    let mut settings = Settings::default();
    if settings.add(Path::new("registries.conf"), text).is_ok() {
        let _ = settings.places("a.example/b/c", false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings> {
        let mut settings = Settings::default();
        settings.add(Path::new("/r.conf"), text).map(|()| settings)
    }

    fn places(settings: &Settings, name: &str, pinned: bool) -> Vec<String> {
        let show =
            |p: RegistryLocation| if p.insecure { format!("{} insecure", p.location) } else { p.location };
        settings.places(name, pinned).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn mirrors_come_first_and_blocked_ones_are_refused() {
        let text = "unqualified-search-registries = [\n  'docker.io', # ours\n]\nshort-name-mode = \"enforcing\"\n\
            [[registry]]\nprefix = \"docker.io\" # all\nlocation = \"docker.io\"\n\
            [[registry.mirror]]\nlocation = \"mirror.local:5000/hub/\"\ninsecure = true\n\
            [[registry]]\nprefix = \"docker.io/evil\"\nblocked = true\n[[registry]]\nlocation = \"plain.local\"\ninsecure = true\n\
            [[registry]]\nprefix = \"*.corp.example\"\ninsecure = true\n[aliases]\nx = \"y/z\"\n";
        let s = parse(text).unwrap();
        let of = |name: &str| places(&s, name, false);
        assert_eq!(
            of("docker.io/library/nginx"),
            ["mirror.local:5000/hub/library/nginx insecure", "docker.io/library/nginx"]
        );
        assert_eq!(of("plain.local/x"), ["plain.local/x insecure"]);
        assert_eq!(of("plain.local.evil/x"), ["plain.local.evil/x"]);
        assert_eq!(of("a.corp.example/x"), ["a.corp.example/x insecure"]);
        assert_eq!(of("corp.example/x"), ["corp.example/x"]);
        let e = s.places("docker.io/evil/x", false).unwrap_err().to_string();
        assert!(e.contains("is blocked by \"docker.io/evil\" in /r.conf"), "{e}");
    }

    #[test]
    fn mirrors_of_tags_and_of_digests_are_told_apart() {
        let s = parse(
            "[[registry]]\nlocation = 'r.io'\nmirror = [{location = 'd', pull-from-mirror = 'digest-only'}, \
             {location = 't', pull-from-mirror = 'tag-only'}, {location = 'a'}]\n\
             [[registry]]\nlocation = 'q.io'\nmirror-by-digest-only = true\nmirror = [{location = 'm'}]\n",
        );
        let s = s.unwrap();
        assert_eq!(places(&s, "r.io/x", true), ["d/x", "a/x", "r.io/x"]);
        assert_eq!(places(&s, "r.io/x", false), ["t/x", "a/x", "r.io/x"]);
        assert_eq!(places(&s, "q.io/x", true), ["m/x", "q.io/x"]);
        assert_eq!(places(&s, "q.io/x", false), ["q.io/x"]);
    }

    #[test]
    fn the_last_entry_of_a_prefix_counts() {
        let mut s = parse("[[registry]]\nlocation = 'r.io'\nblocked = true\n").unwrap();
        s.add(Path::new("/r.conf.d/a.conf"), "[[registry]]\nlocation = 'r.io'\ninsecure = true\n").unwrap();
        assert_eq!(places(&s, "r.io/x", false), ["r.io/x insecure"]);
    }

    #[test]
    fn an_invalid_file_is_an_error_with_its_line() {
        for (text, expected) in [
            ("[[registry]]\ninsecure = 1\n", "/r.conf:2: invalid type: integer `1`, expected a boolean"),
            ("[[registry]]\nlocation = 'a\n", "/r.conf:2: "),
            ("[[registry]]\nblocked = true\n", "/r.conf:1: a registry or a mirror has no location"),
            ("[registries.search]\nregistries = []\n", "/r.conf:1: version 1 of the format is not supported"),
        ] {
            let e = parse(text).unwrap_err().to_string();
            assert!(e.starts_with(expected) && e.contains("containers-registries.conf(5)"), "{e}");
        }
    }
}
