//! The supervisor on the real kernel, as root: containers that end, do not end, fork, run out of memory; a supervisor
//! or a keeper that is killed; disks that are full. Every test has directories and cgroups of its own.

mod apart;
mod api;
mod attach;
mod attacks;
mod build;
mod client;
mod compose;
mod crash;
mod crons;
mod daemon;
mod drain;
mod health;
mod images;
mod kernel;
mod killed;
mod kinds;
mod life;
mod lossless;
mod measure;
mod names;
mod network;
mod objects;
mod pods;
mod ports;
mod roles;
mod rollout;
mod rootless;
mod run;
mod secure;
mod service;
mod shared;
#[path = "../common/skip.rs"]
mod skip;
mod soak;
mod soak_audit;
mod status;
mod storage;
mod voting;
