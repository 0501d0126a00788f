//! Compiles the sources of the drive store as the build for schedules.

fn main() {
    println!("cargo:rustc-check-cfg=cfg(schedules)");
    println!("cargo:rustc-cfg=schedules");
    println!("cargo:rerun-if-changed=build.rs");
}
