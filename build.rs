//! Lets the binary find a prebuilt `libduckdb` without `LD_LIBRARY_PATH`: the folder it was linked from becomes an rpath.

fn main() {
    println!("cargo:rerun-if-env-changed=DUCKDB_LIB_DIR");
    if std::env::var_os("CARGO_FEATURE_BUNDLED").is_some() {
        return;
    }
    if let Some(folder) = std::env::var_os("DUCKDB_LIB_DIR") {
        let folder = std::path::Path::new(&folder);
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.display());
        // The library of the Python package refers to symbols of the interpreter; see `.ci/env`.
        let stub = folder.join("libpystub.so");
        if stub.exists() {
            println!("cargo:rustc-link-arg=-Wl,--no-as-needed,{},--as-needed", stub.display());
        }
    }
}
