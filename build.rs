//! The entry point of `orun` on x86-64: see `src/sys/early.rs`. Only where the compiler optimizes: without that it
//! calls memcpy(3) for what are two moves, and the C library is not ready.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |key: &str, value: &str| std::env::var(key).is_ok_and(|v| v == value);
    if !is("OPT_LEVEL", "0") && is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo::rustc-link-arg-bin=orun=-Wl,--entry=orun_entry");
    }
}
