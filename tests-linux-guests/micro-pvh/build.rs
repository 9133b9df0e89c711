//! Passes the linker script when the bare-metal image is built; host builds need none.

fn main() {
    println!("cargo:rerun-if-changed=link.ld");
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let dir = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets the manifest folder");
    for arg in [
        &format!("-T{dir}/link.ld"),
        "--no-pie",
        "-zmax-page-size=4096",
        "-znognustack",
        "--build-id=none",
    ] {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
}
