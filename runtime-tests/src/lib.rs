//! A harness that examines any OCI runtime on a real Linux kernel.
//!
//! The runtime is driven through its command line only. Each case runs in a sandbox of its own (mount, pid, network,
//! ipc and uts namespaces), a static probe inside the container reports what it really sees, and after the case
//! nothing may be left: no process, mount, cgroup, network namespace or state.
//!
//! | module | what it holds |
//! |---|---|
//! | [`sys`] | the only `unsafe`: system calls that `nix` has no safe form of |
//! | [`check`] | what a case returns, and the comparisons it is written with |
//! | [`proc`] | `/proc` as data: descendants, mounts, namespaces |
//! | [`command`] | running a program with a deadline |
//! | [`runtime`] | the runtime under test |
//! | [`bundle`] | a bundle: root file system and configuration |
//! | [`report`] | what the probe saw |
//! | [`case`] | the environment of one case: [`case::T`] |
//! | [`container`] | a container that a case has created |
//! | [`cgroup`], [`console`], [`notify`] | the host's side of cgroups, terminals and seccomp listeners |
//! | [`stamps`] | programs that report when they run |
//! | [`killat`] | killing a program at the system call of one's choice |
//! | [`odd`] | what a caller may have set before it becomes the runtime |
//! | [`leaks`] | snapshots before and after |
//! | [`matrix`], [`runner`], [`table`] | all cases, running them, and showing the result |
//! | [`differential`] | changes of documents on several runtimes, compared |
//! | [`ledger`] | the ledgers in `vendor-specs/` |
//! | [`cases`] | the cases themselves, one file per area |

pub mod bundle;
pub mod case;
pub mod cases;
pub mod cgroup;
pub mod check;
pub mod command;
pub mod console;
pub mod container;
pub mod differential;
pub mod fields;
pub mod killat;
pub mod leaks;
pub mod ledger;
pub mod matrix;
pub mod mutants;
pub mod notify;
pub mod null;
pub mod odd;
pub mod proc;
pub mod readers;
pub mod report;
pub mod runner;
pub mod runtime;
pub mod sandbox;
pub mod stamps;
pub mod sys;
pub mod table;
