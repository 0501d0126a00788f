//! Compiles the sources of the metadata plane as the build for mutants.

fn main() {
    println!("cargo:rustc-check-cfg=cfg(mutants)");
    println!("cargo:rustc-cfg=mutants");
    println!("cargo:rerun-if-changed=build.rs");
}
