//! Keys of others: JWK Set, PEM or secret bytes -> an immutable set in which every key has exactly one algorithm.
//!
//! The algorithm comes from the key and from the configuration, never from a token (RFC 8725 section 3.1). Must not fetch,
//! read a file or keep state; whoever does hands in bytes. A key that cannot be used is left out and listed with the
//! reason: one strange key of a provider must not take away the others.

mod algorithm;
mod jwk;
mod pem;

use std::fmt;

use aws_lc_rs::{digest, hmac, signature};

use crate::units::Secret;

pub use algorithm::Algorithm;

/// Most keys of one set.
pub const MAX_KEYS: usize = 128;
/// Largest JWK Set or PEM file that is read, in bytes.
pub const MAX_BYTES: usize = 512 << 10;
/// Longest `kid` that is looked at, in bytes.
pub const MAX_KID: usize = 256;
/// Smallest RSA modulus that is believed, in bits (RFC 7518 section 3.3).
const MIN_RSA_BITS: usize = 2048;
/// Largest one: verifying costs grow with it.
const MAX_RSA_BITS: usize = 8192;

/// Which content a key set has: equal for equal bytes, algorithms and source, different otherwise. Part of the key of every
/// cache of what was verified.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyGeneration([u8; 16]);

/// Secrets are digested too, so not even the digest is shown.
impl fmt::Debug for KeyGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyGeneration(…)")
    }
}

impl KeyGeneration {
    fn of(source: &str, bytes: &[u8], allowed: &[Algorithm]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(source.as_bytes());
        for algorithm in allowed {
            context.update(algorithm.name().as_bytes());
            context.update(b",");
        }
        context.update(b"\0");
        context.update(bytes);
        let mut generation = [0; 16];
        for (to, from) in generation.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        KeyGeneration(generation)
    }
}

/// Why a whole set is not usable; each message says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignKeysError {
    /// More bytes than [`MAX_BYTES`].
    #[error("larger than 512 KiB")]
    TooLarge,
    /// More keys than [`MAX_KEYS`].
    #[error("more than {MAX_KEYS} keys")]
    TooMany,
    /// Not a JWK Set (RFC 7517 section 5).
    #[error(
        "not a JWK Set: a JSON object with an array \"keys\" is expected, without duplicate members"
    )]
    NotJwks,
    /// Not PEM.
    #[error("not PEM: a block \"BEGIN PUBLIC KEY\" or \"BEGIN CERTIFICATE\" is expected")]
    NotPem,
    /// A private key where a public one belongs.
    #[error(
        "this is a private key, which a verifier must not have: give its public half (openssl pkey -in FILE -pubout)"
    )]
    PrivateKey,
    /// No algorithm is left for any key.
    #[error("none of the keys can be used with the configured algorithms")]
    NoUsableKey,
    /// A secret needs exactly one algorithm.
    #[error("a secret needs exactly one of the algorithms HS256, HS384 and HS512")]
    SecretAlgorithm,
    /// RFC 7518 section 3.2: at least as long as the hash.
    #[error("the secret is too short: {algorithm} needs at least {bytes} random bytes")]
    ShortSecret {
        /// For which algorithm.
        algorithm: Algorithm,
        /// How many bytes it needs.
        bytes: usize,
    },
}

/// Why one key of a set was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    /// `kty` or `crv` is none that we know.
    #[error("its type is not supported")]
    Type,
    /// `use` or `key_ops` say that it is not for verifying.
    #[error("it is not meant for signatures (use, key_ops)")]
    Use,
    /// Its `alg` is unknown, does not fit its type, or is not among the configured ones.
    #[error("its algorithm is not among the configured ones")]
    Algorithm,
    /// It contains its private half, so whoever published it can no longer be believed.
    #[error("it contains its private half")]
    Private,
    /// A symmetric key in a public document.
    #[error("it is symmetric")]
    Symmetric,
    /// RSA outside 2048 to 8192 bits.
    #[error("an RSA key must have 2048 to 8192 bits")]
    Size,
    /// Its members are missing, of the wrong type, or make no key.
    #[error("it is malformed")]
    Malformed,
    /// Another key has the same `kid` and algorithm, so that nobody could tell which is meant.
    #[error("another key has the same id")]
    Duplicate,
}

/// A verifier for exactly one algorithm.
enum Verifier {
    Public(signature::ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

struct ForeignKey {
    /// `None` for keys from PEM and secrets, and where a JWK has none.
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    verifier: Verifier,
}

/// Why no key of the set could be chosen, or what it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// No key of that `kid`.
    UnknownKey,
    /// The token names no key and several would do.
    SeveralKeys,
    /// The key is there, and has another algorithm.
    Algorithm,
    /// The signature is wrong.
    Signature,
}

/// An immutable set of keys of one issuer. Swapped whole.
pub struct ForeignKeys {
    keys: Vec<ForeignKey>,
    skipped: Vec<(Option<String>, Skipped)>,
    generation: KeyGeneration,
}

impl ForeignKeys {
    /// Reads a JWK Set (RFC 7517). Each key is pinned to its `alg`; without one, to the only algorithm of its curve, or for
    /// RSA to the first of `allowed` that RSA can do. Symmetric and private keys are left out, as is what is not for
    /// signatures. An empty set is an error: it would refuse everything.
    pub fn from_jwks(bytes: &[u8], allowed: &[Algorithm]) -> Result<Self, ForeignKeysError> {
        if bytes.len() > MAX_BYTES {
            return Err(ForeignKeysError::TooLarge);
        }
        let read = jwk::read_set(bytes)?;
        if read.len() > MAX_KEYS {
            return Err(ForeignKeysError::TooMany);
        }
        let mut set = Self::empty("jwks", bytes, allowed);
        for item in read {
            let kid = jwk::kid_of(&item);
            match jwk::key_of(item, allowed) {
                Ok(key) if set.has_twin_of(&key) => set.skipped.push((kid, Skipped::Duplicate)),
                Ok(key) => set.keys.push(key),
                Err(reason) => set.skipped.push((kid, reason)),
            }
        }
        set.unless_empty()
    }

