//! Annotations of orund's own that have an effect.

/// The annotation, of a Service or of pods, with which connections to their ports begin with the client's address: `v2` of the
/// PROXY protocol.
pub const PROXY_PROTOCOL: &str = "orun.dev/proxy-protocol";

/// The annotation of pods that reach less than others: `none` (they have only their loopback interface) or `internal` (they have
/// no route to the outside).
pub const NETWORK: &str = "orun.dev/network";
