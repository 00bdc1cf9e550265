//! Images: their names, their files on this host, and their containers. [`mod@reference`], [`configuration`] and [`bundle`] are
//! pure. What comes from outside is read by children of `orund` only ([`child`]).

pub(crate) mod bundle;
pub(crate) mod child;
pub(crate) mod configuration;
pub(crate) mod fetch;
pub(crate) mod healthcheck;
mod local;
pub(crate) mod manifest;
mod progress;
pub(crate) mod reference;
pub(crate) mod registry;
pub(crate) mod rootfs;
pub mod store;
mod stream;
pub(crate) mod tar;
pub(crate) mod unpack;
pub(crate) mod volume;

pub use stream::digest_of;
