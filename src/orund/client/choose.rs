//! How a command line says which objects are meant: names, kinds and labels.

use std::collections::BTreeMap;

use super::kinds;
pub use super::kinds::ObjectKind;

const NAMES: &str = "expected a name, workload/NAME, replica/NAME or PROJECT/SERVICE";

/// The name of a service with that of its Compose project before it; the supervisor knows which workload that is.
fn of_project(text: &str, service: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let (project, _) = text.split_once('/')?;
    let good = |word: &str| !word.is_empty() && word.chars().all(plain);
    (good(project) && good(service)).then(|| text.to_owned())
}

/// A name as people and `-o name` write it, of a workload.
pub fn workload_name(text: &str) -> Result<String, String> {
    match text.split_once('/').map(|(kind, name)| (kinds::kind(kind), name)) {
        None | Some((Some(ObjectKind::Workloads | ObjectKind::Of(_)), _)) => Ok(kinds::bare(text).to_owned()),
        Some((Some(_), _)) => Err("this command takes the name of a workload".to_owned()),
        Some((None, name)) => of_project(text, name)
            .ok_or_else(|| "expected a name, workload/NAME or PROJECT/SERVICE".to_owned()),
    }
}

/// A name as people and `-o name` write it, of a workload or a replica.
pub fn any_name(text: &str) -> Result<Name, String> {
    match text.split_once('/') {
        None => Ok(Name { kind: None, name: text.to_owned() }),
        Some((kind, name)) => match kinds::kind(kind) {
            Some(
                kind @ (ObjectKind::Workloads
                | ObjectKind::Of(_)
                | ObjectKind::Replicas
                | ObjectKind::Kept(_)),
            ) => Ok(Name { kind: Some(kind), name: name.to_owned() }),
            Some(ObjectKind::Events | ObjectKind::All) => Err(NAMES.to_owned()),
            None => {
                let name = of_project(text, name).ok_or_else(|| NAMES.to_owned())?;
                Ok(Name { kind: None, name })
            }
        },
    }
}

/// Names as kubectl takes them: `KIND NAME...`, or any of `NAME`, `KIND/NAME`.
///
/// # Errors
/// The mistake, in words.
pub fn names_of(words: &[String]) -> Result<Vec<Name>, String> {
    match words.split_first() {
        Some((first, rest)) if !rest.is_empty() && kinds::kind(first).is_some() => {
            let one = |name: &String| match name.contains('/') {
                true => Err(format!("{name:?} has a kind, but the list already has one")),
                false => any_name(&format!("{first}/{name}")),
            };
            rest.iter().map(one).collect()
        }
        _ => words.iter().map(|w| any_name(w)).collect(),
    }
}

/// A name that may be a workload's or a replica's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub kind: Option<ObjectKind>,
    pub name: String,
}

/// `PORT[/PROTOCOL]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortName {
    pub number: u16,
    pub protocol: String,
}

impl std::str::FromStr for PortName {
    type Err = String;

    fn from_str(text: &str) -> Result<PortName, String> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = protocol.to_lowercase();
        match number.parse() {
            Ok(number) if number > 0 && matches!(protocol.as_str(), "tcp" | "udp") => {
                Ok(PortName { number, protocol })
            }
            _ => Err("expected PORT[/tcp|udp], such as 80 or 53/udp".to_owned()),
        }
    }
}

/// Conditions on labels, all of which must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

/// One condition on a label.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    Is(String, String),
    IsNot(String, String),
    Exists(String),
    Missing(String),
}

impl Selector {
    pub fn takes(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|r| match r {
            Requirement::Is(key, value) => labels.get(key) == Some(value),
            Requirement::IsNot(key, value) => labels.get(key) != Some(value),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Missing(key) => !labels.contains_key(key),
        })
    }
}

pub fn selector(text: &str) -> Result<Selector, String> {
    let one =
        |part: &str| -> Result<Requirement, String> {
            let part = part.trim();
            let own = |t: &str| t.trim().to_owned();
            let r = match (part.split_once("!="), part.split_once('=')) {
                (Some((k, v)), _) => Requirement::IsNot(own(k), own(v)),
                (None, Some((k, v))) => Requirement::Is(own(k), own(v.strip_prefix('=').unwrap_or(v))),
                (None, None) => match part.strip_prefix('!') {
                    Some(key) => Requirement::Missing(own(key)),
                    None => Requirement::Exists(own(part)),
                },
            };
            let (Requirement::Is(key, _)
            | Requirement::IsNot(key, _)
            | Requirement::Exists(key)
            | Requirement::Missing(key)) = &r;
            let bad = |c: char| !(c.is_ascii_alphanumeric() || "-_./".contains(c));
            match key.is_empty() || key.contains(bad) {
                true => Err("expected labels such as app=web, tier!=test, app or !app, separated by commas"
                    .to_owned()),
                false => Ok(r),
            }
        };
    text.split(',').map(one).collect::<Result<_, _>>().map(Selector)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::KeptKind;

    #[test]
    fn a_kind_may_stand_before_names() {
        let words = |text: &str| names_of(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let name = |kind, name: &str| Name { kind, name: name.to_owned() };
        let secret = Some(ObjectKind::Kept(KeptKind::Secret));
        assert_eq!(words("secret a b").unwrap(), [name(secret, "a"), name(secret, "b")]);
        assert_eq!(words("deploy web").unwrap(), [name(Some(ObjectKind::Of("deployment")), "web")]);
        assert_eq!(words("web secret/a").unwrap(), [name(None, "web"), name(secret, "a")]);
        assert_eq!(words("secret").unwrap(), [name(None, "secret")], "a name alone is a name");
        assert_eq!(words("shop/db").unwrap(), [name(None, "shop/db")], "a service of a project");
        assert!(words("shop/").is_err() && words("a/b/c").is_err());
        assert!(words("secret cm/a").is_err() && words("all x").is_err() && words("events x").is_err());
    }

    #[test]
    fn selectors_are_those_of_kubernetes() {
        let labels =
            BTreeMap::from([("app".to_owned(), "web".to_owned()), ("tier".to_owned(), "front".to_owned())]);
        for (text, taken) in [
            ("app=web", true),
            ("app==web,tier!=back", true),
            ("app", true),
            ("!app", false),
            ("!x", true),
            ("x!=1", true),
            ("app=api", false),
            ("app=web,tier=back", false),
        ] {
            assert_eq!(selector(text).unwrap().takes(&labels), taken, "{text}");
        }
        for bad in ["", "=web", "a b=c", "app=web,", "app in (web)"] {
            assert!(selector(bad).is_err(), "{bad}");
        }
    }
}
