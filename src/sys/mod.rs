//! The only `unsafe` code: one file per kernel area, one function per system call, typed in, [`Errno`] out.
//!
//! [`Errno`]: crate::error::Errno
#![allow(unsafe_code)]
