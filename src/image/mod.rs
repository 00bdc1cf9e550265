//! Images: their names, their files on this host, and what becomes of them. [`reference`], [`configuration`] and [`bundle`] are
//! pure. What comes from outside is read by children of `orund` only ([`child`]).

pub mod bundle;
pub mod child;
pub mod configuration;
pub mod fetch;
mod local;
pub mod manifest;
mod progress;
pub mod reference;
pub mod registry;
pub mod rootfs;
pub mod store;
mod stream;
mod tar;
pub mod unpack;
pub mod volume;

pub use stream::digest_of;
