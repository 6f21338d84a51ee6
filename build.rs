//! Lets the binary find a prebuilt `libduckdb` without `LD_LIBRARY_PATH`: beside it, where packages put it
//! (`.ci/release`), then in the folder it was linked from.

fn main() {
    println!("cargo:rerun-if-env-changed=DUCKDB_LIB_DIR");
    if std::env::var_os("CARGO_FEATURE_BUNDLED").is_some() {
        return;
    }
    if let Some(folder) = std::env::var_os("DUCKDB_LIB_DIR") {
        let folder = std::path::Path::new(&folder);
        // As one text: packaging cuts it off after the first folder.
        println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/groupcast:{}", folder.display());
        // The library of the Python package refers to symbols of the interpreter; see `.ci/env`.
        let stub = folder.join("libpystub.so");
        if stub.exists() {
            println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
            println!("cargo:rustc-link-arg={}", stub.display());
            println!("cargo:rustc-link-arg=-Wl,--as-needed");
        }
    }
}
