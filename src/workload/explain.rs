//! What a field is, for `orund explain`.

use super::kinds;
use super::schema::{Class, Row, Type, schema, step};
use crate::config::document::reader::similar;

/// The text about `field`: a kind (`deployment`), a path (`deployment.spec.replicas`, `spec.replicas`) or a name.
///
/// # Errors
/// There is no such field; the hint, if there is one.
pub fn explain(field: &str) -> Result<String, String> {
    let plain = field.replace("[]", "");
    let (first, rest) = plain.split_once('.').unwrap_or((&plain, ""));
    if let Some(kind) = kinds::named(first) {
        return match rest {
            "" => Ok(about_kind(kind)),
            path => found(kind, path)
                .or_else(|| found(kind, &format!("spec.{path}")))
                .ok_or_else(|| advice(kind, path)),
        };
    }
    let mut texts: Vec<String> = Vec::new();
    for kind in ["Deployment", "Workload", "Job", "StatefulSet", "Service", "ConfigMap", "DeploymentConfig"] {
        let below = schema().below(kind);
        let suffix = format!(".{plain}");
        let fits = |path: &str, row: &Row| {
            let full = format!(".{}", step(path, row.field).replace("[]", ""));
            full.ends_with(&suffix)
        };
        for (path, row) in below.iter().filter(|(path, row)| fits(path, row)) {
            let text = about(path, row);
            let same = |other: &String| other.lines().skip(1).eq(text.lines().skip(1));
            if !texts.iter().any(same) {
                texts.push(format!("{kind}: {text}"));
            }
        }
    }
    if texts.is_empty() { Err(advice("Deployment", &plain)) } else { Ok(texts.join("\n")) }
}

fn found(kind: &'static str, path: &str) -> Option<String> {
    let below = schema().below(kind);
    let (at, row) = below.iter().find(|(at, row)| step(at, row.field).replace("[]", "") == path)?;
    Some(format!("{kind}: {}", about(at, row)))
}

fn advice(kind: &'static str, path: &str) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    let below = schema().below(kind);
    let mut names: Vec<&str> = below.iter().map(|(_, row)| row.field).collect();
    names.extend(schema().kinds());
    match similar(name, &names) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("`orund explain {}` lists the fields", kind.to_lowercase()),
    }
}

fn about_kind(kind: &'static str) -> String {
    let mut out = String::new();
    for row in schema().fields(kind).iter().filter(|r| r.field == "kind") {
        out.push_str(&format!("{}\n\n", row.text));
    }
    out + &fields(kind)
}

fn about(path: &str, row: &Row) -> String {
    let required = if row.required { ", required" } else { "" };
    let mut out = format!("{}\n  type:    {}{required}\n", step(path, row.field), row.ty.noun());
    if let Some(default) = row.default {
        out.push_str(&format!("  default: {default}\n"));
    }
    out.push_str(&format!("  status:  {}\n  {}\n", status(path, row), row.text));
    let inner = match &row.ty {
        Type::Struct(inner) => Some(*inner),
        Type::List(of) => match **of {
            Type::Struct(inner) => Some(inner),
            _ => None,
        },
        _ => None,
    };
    match inner {
        Some(inner) => format!("{out}\n{}", fields(inner)),
        None => out,
    }
}

/// Fields that `validate`, `--fix` and `convert` know and `apply` refuses until it can run them.
const NOT_RUN: [&str; 6] = ["image", "envFrom", "configMapKeyRef", "secretKeyRef", "configMap", "secret"];

fn status(path: &str, row: &Row) -> &'static str {
    let full = step(path, row.field).replace("[]", "");
    let refused = row.class == Class::Done && full.split('.').any(|part| NOT_RUN.contains(&part));
    if refused { "checked and converted; `orund apply` cannot run it yet" } else { row.class.words() }
}

/// One line for each field of a structure.
fn fields(owner: &str) -> String {
    let rows = schema().fields(owner);
    let widest = rows.iter().map(|r| r.field.len()).max().unwrap_or(0);
    let line = |r: &Row| {
        let status = match r.class {
            Class::Done => String::new(),
            class => format!(" ({})", class.words()),
        };
        format!("  {:widest$}  {}{status}\n", r.field, r.text)
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_explained_by_path_and_by_name() {
        let text = explain("deployment.spec.template.spec.terminationGracePeriodSeconds").unwrap();
        let expected = "Deployment: spec.template.spec.terminationGracePeriodSeconds
  type:    a whole number, 0 or more
  default: 30
  status:  supported
  Time between the stop signal and SIGKILL.
";
        assert_eq!(text, expected);
        assert!(explain("terminationGracePeriodSeconds").unwrap().starts_with(expected));
        assert!(explain("pod.terminationGracePeriodSeconds").unwrap().contains("default: 30"));
        assert!(explain("volumes.emptyDir").unwrap().contains("  medium "));
        assert!(explain("pods").unwrap().contains("  spec "));
        assert_eq!(explain("deployment.spec.replica").unwrap_err(), "did you mean \"replicas\"?");
        assert_eq!(explain("deploymnet").unwrap_err(), "did you mean \"Deployment\"?");
    }
}
