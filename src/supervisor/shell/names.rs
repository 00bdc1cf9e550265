//! The names that containers have on the host.

use crate::supervisor::core::ids::Key;

/// The annotation of a container that names the revision it was made from.
pub const REVISION: &str = "orun.dev/revision";
/// The annotation of a container with what its image says and its configuration does not, as JSON.
pub const IMAGE: &str = "orun.dev/image";

/// The id of a container: the replica's name for people, and the key, from which a restarted supervisor knows it again:
/// `web-0.w1.s0.r3.c0.i7`.
pub fn container_id(workload: &str, key: Key) -> String {
    format!("{}.{key}", replica(workload, key.slot))
}

/// The name of a replica: `web-0`.
pub fn replica(workload: &str, slot: u32) -> String {
    format!("{workload}-{slot}")
}

/// Variables of every process of a replica, besides those of the bundle and the workload.
pub fn environment(workload: &str, slot: u32) -> [String; 2] {
    [format!("ORUN_WORKLOAD={workload}"), format!("ORUN_REPLICA_INDEX={slot}")]
}

/// The key in a container's id; None when another made it.
pub fn key_of(id: &str) -> Option<Key> {
    // The key has four dots of its own; a workload's name may have any number.
    let mut dots = id.rmatch_indices('.').map(|(at, _)| at);
    id.get(dots.nth(4)? + 1..)?.parse().ok()
}

/// By what name the keeper has a container's output.
pub fn pipe_name(key: Key, n: usize) -> String {
    format!("output:{key}:{n}")
}

/// By what name the keeper has a process that is not its child.
pub fn process_name(key: Key) -> String {
    format!("process:{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_again_in_the_id() {
        let key: Key = "w1.s0.r3.c2.i7".parse().unwrap();
        let id = container_id("my.web", key);
        assert_eq!(id, "my.web-0.w1.s0.r3.c2.i7");
        assert_eq!(key_of(&id), Some(key));
        assert_eq!(key_of("web-0"), None);
        assert_eq!(key_of("w1.s0.r3.c2.i7"), None);
        assert_eq!(key_of("x.w1.s0.r3.c2.i-7"), None);
    }
}
