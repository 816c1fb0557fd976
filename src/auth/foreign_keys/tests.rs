use super::*;
use crate::auth::test_support::foreign::{Maker, jwks};

use Algorithm as A;

fn named(keys: &ForeignKeys) -> Vec<(Option<&str>, Algorithm)> {
    keys.describe().collect()
}

fn skipped(keys: &ForeignKeys) -> Vec<Skipped> {
    keys.skipped().iter().map(|(_, why)| *why).collect()
}

/// One key that works beside whatever is tested, so that the set is not empty.
fn beside(items: &[String]) -> ForeignKeys {
    let good = Maker::new(A::EdDSA).jwk(r#""kid":"good""#);
    let all: Vec<String> = [vec![good], items.to_vec()].concat();
    let keys = ForeignKeys::from_jwks(&jwks(&all), A::ASYMMETRIC).unwrap();
    assert_eq!(named(&keys)[0], (Some("good"), A::EdDSA));
    keys
}

#[test]
fn every_algorithm_verifies_its_own_signature_and_no_other() {
    for &algorithm in A::ASYMMETRIC {
        let maker = Maker::new(algorithm);
        let more = format!(r#""kid":"k","alg":"{algorithm}","use":"sig","x5c":["AA"]"#);
        let from_jwk = ForeignKeys::from_jwks(&jwks(&[maker.jwk(&more)]), A::ASYMMETRIC).unwrap();
        let from_pem = ForeignKeys::from_pem(maker.pem().as_bytes(), &[algorithm]).unwrap();
        assert_eq!(named(&from_jwk), [(Some("k"), algorithm)]);
        assert_eq!(named(&from_pem), [(None, algorithm)]);
        let signature = maker.sign(b"message");
        for keys in [&from_jwk, &from_pem] {
            let verify = |named, message: &[u8], signature: &[u8]| {
                keys.verify(Some("k"), named, message, signature)
            };
            assert_eq!(verify(algorithm, b"message", &signature), Ok(()));
            let mut wrong = signature.clone();
            wrong[7] ^= 1;
            for (message, signature) in [
                (&b"messagf"[..], &signature[..]),
                (b"message", &wrong),
                (b"message", b""),
                (b"message", &vec![0; signature.len()]),
                (b"message", &signature[..signature.len() - 1]),
            ] {
                let refused = verify(algorithm, message, signature);
                assert_eq!(refused, Err(Mismatch::Signature), "{algorithm}");
            }
            for &other in A::ASYMMETRIC.iter().chain(A::SYMMETRIC) {
                if other != algorithm {
                    let refused = verify(other, b"message", &signature);
                    assert_eq!(refused, Err(Mismatch::Algorithm), "{algorithm} {other}");
                }
            }
        }
    }
}

#[test]
fn names_of_algorithms_are_exact() {
    for &algorithm in A::ASYMMETRIC.iter().chain(A::SYMMETRIC) {
        assert_eq!(A::parse(algorithm.name()), Some(algorithm));
    }
    assert_eq!(A::parse("Ed25519"), Some(A::EdDSA));
    for bad in [
        "none", "None", "NONE", "nOnE", "", "rs256", "RS1", "Ed448", " RS256",
    ] {
        assert_eq!(A::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_key_is_chosen_by_its_id_and_never_guessed() {
    let (one, two, ec) = (
        Maker::new(A::EdDSA),
        Maker::new(A::EdDSA),
        Maker::new(A::ES256),
    );
    let set = jwks(&[
        one.jwk(r#""kid":"1""#),
        two.jwk(r#""kid":"2""#),
        ec.jwk(r#""kid":"3""#),
    ]);
    let keys = ForeignKeys::from_jwks(&set, A::ASYMMETRIC).unwrap();
    let by_two = two.sign(b"m");
    let verify = |kid, algorithm, signature: &[u8]| keys.verify(kid, algorithm, b"m", signature);
    assert_eq!(verify(Some("2"), A::EdDSA, &by_two), Ok(()));
    assert_eq!(
        verify(Some("1"), A::EdDSA, &by_two),
        Err(Mismatch::Signature)
    );
    assert_eq!(
        verify(Some("4"), A::EdDSA, &by_two),
        Err(Mismatch::UnknownKey)
    );
    assert_eq!(verify(None, A::EdDSA, &by_two), Err(Mismatch::SeveralKeys));
    assert_eq!(verify(None, A::ES256, &ec.sign(b"m")), Ok(()));
    assert_eq!(verify(None, A::RS256, &by_two), Err(Mismatch::Algorithm));
}

#[test]
fn an_rsa_key_without_alg_is_for_the_first_allowed_algorithm() {
    let set = jwks(&[Maker::new(A::RS256).jwk("")]);
    let algorithm = |allowed: &[Algorithm]| {
        let keys = ForeignKeys::from_jwks(&set, allowed);
        keys.map(|keys| named(&keys)[0].1)
    };
    assert_eq!(algorithm(A::ASYMMETRIC), Ok(A::RS256));
    assert_eq!(algorithm(&[A::ES256, A::PS384, A::RS256]), Ok(A::PS384));
    assert_eq!(algorithm(&[A::ES256]), Err(ForeignKeysError::NoUsableKey));
    let pem = Maker::new(A::RS256).pem();
    let keys = ForeignKeys::from_pem(pem.as_bytes(), &[A::ES256, A::PS512, A::RS256]).unwrap();
    assert_eq!(named(&keys), [(None, A::PS512)]);
}

#[test]
fn what_cannot_be_used_is_left_out_with_its_reason() {
    let check = |item: String, want: Skipped| {
        assert_eq!(
            skipped(&beside(std::slice::from_ref(&item))),
            [want],
            "{item}"
        );
    };
    let rsa = Maker::new(A::RS256);
    let ec = Maker::new(A::ES256);
    let ed = Maker::new(A::EdDSA);
    check(rsa.jwk(r#""use":"enc""#), Skipped::Use);
    check(rsa.jwk(r#""key_ops":["encrypt"]"#), Skipped::Use);
    check(rsa.jwk(r#""use":1"#), Skipped::Malformed);
    check(rsa.jwk(r#""alg":"RSA-OAEP""#), Skipped::Algorithm);
    check(rsa.jwk(r#""alg":"ES256""#), Skipped::Algorithm);
    check(rsa.jwk(r#""alg":"HS256""#), Skipped::Algorithm);
    check(ec.jwk(r#""alg":"RS256""#), Skipped::Algorithm);
    check(rsa.jwk(r#""alg":"none""#), Skipped::Algorithm);
    check(rsa.jwk(r#""alg":1"#), Skipped::Malformed);
    check(rsa.jwk(r#""d":"AQAB""#), Skipped::Private);
    check(ec.jwk(r#""d":"AQAB""#), Skipped::Private);
    check(rsa.jwk(r#""kid":5"#), Skipped::Malformed);
    check(rsa.jwk(r#""kid":"""#), Skipped::Malformed);
    check(
        rsa.jwk(&format!(r#""kid":"{}""#, "k".repeat(257))),
        Skipped::Malformed,
    );
    check(
        Maker::new(A::HS256).jwk(r#""alg":"HS256""#),
        Skipped::Symmetric,
    );
    check(
        r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#.to_owned(),
        Skipped::Type,
    );
    check(
        r#"{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"}"#.to_owned(),
        Skipped::Algorithm,
    );
    check(r#"{"kty":"AKP","pub":"AA"}"#.to_owned(), Skipped::Type);
    check(
        r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#.to_owned(),
        Skipped::Type,
    );
    check(
        r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.to_owned(),
        Skipped::Malformed,
    );
    check(
        r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.to_owned(),
        Skipped::Size,
    );
    check(r#"{"kty":"RSA","e":"AQAB"}"#.to_owned(), Skipped::Malformed);
    check("5".to_owned(), Skipped::Malformed);
    check("{}".to_owned(), Skipped::Malformed);
    // A point that is not on the curve.
    let zeros = format!(
        r#"{{"kty":"EC","crv":"P-256","x":"{0}","y":"{0}"}}"#,
        "A".repeat(43)
    );
    check(zeros, Skipped::Malformed);
    // Exponents that make no RSA key.
    for e in ["AQ", "Ag", "AA", "", "AQAAAAE"] {
        check(rsa.jwk("").replace("AQAB", e), Skipped::Malformed);
    }
    check(
        ed.jwk("").replace(r#""x":""#, r#""x":"A"#),
        Skipped::Malformed,
    );
    let twin = beside(&[Maker::new(A::EdDSA).jwk(r#""kid":"good""#)]);
    assert_eq!(skipped(&twin), [Skipped::Duplicate]);
    assert_eq!(twin.len(), 1);
}

#[test]
fn small_rsa_keys_are_no_keys() {
    // 1024 bits: the upper half of a modulus. Whether it is a product of primes is not looked at.
    let set = |bytes: &[u8]| {
        use base64::Engine as _;
        let n = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        jwks(&[format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"}}"#)])
    };
    let usable = |bytes: &[u8]| ForeignKeys::from_jwks(&set(bytes), A::ASYMMETRIC).is_ok();
    assert!(!usable(&[0xff; 128]));
    assert!(
        !usable(&[&[0x7f_u8][..], &[0xff; 255]].concat()),
        "2047 bits"
    );
    assert!(
        usable(&[&[0x80_u8][..], &[0xff; 255]].concat()),
        "2048 bits"
    );
    assert!(
        usable(&[&[0, 0x80_u8][..], &[0xff; 255]].concat()),
        "a sign byte"
    );
    assert!(!usable(&[0xff; 1025]), "8200 bits");
}

#[test]
fn a_set_is_a_strict_document_of_bounded_size() {
    let read = |text: &str| ForeignKeys::from_jwks(text.as_bytes(), A::ASYMMETRIC).map(|_| ());
    use ForeignKeysError as E;
    assert_eq!(read(""), Err(E::NotJwks));
    assert_eq!(read("[]"), Err(E::NotJwks));
    assert_eq!(read("<html>"), Err(E::NotJwks));
    assert_eq!(read(r#"{"keys":{}}"#), Err(E::NotJwks));
    assert_eq!(read(r#"{"keys":[],"keys":[]}"#), Err(E::NotJwks));
    assert_eq!(read(r#"{"keys":[]}"#), Err(E::NoUsableKey));
    assert_eq!(read(&"[".repeat(10_000)), Err(E::NotJwks));
    assert_eq!(read(&" ".repeat(MAX_BYTES + 1)), Err(E::TooLarge));
    let many = vec!["{}"; MAX_KEYS + 1].join(",");
    assert_eq!(read(&format!(r#"{{"keys":[{many}]}}"#)), Err(E::TooMany));
}

#[test]
fn pem_holds_public_keys_and_certificates() {
    let (ed, ec) = (Maker::new(A::EdDSA), Maker::new(A::ES384));
    let both = format!("some words\n{}\n{}", ed.pem(), ec.pem());
    let keys = ForeignKeys::from_pem(both.as_bytes(), A::ASYMMETRIC).unwrap();
    assert_eq!(named(&keys), [(None, A::EdDSA), (None, A::ES384)]);
    assert_eq!(
        keys.verify(Some("any"), A::EdDSA, b"m", &ed.sign(b"m")),
        Ok(())
    );

    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["issuer".to_owned()])
        .unwrap()
        .self_signed(&pair)
        .unwrap();
    let keys = ForeignKeys::from_pem(certificate.pem().as_bytes(), A::ASYMMETRIC).unwrap();
    assert_eq!(named(&keys), [(None, A::ES256)]);

    use ForeignKeysError as E;
    let refused = |text: &str| ForeignKeys::from_pem(text.as_bytes(), A::ASYMMETRIC).unwrap_err();
    assert_eq!(refused(&pair.serialize_pem()), E::PrivateKey);
    assert_eq!(refused("nothing"), E::NotPem);
    assert_eq!(refused(""), E::NotPem);
    assert_eq!(
        ForeignKeys::from_pem(ed.pem().as_bytes(), &[A::RS256]).unwrap_err(),
        E::NoUsableKey
    );
}

#[test]
fn a_secret_has_one_algorithm_and_the_length_of_its_hash() {
    let secret = |bytes: usize, allowed: &[Algorithm]| {
        ForeignKeys::from_secret(&Secret::new(vec![7; bytes]), allowed).map(|_| ())
    };
    use ForeignKeysError as E;
    for (algorithm, bytes) in [(A::HS256, 32), (A::HS384, 48), (A::HS512, 64)] {
        assert_eq!(secret(bytes, &[algorithm]), Ok(()));
        let short = Err(E::ShortSecret { algorithm, bytes });
        assert_eq!(secret(bytes - 1, &[algorithm]), short);
    }
    assert_eq!(secret(64, &[]), Err(E::SecretAlgorithm));
    assert_eq!(secret(64, &[A::HS256, A::HS512]), Err(E::SecretAlgorithm));
    assert_eq!(secret(64, &[A::RS256]), Err(E::SecretAlgorithm));
    let maker = Maker::new(A::HS256);
    let Maker::Secret(bytes, _) = &maker else {
        unreachable!()
    };
    let keys = ForeignKeys::from_secret(&Secret::new(bytes.clone()), &[A::HS256]).unwrap();
    assert_eq!(keys.verify(None, A::HS256, b"m", &maker.sign(b"m")), Ok(()));
    let refused = keys.verify(None, A::HS256, b"n", &maker.sign(b"m"));
    assert_eq!(refused, Err(Mismatch::Signature));
}

#[test]
fn the_generation_follows_the_content() {
    let (one, two) = (Maker::new(A::EdDSA).jwk(""), Maker::new(A::EdDSA).jwk(""));
    let generation = |item: &String, allowed| {
        let keys = ForeignKeys::from_jwks(&jwks(std::slice::from_ref(item)), allowed);
        keys.unwrap().generation()
    };
    assert_eq!(
        generation(&one, A::ASYMMETRIC),
        generation(&one, A::ASYMMETRIC)
    );
    assert_ne!(
        generation(&one, A::ASYMMETRIC),
        generation(&two, A::ASYMMETRIC)
    );
    assert_ne!(
        generation(&one, A::ASYMMETRIC),
        generation(&one, &[A::EdDSA])
    );
    let secret = |bytes: &[u8]| {
        let keys = ForeignKeys::from_secret(&Secret::new(bytes), &[A::HS256]);
        keys.unwrap().generation()
    };
    assert_ne!(secret(&[1; 32]), secret(&[2; 32]));
}
