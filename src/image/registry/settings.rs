//! `/etc/containers/registries.conf` (containers-registries.conf(5), version 2): mirrors, registries without TLS, and blocked ones.
//! Of TOML we read what the format needs: tables, strings and booleans.

use crate::error::{Error, Kind, Result};
use std::path::Path;

const FILE: &str = "/etc/containers/registries.conf";
/// In place of [`FILE`], for tests and for users.
const VARIABLE: &str = "CONTAINERS_REGISTRIES_CONF";

/// Where an image is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Host and repository.
    pub location: String,
    pub insecure: bool,
}

/// An entry `[[registry]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Registry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    /// Location and `insecure`.
    mirrors: Vec<(String, bool)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(Vec<Registry>);

/// # Errors
/// The file cannot be read, or a line of it is invalid.
pub fn read() -> Result<Settings> {
    let path = std::env::var(VARIABLE).unwrap_or_else(|_| FILE.to_owned());
    match std::fs::read_to_string(Path::new(&path)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Settings::default()),
        Err(e) => Err(Error::sys(format!("reading {path:?}"), e)),
        Ok(text) => parse(&text).map_err(|(line, what)| {
            Error::new(Kind::Config, format!("{path}:{line}: {what}"))
                .hint("see containers-registries.conf(5)")
        }),
    }
}

fn parse(text: &str) -> Result<Settings, (usize, String)> {
    let mut all: Vec<Registry> = Vec::new();
    let mut table = String::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            table =
                line.split('#').next().unwrap_or_default().trim().trim_matches(['[', ']', ' ']).to_owned();
            match table.as_str() {
                "registry" => all.push(Registry::default()),
                "registry.mirror" => match all.last_mut() {
                    Some(last) => last.mirrors.push((String::new(), false)),
                    None => return Err((n + 1, "a mirror without a registry".to_owned())),
                },
                _ => {}
            }
            continue;
        }
        let (key, value) = line.split_once('=').ok_or((n + 1, "expected KEY = VALUE".to_owned()))?;
        let (key, value) = (key.trim(), value.trim());
        let string = || {
            let inner = value.strip_prefix('"').and_then(|v| v.split_once('"'));
            inner
                .map(|(text, _)| text.trim_end_matches('/').to_owned())
                .ok_or((n + 1, format!("{key} must be a string")))
        };
        let boolean = || match value.split('#').next().unwrap_or_default().trim() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err((n + 1, format!("{key} must be true or false"))),
        };
        let Some(last) = all.last_mut() else { continue };
        match (table.as_str(), key, last.mirrors.last_mut()) {
            ("registry", "prefix", _) => last.prefix = string()?,
            ("registry", "location", _) => last.location = string()?,
            ("registry", "insecure", _) => last.insecure = boolean()?,
            ("registry", "blocked", _) => last.blocked = boolean()?,
            ("registry.mirror", "location", Some(mirror)) => mirror.0 = string()?,
            ("registry.mirror", "insecure", Some(mirror)) => mirror.1 = boolean()?,
            _ => {}
        }
    }
    for r in &mut all {
        if r.prefix.is_empty() {
            r.prefix.clone_from(&r.location);
        }
        if r.location.is_empty() {
            r.location.clone_from(&r.prefix);
        }
    }
    Ok(Settings(all))
}

/// What of `name` lies below `prefix`.
fn below<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    if let Some(domain) = prefix.strip_prefix("*.") {
        let (host, _) = name.split_once('/').unwrap_or((name, ""));
        return host.strip_suffix(domain).is_some_and(|h| h.ends_with('.')).then(|| &name[host.len()..]);
    }
    name.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Settings {
    /// Where the image `name`, host and repository, is looked for: mirrors first.
    ///
    /// # Errors
    /// It is blocked.
    pub fn places(&self, name: &str) -> Result<Vec<Place>> {
        let fits = |r: &&Registry| !r.prefix.is_empty() && below(name, &r.prefix).is_some();
        let own = Place { location: name.to_owned(), insecure: false };
        let Some(r) = self.0.iter().filter(fits).max_by_key(|r| r.prefix.len()) else { return Ok(vec![own]) };
        if r.blocked {
            let what = format!("image {name:?} is blocked by {:?} in {FILE}", r.prefix);
            return Err(Error::new(Kind::Unsupported, what));
        }
        let rest = below(name, &r.prefix).unwrap_or_default();
        let place = |location: &str, insecure| Place { location: format!("{location}{rest}"), insecure };
        let mut places: Vec<Place> = r.mirrors.iter().map(|(l, insecure)| place(l, *insecure)).collect();
        places.push(match r.prefix.starts_with("*.") && r.location == r.prefix {
            true => Place { insecure: r.insecure, ..own },
            false => place(&r.location, r.insecure),
        });
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_first_and_blocked_ones_are_refused() {
        let text = "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"docker.io\" # all\nlocation = \"docker.io\"\n\
            [[registry.mirror]]\nlocation = \"mirror.local:5000/hub\"\ninsecure = true\n\
            [[registry]]\nprefix = \"docker.io/evil\"\nblocked = true\n[[registry]]\nlocation = \"plain.local\"\ninsecure = true\n";
        let settings = parse(text).unwrap();
        let places = |name: &str| {
            settings.places(name).map(|p| p.into_iter().map(|p| (p.location, p.insecure)).collect::<Vec<_>>())
        };
        assert_eq!(
            places("docker.io/library/nginx").unwrap(),
            [
                ("mirror.local:5000/hub/library/nginx".to_owned(), true),
                ("docker.io/library/nginx".to_owned(), false)
            ]
        );
        assert_eq!(places("plain.local/x").unwrap(), [("plain.local/x".to_owned(), true)]);
        assert_eq!(places("plain.local.evil/x").unwrap(), [("plain.local.evil/x".to_owned(), false)]);
        assert!(places("docker.io/evil/x").unwrap_err().to_string().contains("is blocked"));
        assert_eq!(
            parse("[[registry]]\ninsecure = 1\n").unwrap_err(),
            (2, "insecure must be true or false".to_owned())
        );
        assert_eq!(parse("[[registry.mirror]]\n").unwrap_err().0, 1);
    }
}
