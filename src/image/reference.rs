//! Names of images as people write them: `nginx`, `ghcr.io/x/y:tag`, `name@sha256:...`, `oci:DIR[:TAG]`,
//! `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:TAG]`, `bundle:DIR`.
//!
//! The rules for names are those of the distribution specification and of Docker's short names.

use crate::error::{Error, Kind, Result};
use std::fmt;

/// The registry of names that say none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The namespace of its official images.
const OFFICIAL: &str = "library";
/// Bytes of a repository with its registry (distribution-spec, "Pulling manifests").
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A directory in the OCI image layout.
    OciLayout { dir: String, tag: Option<String> },
    /// Such a directory in a tar file.
    OciArchive { file: String, tag: Option<String> },
    /// The format of `docker save`.
    DockerArchive { file: String, tag: Option<String> },
    /// A runtime bundle instead of an image.
    Bundle { dir: String },
    /// A registry has it.
    Registry(Remote),
}

/// An image of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Host, with its port where one is given.
    pub registry: String,
    /// `library/nginx`.
    pub repository: String,
    /// None only beside a digest.
    pub tag: Option<String>,
    /// `sha256:` and 64 hexadecimal digits. It decides; the tag beside it is for people.
    pub digest: Option<String>,
}

impl Remote {
    /// The content of this name never changes.
    pub fn is_pinned(&self) -> bool {
        self.digest.is_some()
    }
}

impl Reference {
    /// Reads a reference.
    ///
    /// # Errors
    /// [`Kind::Config`], with the part that is wrong.
    pub fn parse(text: &str) -> Result<Reference> {
        if text.is_empty() {
            return Err(invalid(text, "it is empty"));
        }
        if let Some(c) = text.chars().find(|c| c.is_control()) {
            return Err(invalid(text, format!("it has the character {c:?}")));
        }
        let tagged = |rest: &str| -> Result<(String, Option<String>)> {
            // A colon in the path is only one of a tag when no directory follows it.
            let (path, tag) = match rest.rsplit_once(':') {
                Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
                _ => (rest, None),
            };
            if path.is_empty() {
                return Err(invalid(text, "it has no path"));
            }
            if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
                return Err(invalid(text, format!("{tag:?} is not a valid tag")).hint(TAG_HINT));
            }
            Ok((path.to_owned(), tag.map(ToOwned::to_owned)))
        };
        Ok(match text.split_once(':') {
            Some(("oci", rest)) => {
                let (dir, tag) = tagged(rest)?;
                Reference::OciLayout { dir, tag }
            }
            Some(("oci-archive", rest)) => {
                let (file, tag) = tagged(rest)?;
                Reference::OciArchive { file, tag }
            }
            Some(("docker-archive", rest)) => {
                let (file, tag) = tagged(rest)?;
                Reference::DockerArchive { file, tag }
            }
            Some(("bundle", "")) => return Err(invalid(text, "it has no path")),
            Some(("bundle", dir)) => Reference::Bundle { dir: dir.to_owned() },
            Some(("docker", rest)) if rest.starts_with("//") => {
                Reference::Registry(remote(&rest[2..], text)?)
            }
            Some((scheme, rest)) if rest.starts_with("//") => {
                return Err(invalid(text, format!("{scheme:?} is not a kind of source"))
                    .hint("write a name such as nginx:1.27 or ghcr.io/owner/name, without https://"));
            }
            _ => Reference::Registry(remote(text, text)?),
        })
    }
}

const TAG_HINT: &str =
    "a tag has up to 128 letters, digits, _, . and -, and begins with a letter, a digit or _";

fn invalid(text: &str, why: impl fmt::Display) -> Error {
    Error::new(Kind::Config, format!("invalid image reference {text:?}: {why}"))
}

