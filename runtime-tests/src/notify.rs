//! The host's side of a seccomp listener.
