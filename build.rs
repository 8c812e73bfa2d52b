//! With the feature `cuda`: compiles the GPU's kernels to PTX by nvcc, which candle's own kernels need as well.

use std::{env, path::PathBuf, process::Command};

/// Every GPU since Turing runs it: the driver compiles it further, for the GPU that is there.
const ARCHITECTURE: &str = "compute_75";

fn main() {
    println!("cargo:rerun-if-changed=src/kernels/cuda");
    println!("cargo:rerun-if-env-changed=NVCC");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let nvcc = env::var_os("NVCC").unwrap_or_else(|| "nvcc".into());
    let ptx = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("kernels.ptx");
    let status = Command::new(&nvcc)
        .args(["-ptx", "-O3", &format!("-arch={ARCHITECTURE}"), "-o"])
        .arg(&ptx)
        .arg("src/kernels/cuda/kernels.cu")
        .status()
        .unwrap_or_else(|e| panic!("{}: {e}: install the CUDA toolkit, or name its compiler by NVCC", nvcc.display()));
    assert!(status.success(), "{} failed on src/kernels/cuda/kernels.cu: {status}", nvcc.display());
}