fn remote(name: &str, whole: &str) -> Result<Remote> {
    let (name, digest) = match name.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (name, None),
    };
    if let Some(digest) = digest.filter(|d| !is_digest(d)) {
        return Err(invalid(whole, format!("{digest:?} is not a valid digest"))
            .hint("sha256: and 64 digits from 0 to 9 and a to f"));
    }
    // A port has a path behind it, a tag has none.
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
        return Err(invalid(whole, format!("{tag:?} is not a valid tag")).hint(TAG_HINT));
    }
    let (registry, repository) = match path.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest.to_owned()),
        Some(_) => (DEFAULT_REGISTRY, path.to_owned()),
        None => (DEFAULT_REGISTRY, format!("{OFFICIAL}/{path}")),
    };
    if !is_host(registry) {
        return Err(invalid(whole, format!("{registry:?} is not a valid registry"))
            .hint("a host name or address, with :PORT behind it if it is not the usual one"));
    }
    if let Some(part) = repository.split('/').find(|part| !is_component(part)) {
        return Err(invalid(whole, format!("{part:?} is not a valid part of a name")).hint(
            "parts have lower-case letters and digits, and single . or _, __ or any number of - between them",
        ));
    }
    if registry.len() + 1 + repository.len() > LONGEST_NAME {
        return Err(invalid(whole, format!("the name is longer than {LONGEST_NAME} bytes")));
    }
    // index.docker.io is what old clients wrote.
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    let tag = match (tag, digest) {
        (None, None) => Some("latest"),
        (tag, _) => tag,
    };
    Ok(Remote {
        registry: registry.to_owned(),
        repository,
        tag: tag.map(ToOwned::to_owned),
        digest: digest.map(ToOwned::to_owned),
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.bytes().next().is_some_and(word)
        && tag.len() <= LONGEST_TAG
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Whether `text` is a digest by SHA-256.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let port_ok =
        port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|n| n > 0));
    let address = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let name_ok = match address {
        Some(v6) => v6.parse::<core::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|label| {
            let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner)
        }),
    };
    port_ok && name_ok
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, the distribution specification's rule.
fn is_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    let separators_ok = bytes
        .split(|b| word(*b))
        .all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|b| *b == b'-'));
    word(*first) && word(*last) && separators_ok
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut local = |kind: &str, path: &str, tag: &Option<String>| match tag {
            Some(tag) => write!(f, "{kind}:{path}:{tag}"),
            None => write!(f, "{kind}:{path}"),
        };
        match self {
            Reference::OciLayout { dir, tag } => local("oci", dir, tag),
            Reference::OciArchive { file, tag } => local("oci-archive", file, tag),
            Reference::DockerArchive { file, tag } => local("docker-archive", file, tag),
            Reference::Bundle { dir } => local("bundle", dir, &None),
            Reference::Registry(r) => r.fmt(f),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        Reference::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).to_string()
    }

    #[test]
    fn short_names_are_completed() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, expected) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27-alpine", "docker.io/library/nginx:1.27-alpine"),
            ("bitnami/redis", "docker.io/bitnami/redis:latest"),
            ("docker://nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/library/nginx:1", "docker.io/library/nginx:1"),
            ("ghcr.io/x/y/z:v1", "ghcr.io/x/y/z:v1"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:2", "localhost:5000/app:2"),
            ("registry:5000/app", "registry:5000/app:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("a/b__c-d.e---f", "docker.io/a/b__c-d.e---f:latest"),
        ] {
            assert_eq!(full(text), expected);
        }
        assert_eq!(full(&format!("nginx@{digest}")), format!("docker.io/library/nginx@{digest}"));
        assert_eq!(full(&format!("x/y:1@{digest}")), format!("docker.io/x/y:1@{digest}"));
        let pinned = |t: &str| matches!(Reference::parse(t), Ok(Reference::Registry(r)) if r.is_pinned());
        assert!(pinned(&format!("nginx@{digest}")) && !pinned("nginx:1"));
    }

    #[test]
    fn files_and_directories() {
        let tag = Some("1.2".to_owned());
        let parse = |t| Reference::parse(t).unwrap();
        assert_eq!(parse("oci:/a/b:1.2"), Reference::OciLayout { dir: "/a/b".into(), tag: tag.clone() });
        assert_eq!(parse("oci:/a:b/c"), Reference::OciLayout { dir: "/a:b/c".into(), tag: None });
        assert_eq!(parse("oci-archive:x.tar"), Reference::OciArchive { file: "x.tar".into(), tag: None });
        assert_eq!(parse("docker-archive:x.tar:1.2"), Reference::DockerArchive { file: "x.tar".into(), tag });
        assert_eq!(parse("bundle:/b:c"), Reference::Bundle { dir: "/b:c".into() });
        // The displayed form is parsed to the same reference.
        for text in ["oci:/a/b:1.2", "oci-archive:x.tar", "docker-archive:d/x.tar:t", "bundle:rel"] {
            assert_eq!(full(text), text);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = format!("{}/x", ["a"; 140].join("/"));
        for (text, word) in [
            ("", "it is empty"),
            ("oci:", "it has no path"),
            ("oci::tag", "it has no path"),
            ("bundle:", "it has no path"),
            ("oci:/a:-x", "\"-x\" is not a valid tag"),
            ("Nginx", "\"Nginx\" is not a valid part"),
            ("nginx:", "\"\" is not a valid tag"),
            ("nginx:a b", "\"a b\" is not a valid tag"),
            ("a//b", "\"\" is not a valid part"),
            ("a/../b", "\"..\" is not a valid part"),
            ("a/b_", "\"b_\" is not a valid part"),
            ("a/b___c", "\"b___c\" is not a valid part"),
            ("https://ghcr.io/x", "\"https\" is not a kind of source"),
            ("host.:80/x", "\"host.:80\" is not a valid registry"),
            ("host:0/x", "\"host:0\" is not a valid registry"),
            ("host:99999/x", "\"host:99999\" is not a valid registry"),
            ("nginx@sha256:12", "\"sha256:12\" is not a valid digest"),
            ("nginx@sha512:12", "is not a valid digest"),
            ("a\nb", "it has the character '\\n'"),
            (long.as_str(), "longer than 255 bytes"),
        ] {
            let e = Reference::parse(text).expect_err(text).to_string();
            assert!(e.contains(word), "{text:?}: {e}");
            assert!(e.chars().all(|c| !c.is_control()), "{e:?}");
        }
    }
}
