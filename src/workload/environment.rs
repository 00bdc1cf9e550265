//! The variables and the command line of a container, as Kubernetes makes them.

use std::collections::BTreeMap;

use super::model::{Container, EnvSource};
use super::pod::ConfigRef;
use super::replica::{Replica, Sandbox};

/// Data of ConfigMaps and Secrets: by kind (a Secret?) and name, the data by key.
pub type Objects = BTreeMap<(bool, String), BTreeMap<String, Vec<u8>>>;

/// Expands `$(NAME)`: `known` has the values. `$$` is a dollar, and what is not known stays as it is.
pub fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match known.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

/// The variables of a container that its file names.
///
/// # Errors
/// An input of one of them does not exist.
pub fn variables(
    c: &Container,
    pod: &Sandbox,
    replica: &Replica,
    objects: &Objects,
) -> Result<BTreeMap<String, String>, String> {
    let mut known = BTreeMap::new();
    for from in &c.env_from {
        for (secret, r) in [(false, &from.config_map_ref), (true, &from.secret_ref)] {
            let Some(r) = r else { continue };
            for (key, value) in object(secret, r, objects)?.into_iter().flatten() {
                let name = format!("{}{key}", from.prefix);
                // One that cannot be the name of a variable is left out, as Kubernetes does.
                if !name.contains(['=', '\0']) {
                    known.insert(name, text(&format!("key {key:?} of {}", called(secret, r)), value)?);
                }
            }
        }
    }
    for var in &c.env {
        let value = match &var.value_from {
            None => Some(expand(&var.value, &known)),
            Some(source) => source_value(&var.name, source, c, pod, replica, objects)?,
        };
        if let Some(value) = value {
            known.insert(var.name.clone(), value);
        }
    }
    Ok(known)
}

fn source_value(
    name: &str,
    source: &EnvSource,
    c: &Container,
    pod: &Sandbox,
    replica: &Replica,
    objects: &Objects,
) -> Result<Option<String>, String> {
    let of = |e: String| format!("variable {name:?}: {e}");
    match source {
        EnvSource::FieldRef(f) => replica.field(pod, &f.field_path).map(Some).map_err(of),
        EnvSource::ResourceFieldRef(r) => replica.resource(pod, &c.name, r).map(Some).map_err(of),
        EnvSource::ConfigMapKeyRef(r) => key(false, r, objects).map_err(of),
        EnvSource::SecretKeyRef(r) => key(true, r, objects).map_err(of),
    }
}

fn called(secret: bool, r: &ConfigRef) -> String {
    format!("{} {:?}", if secret { "Secret" } else { "ConfigMap" }, r.name)
}

fn object<'o>(
    secret: bool,
    r: &ConfigRef,
    objects: &'o Objects,
) -> Result<Option<&'o BTreeMap<String, Vec<u8>>>, String> {
    match objects.get(&(secret, r.name.clone())) {
        Some(data) => Ok(Some(data)),
        None if r.optional => Ok(None),
        None => Err(format!("{} does not exist", called(secret, r))),
    }
}

fn key(secret: bool, r: &ConfigRef, objects: &Objects) -> Result<Option<String>, String> {
    let Some(data) = object(secret, r, objects)? else { return Ok(None) };
    let key = r.key.as_deref().unwrap_or_default();
    match data.get(key) {
        Some(value) => text(&format!("key {key:?} of {}", called(secret, r)), value).map(Some),
        None if r.optional => Ok(None),
        None => Err(format!("{} has no key {key:?}", called(secret, r))),
    }
}

fn text(what: &str, value: &[u8]) -> Result<String, String> {
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(format!("{what} is not text: it cannot be a variable")),
    }
}

