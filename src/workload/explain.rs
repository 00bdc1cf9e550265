//! Descriptions of fields, for `orund explain`.

use super::kinds;
use super::schema::{Class, Row, schema, step};
use crate::config::document::reader::similar;

/// The text about `field`: a kind (`deployment`), a path (`deployment.spec.replicas`, `spec.replicas`) or a name.
///
/// # Errors
/// There is no such field; the hint, if there is one.
pub fn explain(field: &str) -> Result<String, String> {
    let plain = field.replace("[]", "");
    let (first, rest) = plain.split_once('.').unwrap_or((&plain, ""));
    if first == "services"
        && let Some(text) = of_compose(&plain)
    {
        return text;
    }
    if let Some(kind) = kinds::find_kind(first) {
        return match rest {
            "" => Ok(about_kind(kind)),
            path => found(kind, path)
                .or_else(|| found(kind, &format!("spec.{path}")))
                .ok_or_else(|| advice(kind, path)),
        };
    }
    if let Some(text) = of_compose(&plain) {
        return text;
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

/// The text about a field of a Compose file, as `services.web.image` or `services.image`; `compose` is the file. None: a Compose
/// file has no such path.
fn of_compose(path: &str) -> Option<Result<String, String>> {
    if path == "compose" {
        return Some(Ok(format!(
            "Compose: a project of services, each of which is a workload.\n\n{}",
            fields("Compose")
        )));
    }
    let (section, rest) = path.split_once('.').unwrap_or((path, ""));
    schema().field("Compose", section).filter(|_| !path.contains(' '))?;
    let without_name = rest.split_once('.').map_or("", |(_, rest)| rest);
    let whole = |rest: &str| if rest.is_empty() { section.to_owned() } else { format!("{section}.{rest}") };
    let below = schema().below("Compose");
    let plain = |at: &str, row: &Row| step(at, row.field).replace("[]", "").replace(".*", "");
    let found = [whole(rest), whole(without_name)].into_iter().find_map(|path| {
        let (at, row) = below.iter().find(|(at, row)| plain(at, row) == path)?;
        let text = about(&at.replace(".*", ".NAME"), row);
        Some(format!("Compose: {text}"))
    });
    // Only a name of the user's.
    let known = found.filter(|text| rest.is_empty() || !text.starts_with(&format!("Compose: {section}\n")));
    match known {
        // Other words are fields of Kubernetes, too.
        None if section != "services" => None,
        known => Some(known.ok_or_else(|| advice("Compose", path))),
    }
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
    match row.ty.inside().map(|(inner, _)| inner) {
        Some(inner) => format!("{out}\n{}", fields(inner)),
        None => out,
    }
}

/// Fields that `validate`, `--fix` and `convert` know and `apply` refuses until it can run them.
const NOT_RUN: [&str; 6] = ["image", "envFrom", "configMapKeyRef", "secretKeyRef", "configMap", "secret"];

fn status(path: &str, row: &Row) -> &'static str {
    if row.owner.starts_with("Compose") {
        return row.class.words();
    }
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
    fn fields_of_compose_are_explained_with_and_without_the_name_of_a_service() {
        let text = explain("services.image").unwrap();
        assert!(text.starts_with("Compose: services.NAME.image\n  type:    a string\n"), "{text}");
        assert_eq!(explain("services.web.image").unwrap(), text);
        assert!(explain("services.deploy.update_config").unwrap().contains("  parallelism "));
        assert!(explain("services").unwrap().contains("  healthcheck "));
        assert!(explain("compose").unwrap().contains("  services "));
        assert_eq!(explain("services.web.imag").unwrap_err(), "did you mean \"image\"?");
        assert!(explain("services.gpus").unwrap().contains("status:  not supported\n"));
    }

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
