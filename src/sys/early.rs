//! Work of orun before the C library has set itself up (x86-64).
//!
//! A command that enters a container runs again from a read-only mount (see `kernel::protect`). Done here, the first
//! of the two starts costs neither the relocations of a position-independent program nor the set-up of the C library:
//! about fifteen system calls and thirty page faults less. Where anything fails, nothing has happened, and
//! `kernel::protect` does the same later, with errors.
//!
//! Nothing here may touch data that needs a relocation, thread-local storage, or a function of the C library, whose
//! memcpy(3) and the like are chosen at run time: only integers, bytes and system calls.

use super::mount::OPEN_TREE_ATTR;
use std::arch::asm;
use std::sync::atomic::{AtomicBool, Ordering};

/// The program's entry point (see build.rs): calls [`run_from_readonly_mount`] with the stack as the kernel made it,
/// then the C library's `_start` with all that it expects.
#[doc(hidden)]
#[macro_export]
macro_rules! early_entry {
    () => {
        std::arch::global_asm!(
            ".globl orun_entry",
            "orun_entry:",
            "mov r12, rsp",
            "mov r13, rdx",
            "xor ebp, ebp",
            "mov rdi, rsp",
            "and rsp, -16",
            "call {early}",
            "mov rsp, r12",
            "mov rdx, r13",
            "jmp _start",
            early = sym $crate::sys::early::run_from_readonly_mount,
        );
    };
}

static PROTECTED: AtomicBool = AtomicBool::new(false);

/// This process was found to run from a read-only mount.
pub fn is_protected() -> bool {
    PROTECTED.load(Ordering::Relaxed)
}

/// Starts the program again from a read-only copy of its mount when a word of the command line is that of a command
/// which enters containers. Returns when it runs from there, or cannot.
///
/// # Safety
/// `stack` is the stack pointer with which the kernel starts a program: the number of arguments, the arguments, null,
/// the environment, null.
pub unsafe extern "C" fn run_from_readonly_mount(stack: *const usize) {
    // SAFETY: of the caller.
    let (count, argv) = unsafe { (*stack, stack.add(1)) };
    let mut enters = false;
    let mut i = 1;
    while i < count {
        // SAFETY: argv holds `count` C strings.
        let word = unsafe { *argv.add(i) } as *const u8;
        // No array of names: it would hold addresses that are not relocated yet.
        // SAFETY: word is a C string.
        enters |= unsafe {
            is(word, b"run\0") || is(word, b"create\0") || is(word, b"exec\0") || is(word, b"restore\0")
        };
        i += 1;
    }
    if enters {
        // SAFETY: argv is followed by null and the environment.
        unsafe { protect(argv, argv.add(count + 1)) }
    }
}

/// Whether the C string `word` is `name`, which ends with 0.
unsafe fn is(word: *const u8, name: &[u8]) -> bool {
    let mut i = 0;
    while i < name.len() {
        // SAFETY: all bytes up to here were equal, so that word is at least as long.
        if unsafe { *word.add(i) != *name.as_ptr().add(i) } {
            return false;
        }
        i += 1;
    }
    true
}

unsafe fn protect(argv: *const usize, env: *const usize) {
    let this = c"/proc/self/exe".as_ptr() as usize;
    // struct statfs of x86-64 is fifteen words, the eleventh of which are the mount's flags.
    let mut fs = [0usize; 15];
    // SAFETY: both live; fs has the size that the kernel fills.
    if unsafe { call(libc::SYS_statfs, [this, fs.as_mut_ptr() as usize, 0, 0, 0]) } != 0 {
        return;
    }
    if fs[10] & libc::ST_RDONLY as usize != 0 {
        PROTECTED.store(true, Ordering::Relaxed);
        return;
    }
    let flags = (libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC) as usize;
    // struct mount_attr: set, clear, propagation, user namespace.
    let attr = [libc::MOUNT_ATTR_RDONLY as usize, 0, 0, 0];
    let here = libc::AT_FDCWD as usize;
    // SAFETY: the path is a C string; attr is read for its 32 bytes.
    let mut tree = unsafe { call(OPEN_TREE_ATTR, [here, this, flags, attr.as_ptr() as usize, 32]) };
    let readonly = tree >= 0;
    if !readonly {
        // SAFETY: the path is a C string.
        tree = unsafe { call(libc::SYS_open_tree, [here, this, flags, 0, 0]) };
    }
    if tree < 0 {
        return;
    }
    let (tree, empty) = (tree as usize, c"".as_ptr() as usize);
    let at = libc::AT_EMPTY_PATH as usize;
    // SAFETY: as above; argv and env end with null. execveat returns only on failure.
    unsafe {
        if readonly || call(libc::SYS_mount_setattr, [tree, empty, at, attr.as_ptr() as usize, 32]) == 0 {
            call(libc::SYS_execveat, [tree, empty, argv as usize, env as usize, at]);
        }
        call(libc::SYS_close, [tree, 0, 0, 0, 0]);
    }
}

/// syscall(2) without errno, which is thread-local: a negative result is the error.
unsafe fn call(number: i64, args: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: the registers of the system call interface of x86-64; the rest is for the caller to see to.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3], in("r8") args[4],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}
