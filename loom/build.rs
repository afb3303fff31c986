//! Sets the cfg of the loom tests for this package alone, so that no other crate is built again.

fn main() {
    println!("cargo::rustc-cfg=seawall_loom");
}
