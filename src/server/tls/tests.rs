use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|&name| name.to_owned()).collect()
}

fn write_pair(dir: &Path, name: &str, sans: &[&str]) -> CertificateFiles {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let cert = rcgen::CertificateParams::new(names(sans))
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let files = CertificateFiles {
        cert: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
    };
    std::fs::write(&files.cert, cert.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    files
}

#[test]
fn a_certificate_is_chosen_by_exact_name_then_wildcard_then_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let config = load_at(
        &Settings::Files(vec![
            write_pair(dir.path(), "a", &["a.example"]),
            write_pair(dir.path(), "b", &["*.b.example", "b.example"]),
            write_pair(dir.path(), "c", &["x.b.example"]),
        ]),
        None,
        NOW,
    )
    .unwrap();
    let check = |name: &str, want: usize| assert_eq!(config.resolver.index(name), want, "{name}");
    check("a.example", 0);
    check("b.example", 1);
    check("y.b.example", 1);
    check("x.b.example", 2);
    check("z.y.b.example", 0);
    check("elsewhere.example", 0);
    assert!(config.covers("y.b.example", "b.example"));
    assert!(!config.covers("a.example", "b.example"));
}

#[test]
fn errors_name_the_file_and_the_fault() {
    let dir = tempfile::tempdir().unwrap();
    let a = write_pair(dir.path(), "a", &["a.example"]);
    let b = write_pair(dir.path(), "b", &["b.example"]);
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "nothing here\n").unwrap();
    let check = |cert: &Path, key: &Path, want: &[&str]| {
        let error = load_at(
            &Settings::Files(vec![CertificateFiles {
                cert: cert.to_owned(),
                key: key.to_owned(),
            }]),
            None,
            NOW,
        )
        .unwrap_err()
        .to_string();
        for part in want {
            assert!(error.contains(part), "{error} lacks {part}");
        }
    };
    check(&a.cert, &b.key, &["b.key", "does not belong", "a.pem"]);
    check(&empty, &a.key, &["empty.pem", "no certificate"]);
    check(&a.cert, &empty, &["empty.pem", "no private key"]);
    check(
        &dir.path().join("gone.pem"),
        &a.key,
        &["gone.pem", "No such file"],
    );
}

#[test]
fn an_expired_certificate_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let files = write_pair(dir.path(), "a", &["a.example"]);
    let far = Timestamp::from_secs(70_000_000_000);
    let config = load_at(&Settings::Files(vec![files]), None, far).unwrap();
    assert!(config.covers("a.example", "a.example"));
}

#[test]
fn a_self_signed_certificate_survives_a_restart_until_names_change_or_it_ends() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let leaf = |list: &[&str], now| {
        let settings = Settings::SelfSigned { names: names(list) };
        let config = load_at(&settings, Some(dir.path()), now).unwrap();
        config.resolver.keys[0].cert[0].to_vec()
    };
    let first = leaf(&["app.example"], NOW);
    assert_eq!(leaf(&["app.example"], NOW), first);
    assert_eq!(leaf(&["APP.example", "localhost"], NOW), first);
    let mode = std::fs::metadata(dir.path().join("self-signed.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let other = leaf(&["other.example"], NOW);
    assert_ne!(other, first);
    let later = NOW.plus(std::time::Duration::from_secs(398 * 86_400));
    assert_ne!(leaf(&["other.example"], later), other);
}

#[test]
fn only_tls_1_2_and_1_3_with_forward_secrecy_are_offered() {
    let provider = provider();
    assert_eq!(
        provider.cipher_suites[0].suite(),
        rustls::CipherSuite::TLS13_AES_128_GCM_SHA256
    );
    assert_eq!(
        provider.kx_groups[0].name(),
        rustls::NamedGroup::X25519MLKEM768
    );
    let config = load_at(&Settings::SelfSigned { names: vec![] }, None, NOW).unwrap();
    assert_eq!(config.rustls.max_early_data_size, 0);
}
