//! Parse, run, exit code; nothing else.

#![forbid(unsafe_code)]

use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The one cryptography provider of this program. It fails only when one was installed before, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    vestibule::cli::main()
}