    /// Reads public keys (SubjectPublicKeyInfo) and certificates, one or several, in PEM. They have no `kid`, so each
    /// algorithm may occur once.
    pub fn from_pem(bytes: &[u8], allowed: &[Algorithm]) -> Result<Self, ForeignKeysError> {
        if bytes.len() > MAX_BYTES {
            return Err(ForeignKeysError::TooLarge);
        }
        let blocks = pem::public_keys(bytes)?;
        if blocks.len() > MAX_KEYS {
            return Err(ForeignKeysError::TooMany);
        }
        let mut set = Self::empty("pem", bytes, allowed);
        for spki in blocks {
            match pem::key_of(&spki, allowed) {
                Ok(key) if set.has_twin_of(&key) => set.skipped.push((None, Skipped::Duplicate)),
                Ok(key) => set.keys.push(key),
                Err(reason) => set.skipped.push((None, reason)),
            }
        }
        set.unless_empty()
    }

    /// A shared secret; `allowed` must be exactly one of the HMAC algorithms.
    pub fn from_secret(secret: &Secret, allowed: &[Algorithm]) -> Result<Self, ForeignKeysError> {
        let &[algorithm] = allowed else {
            return Err(ForeignKeysError::SecretAlgorithm);
        };
        let hash = algorithm.hmac().ok_or(ForeignKeysError::SecretAlgorithm)?;
        let bytes = hash.digest_algorithm().output_len();
        if secret.expose().len() < bytes {
            return Err(ForeignKeysError::ShortSecret { algorithm, bytes });
        }
        let mut set = Self::empty("secret", secret.expose(), allowed);
        set.keys.push(ForeignKey {
            kid: None,
            algorithm,
            verifier: Verifier::Secret(Box::new(hmac::Key::new(hash, secret.expose()))),
        });
        Ok(set)
    }

    /// Differs whenever the content does.
    pub fn generation(&self) -> KeyGeneration {
        self.generation
    }

    /// How many keys can verify.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key can verify; never so for a set that was read.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// `kid` (where there is one) and algorithm of every key, for people.
    pub fn describe(&self) -> impl Iterator<Item = (Option<&str>, Algorithm)> {
        self.keys
            .iter()
            .map(|key| (key.kid.as_deref(), key.algorithm))
    }

    /// Which keys were left out, and why.
    pub fn skipped(&self) -> &[(Option<String>, Skipped)] {
        &self.skipped
    }

    /// Checks a signature. The key is chosen by `kid`; a token without one is checked when exactly one key has the
    /// algorithm (OpenID Connect Core section 10.1), a key without one serves any token. `named` is only compared with what
    /// the key is for.
    pub(crate) fn verify(
        &self,
        kid: Option<&str>,
        named: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Mismatch> {
        let fits = |key: &&ForeignKey| match (&key.kid, kid) {
            (Some(own), Some(asked)) => **own == *asked,
            (None, _) | (_, None) => true,
        };
        let mut candidates = self.keys.iter().filter(fits);
        if candidates.clone().next().is_none() {
            return Err(Mismatch::UnknownKey);
        }
        let mut of_algorithm = candidates.by_ref().filter(|key| key.algorithm == named);
        let (Some(key), others) = (of_algorithm.next(), of_algorithm.next()) else {
            return Err(Mismatch::Algorithm);
        };
        if others.is_some() {
            return Err(Mismatch::SeveralKeys);
        }
        match &key.verifier {
            Verifier::Public(public) => public.verify_sig(message, signature).is_ok(),
            Verifier::Secret(secret) => hmac::verify(secret, message, signature).is_ok(),
        }
        .then_some(())
        .ok_or(Mismatch::Signature)
    }

    fn empty(source: &str, bytes: &[u8], allowed: &[Algorithm]) -> Self {
        ForeignKeys {
            keys: Vec::new(),
            skipped: Vec::new(),
            generation: KeyGeneration::of(source, bytes, allowed),
        }
    }

    fn has_twin_of(&self, new: &ForeignKey) -> bool {
        self.keys
            .iter()
            .any(|key| key.algorithm == new.algorithm && key.kid == new.kid)
    }

    fn unless_empty(self) -> Result<Self, ForeignKeysError> {
        match self.keys.is_empty() {
            true => Err(ForeignKeysError::NoUsableKey),
            false => Ok(self),
        }
    }
}

impl fmt::Debug for ForeignKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.describe()).finish()
    }
}

/// Whether an RSA modulus has a size that is believed.
fn rsa_size_is_good(bits: usize) -> bool {
    (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits)
}

#[cfg(test)]
mod tests;
