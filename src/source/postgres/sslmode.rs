//! `sslmode`, as libpq has it.

/// How a connection is encrypted and the server's identity checked: libpq's levels, with libpq's meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// No encryption.
    Disable,
    /// Encryption if the server has it, without checks.
    Prefer,
    /// Encryption, without checks; with a `ca_file`, the same as `verify-ca`.
    Require,
    /// Encryption, and a certificate signed by an authority in `ca_file`, for whatever host.
    VerifyCa,
    /// Encryption, and a certificate for this host signed by an authority in `ca_file` or known to the system.
    VerifyFull,
}
