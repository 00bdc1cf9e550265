//! `build`: an image that somebody else makes. What is to be built is an annotation of the workload ([`BUILD`]), for the
//! command line, which calls the builder.

use serde::{Deserialize, Serialize};
use std::path::Path;

use super::load::Loader;
use super::values;
use crate::config::document::Node;

/// Annotation of a workload: its [`Build`] as JSON.
pub const BUILD: &str = "orun.dev/build";

/// How an image is built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Build {
    /// The repository of its name, without a tag.
    pub repository: String,
    /// The service names an image, too: it can be pulled instead of being built.
    pub named: bool,
    /// An absolute path, or what a builder can fetch.
    pub context: String,
    /// Relative to the context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// Instead of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile_inline: Option<String>,
    /// The stage to build; `None`: the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// `NAME=VALUE`; `NAME` is taken from the environment of the builder.
    pub args: Vec<String>,
    /// `NAME=VALUE`.
    pub labels: Vec<String>,
    /// Use no cache of the builder.
    pub no_cache: bool,
    /// Look for newer base images.
    pub pull: bool,
}

/// Fields that change the result, and are not passed to the builder.
const UNKNOWN: [&str; 4] = ["additional_contexts", "entitlements", "secrets", "ssh"];
/// Settings that only change how it is built.
const WITHOUT_EFFECT: [&str; 13] = [
    "cache_from",
    "cache_to",
    "extra_hosts",
    "isolation",
    "network",
    "platforms",
    "privileged",
    "provenance",
    "sbom",
    "shm_size",
    "tags",
    "ulimits",
    "x-bake",
];

/// The service that has something to build.
pub struct Builds<'a> {
    pub project: &'a str,
    pub service: &'a str,
    /// The service's own; or empty.
    pub image: &'a str,
    /// Where relative paths start.
    pub dir: &'a Path,
}

/// The content of `build`.
pub fn read(loader: &mut Loader<'_>, of: &Builds<'_>, node: &Node) -> Build {
    let text = |name: &str| values::text(node, name).map(str::to_owned);
    let pairs = |name: &str| -> Vec<String> {
        let found = values::get(node, name).map(|n| values::pairs(n, &['='])).unwrap_or_default();
        found.into_iter().map(|(k, v, _)| v.map_or(k.to_string(), |v| format!("{k}={v}"))).collect()
    };
    for (key, _) in values::entries(node) {
        let name = key.data.text().unwrap_or_default();
        let path = format!("services.{}.build.{name}", of.service);
        if UNKNOWN.contains(&name) {
            let hint = "build the image yourself, and write `image: NAME`".to_owned();
            loader.error(key.place, &path, format!("build.{name} is not supported"), Some(hint));
        } else if WITHOUT_EFFECT.contains(&name) {
            let hint = "the builder's default is used".to_owned();
            loader.warn(key.place, &path, format!("build.{name} has no effect"), Some(hint));
        }
    }
    let context =
        node.data.text().map(str::to_owned).or_else(|| text("context")).unwrap_or_else(|| ".".into());
    let own = format!("localhost/{}-{}", of.project, values::label(of.service));
    Build {
        repository: if of.image.is_empty() { own } else { repository(of.image).to_owned() },
        named: !of.image.is_empty(),
        context: absolute(&context, of.dir),
        dockerfile: text("dockerfile"),
        dockerfile_inline: text("dockerfile_inline"),
        target: text("target").filter(|t| !t.is_empty()),
        args: pairs("args"),
        labels: pairs("labels"),
        no_cache: values::is_set(node, "no_cache"),
        pull: values::is_set(node, "pull"),
    }
}

/// A name without its tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

/// Whether a builder fetches it.
#[must_use]
pub fn is_remote(context: &str) -> bool {
    context.contains("://") || context.starts_with("git@") || context.starts_with("github.com/")
}

fn absolute(context: &str, dir: &Path) -> String {
    match is_remote(context) {
        true => context.to_owned(),
        false => dir.join(context).to_string_lossy().into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_a_name_without_its_tag() {
        for (image, expected) in [
            ("web", "web"),
            ("web:1.4", "web"),
            ("registry.local:5000/web", "registry.local:5000/web"),
            ("registry.local:5000/web:1.4@sha256:ab", "registry.local:5000/web"),
        ] {
            assert_eq!(repository(image), expected);
        }
        assert_eq!(absolute("web", Path::new("/srv")), "/srv/web");
        assert_eq!(
            absolute("https://git.example/a.git#main", Path::new("/srv")),
            "https://git.example/a.git#main"
        );
    }
}
