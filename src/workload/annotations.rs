//! Annotations of orund's own that have an effect.

use std::collections::{BTreeMap, BTreeSet};

/// The annotation, of a Service or of pods, with which connections to their ports begin with the client's address: `v2` of the
/// PROXY protocol.
pub const PROXY_PROTOCOL: &str = "orun.dev/proxy-protocol";

/// The annotation, of a Service or of pods, with which the kernel leads connections to their ports of the host: `kernel`.
pub const PUBLISH: &str = "orun.dev/publish";

/// The annotation of pods that reach less than others: `none` (they have only their loopback interface) or `internal` (they have
/// no route to the outside).
pub const NETWORK: &str = "orun.dev/network";

/// The annotation of pods that says in which networks they are: names with commas between them. Pods reach, and resolve the names
/// of, those that share a network with them. Pods without it are in [`DEFAULT_NETWORK`].
pub const NETWORKS: &str = "orun.dev/networks";
pub const DEFAULT_NETWORK: &str = "default";
/// In how many networks a pod can be, and how long their names can be.
const MOST_NETWORKS: usize = 32;
const LONGEST_NETWORK: usize = 128;

/// The networks of pods with these annotations.
#[must_use]
pub fn networks(annotations: &BTreeMap<String, String>) -> BTreeSet<String> {
    let text = annotations.get(NETWORKS).map_or(DEFAULT_NETWORK, String::as_str);
    text.split(',').map(|name| name.trim().to_owned()).collect()
}

/// Why this cannot be a value of [`NETWORKS`].
#[must_use]
pub fn wrong_networks(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let bad = |name: &&str| name.is_empty() || name.len() > LONGEST_NETWORK || !name.chars().all(plain);
    let mut names = text.split(',').map(str::trim);
    match (names.clone().find(bad), names.nth(MOST_NETWORKS)) {
        (Some(name), _) => Some(format!("{name:?} cannot be the name of a network")),
        (None, Some(_)) => Some(format!("a pod can be in {MOST_NETWORKS} networks at most")),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_names() {
        let of = |text: &str| networks(&[(NETWORKS.to_owned(), text.to_owned())].into());
        assert_eq!(of("back, front,back").into_iter().collect::<Vec<_>>(), ["back", "front"]);
        assert_eq!(networks(&BTreeMap::new()).into_iter().collect::<Vec<_>>(), ["default"]);
        for good in ["back", "shop_back, shop_front", "a.b-c"] {
            assert_eq!(wrong_networks(good), None, "{good}");
        }
        for bad in ["", "a,,b", "a b", "x/y", &"n".repeat(129)] {
            assert!(wrong_networks(bad).unwrap().contains("cannot be the name"), "{bad}");
        }
        assert!(wrong_networks("n,".repeat(33).trim_end_matches(',')).unwrap().contains("32 networks"));
    }
}