/// The arguments and the environment of a container. `base` are those of its bundle.
///
/// # Errors
/// An input of a variable does not exist.
pub fn program(
    (base_args, base_env): (&[String], &[String]),
    c: &Container,
    pod: &Sandbox,
    replica: &Replica,
    objects: &Objects,
) -> Result<(Vec<String>, Vec<String>), String> {
    let known = variables(c, pod, replica, objects)?;
    let name_of = |var: &str| var.split('=').next().unwrap_or_default().to_owned();
    let mut env: Vec<String> =
        base_env.iter().filter(|var| !known.contains_key(&name_of(var))).cloned().collect();
    // Programs find the first of two; none has two here.
    env.extend(known.iter().map(|(name, value)| format!("{name}={value}")));
    if !env.iter().any(|var| name_of(var) == "HOSTNAME") {
        env.push(format!("HOSTNAME={}", replica.names(pod).0));
    }
    if pod.indexed && !env.iter().any(|var| name_of(var) == "JOB_COMPLETION_INDEX") {
        env.push(format!("JOB_COMPLETION_INDEX={}", replica.index));
    }
    let expanded = |list: &[String]| list.iter().map(|word| expand(word, &known)).collect::<Vec<_>>();
    let args = match (&c.args, c.command.is_empty()) {
        (None, true) => base_args.to_vec(),
        (args, false) => [expanded(&c.command), expanded(args.as_deref().unwrap_or_default())].concat(),
        (Some(args), true) => expanded(args),
    };
    Ok((args, env))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::model::{EnvFrom, EnvVar};
    use crate::workload::pod::FieldRef;

    #[test]
    fn references_are_expanded_as_kubernetes_does() {
        let known = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())]);
        let cases = [
            ("$(A)-$(A)", "1-1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(NONE)", "$(NONE)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$(B)", "$(A)"),
            ("$()x", "$()x"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }

    fn reference(name: &str, key: Option<&str>, optional: bool) -> ConfigRef {
        ConfigRef { name: name.into(), key: key.map(str::to_owned), optional }
    }

    #[test]
    fn variables_come_from_everywhere_and_the_last_one_counts() {
        let objects = Objects::from([
            (
                (false, "c".into()),
                BTreeMap::from([("A".into(), b"config".to_vec()), ("x=y".into(), b"1".to_vec())]),
            ),
            (
                (true, "s".into()),
                BTreeMap::from([("pw".into(), b"secret".to_vec()), ("bin".into(), vec![0xff])]),
            ),
        ]);
        let var =
            |name: &str, value: &str| EnvVar { name: name.into(), value: value.into(), value_from: None };
        let from =
            |name: &str, source| EnvVar { name: name.into(), value_from: Some(source), ..EnvVar::default() };
        let field = FieldRef { field_path: "metadata.name".into() };
        let mut c = Container {
            env_from: vec![EnvFrom {
                prefix: "P_".into(),
                config_map_ref: Some(reference("c", None, false)),
                secret_ref: None,
            }],
            env: vec![
                var("A", "mine-$(P_A)"),
                from("PW", EnvSource::SecretKeyRef(reference("s", Some("pw"), false))),
                from("POD", EnvSource::FieldRef(field)),
                from("MAYBE", EnvSource::SecretKeyRef(reference("gone", Some("x"), true))),
                var("ALL", "$(A)/$(PW)/$(POD)/$(LATER)"),
                var("LATER", "1"),
            ],
            args: Some(vec!["$(ALL)".into()]),
            ..Container::default()
        };
        let (pod, replica) = (Sandbox::default(), Replica { name: "web-0".into(), ..Replica::default() });
        let base = (["old".to_owned()], ["A=bundle".to_owned(), "PATH=/bin".to_owned()]);
        let program = |c: &Container| super::program((&base.0, &base.1), c, &pod, &replica, &objects);
        let (args, env) = program(&c).unwrap();
        assert_eq!(args, ["mine-config/secret/web-0/$(LATER)"]);
        let expected = [
            "PATH=/bin",
            "A=mine-config",
            "ALL=mine-config/secret/web-0/$(LATER)",
            "LATER=1",
            "POD=web-0",
            "PW=secret",
            "P_A=config",
            "HOSTNAME=web-0",
        ];
        assert_eq!(env, expected);
        for (wrong, expected) in [
            (reference("gone", Some("x"), false), "variable \"W\": Secret \"gone\" does not exist"),
            (reference("s", Some("x"), false), "variable \"W\": Secret \"s\" has no key \"x\""),
            (
                reference("s", Some("bin"), false),
                "variable \"W\": key \"bin\" of Secret \"s\" is not text: it cannot be a variable",
            ),
        ] {
            c.env = vec![from("W", EnvSource::SecretKeyRef(wrong))];
            assert_eq!(program(&c).unwrap_err(), expected);
        }
    }
}
